/** Decoders of a model's files: what a user fetched somewhere. */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { openChatTemplate } from '../../node/data/chat-template.js';
import { tokeniseRecord } from '../../node/data/tokenise.js';
import { openTokenizer, readTokenizerConfig } from '../../node/data/tokenizer.js';
import { UserError } from '../../node/errors.js';
import { readModelConfig } from '../../node/model/config.js';
import {
  decodeManifest,
  encodeManifest,
  isAsExpected,
  versionOf,
} from '../../node/model/packed/manifest.js';
import { readPeftAdapter } from '../../node/model/peft.js';
import { findBitsandbytes } from '../../node/model/quantised/bitsandbytes.js';
import { openGguf } from '../../node/model/quantised/gguf.js';
import { readSafetensorsHeader, readTensorF32 } from '../../node/model/safetensors.js';
import { openWeights } from '../../node/model/weight-index.js';
import { REFERENCE_CASES, referenceCase, ROOT, TINY_BASE } from '../unit/model/fixtures.js';
import { fileOf, scratch } from './files.js';
import type { FuzzTarget, FuzzTargets } from './oracle.js';
import { SMALL_TOKENIZERS } from './small-tokenizers.js';

const json = (value: unknown): Uint8Array => Buffer.from(JSON.stringify(value));

/** A file of a few tensors, as writeSafetensors lays it out. */
function safetensorsOf(header: object, bytes: number): Uint8Array {
  const text = json(header);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  return Buffer.concat([length, text, new Uint8Array(bytes)]);
}

const small = safetensorsOf(
  {
    __metadata__: { format: 'pt' },
    a: { dtype: 'F32', shape: [2, 3], data_offsets: [0, 24] },
    b: { dtype: 'BF16', shape: [4], data_offsets: [24, 32] },
    c: { dtype: 'F16', shape: [], data_offsets: [32, 34] },
    d: { dtype: 'I64', shape: [0], data_offsets: [34, 34] },
  },
  34,
);

const safetensors: FuzzTarget = {
  seeds: [small, safetensorsOf({}, 0)],
  refusals: [UserError],
  run: async (bytes) => {
    const { tensors } = await readSafetensorsHeader(fileOf('model.safetensors', bytes));
    for (const tensor of tensors) {
      if (!['F32', 'F16', 'BF16'].includes(tensor.dtype)) continue;
      const values = await readTensorF32(tensor);
      assert.equal(
        values.length,
        tensor.shape.reduce((product, n) => product * n, 1),
      );
    }
    assert.equal(new Set(tensors.map(({ name }) => name)).size, tensors.length);
  },
};

/** Index and one shard, in a directory without model.safetensors. */
const shards: FuzzTarget = {
  seeds: [
    json({ metadata: { total_size: 34 }, weight_map: { a: 's.safetensors', b: 's.safetensors' } }),
  ],
  refusals: [UserError],
  run: async (bytes) => {
    mkdirSync(join(scratch, 'shards'), { recursive: true });
    const index = fileOf('shards/model.safetensors.index.json', bytes);
    fileOf('shards/s.safetensors', small);
    for (const { file } of (await openWeights(dirname(index))).values()) {
      assert.equal(dirname(file), dirname(index));
    }
  },
};

const config: FuzzTarget = {
  seeds: [
    readFileSync(join(TINY_BASE, 'config.json')),
    ...REFERENCE_CASES.map((name) =>
      readFileSync(join(referenceCase(name), 'base', 'config.json')),
    ),
  ],
  refusals: [UserError],
  run: (bytes) => {
    const read = readModelConfig(bytes, 'config.json');
    assert.ok(read.layers >= 1 && read.heads >= 1 && read.vocabSize >= 2);
  },
};

const adapter = join(referenceCase('llama-gqa-tied'), 'adapter');

/** The config of an adapter beside real weights, and weights beside a real config. */
const adapterConfig: FuzzTarget = {
  seeds: [readFileSync(join(adapter, 'adapter_config.json'))],
  refusals: [UserError],
  run: async (bytes) => {
    mkdirSync(join(scratch, 'adapter'), { recursive: true });
    fileOf(
      'adapter/adapter_model.safetensors',
      readFileSync(join(adapter, 'adapter_model.safetensors')),
    );
    const path = fileOf('adapter/adapter_config.json', bytes);
    const { theta } = await readPeftAdapter(dirname(path));
    assert.ok(theta.length > 0);
  },
};

const adapterWeights: FuzzTarget = {
  seeds: [
    safetensorsOf(
      {
        'base_model.model.q.lora_A.weight': { dtype: 'F32', shape: [2, 3], data_offsets: [0, 24] },
        'base_model.model.q.lora_B.weight': { dtype: 'F32', shape: [1, 2], data_offsets: [24, 32] },
      },
      32,
    ),
  ],
  refusals: [UserError],
  run: async (bytes) => {
    mkdirSync(join(scratch, 'weights'), { recursive: true });
    const fields = { peft_type: 'LORA', r: 2, lora_alpha: 4, target_modules: ['q'] };
    fileOf('weights/adapter_config.json', json(fields));
    const path = fileOf('weights/adapter_model.safetensors', bytes);
    const { theta, modules } = await readPeftAdapter(dirname(path));
    const sizes = modules.map(({ inFeatures, outFeatures }) => 2 * (inFeatures + outFeatures));
    assert.equal(
      theta.length,
      sizes.reduce((sum, size) => sum + size, 0),
    );
  },
};

const MODEL = { vocabSize: 512, eosTokenIds: [0], padTokenId: 0 };
const TEXT = 'Hello, world! <|end|> 12 Ünïcode\n';

const tokenizer: FuzzTarget = {
  seeds: SMALL_TOKENIZERS.map(json),
  refusals: [UserError],
  run: async (bytes) => {
    mkdirSync(join(scratch, 'tokenizer'), { recursive: true });
    const path = fileOf('tokenizer/tokenizer.json', bytes);
    const opened = await openTokenizer(dirname(path), MODEL);
    assert.ok(opened.vocabSize <= MODEL.vocabSize && opened.eosTokenId < MODEL.vocabSize);
    const record = { kind: 'text' as const, text: TEXT, endsDocument: true, splitKey: '', line: 1 };
    const { tokens } = tokeniseRecord(record, 'data.txt', {
      tokenizer: opened,
      chatTemplate: null,
    });
    assert.equal(typeof opened.decode(tokens, false), 'string');
  },
};

const tokenizerConfig: FuzzTarget = {
  seeds: [
    readFileSync(join(TINY_BASE, 'tokenizer_config.json')),
    json({
      eos_token: { content: '<|end|>' },
      chat_template: [{ name: 'default', template: "{{ messages[0]['content'] }}" }],
    }),
  ],
  refusals: [UserError],
  run: async (bytes) => {
    mkdirSync(join(scratch, 'config'), { recursive: true });
    const path = fileOf('config/tokenizer_config.json', bytes);
    await readTokenizerConfig(dirname(path));
    const template = await openChatTemplate(dirname(path));
    template?.render([{ role: 'user', content: 'Hello' }], true);
  },
};

const BASES = join(ROOT, 'test', 'reference', 'quantised');
const ggufConfig = readModelConfig(
  readFileSync(join(BASES, 'gguf-q4_0', 'config.json')),
  'config.json',
);

/** A GGUF file, of which every weight that it promises is read. */
const gguf: FuzzTarget = {
  seeds: [readFileSync(join(BASES, 'gguf-q4_0', 'model.gguf'))],
  refusals: [UserError],
  run: async (bytes) => {
    const file = fileOf('model.gguf', bytes);
    for (const { quantised, shape, offset, length } of (
      await openGguf(file, ggufConfig)
    ).values()) {
      assert.ok(offset + length <= bytes.length);
      if (quantised === undefined) continue;
      const source = await quantised.open();
      await source.read(0, new Uint8Array(4 * shape[1]!));
      await source.close();
    }
  },
};

/** The state of a weight in 4 bits of bitsandbytes, beside parts that are whole. */
const quantState: FuzzTarget = {
  seeds: [
    json({
      ...{ quant_type: 'nf4', blocksize: 64, dtype: 'float32', shape: [4, 64] },
      ...{ nested_blocksize: 256, nested_dtype: 'float32', nested_offset: 0.1 },
    }),
  ],
  refusals: [UserError],
  run: async (bytes) => {
    const parts = {
      'a.weight': ['U8', [128, 1], 128],
      'a.weight.absmax': ['U8', [4], 4],
      'a.weight.quant_map': ['F32', [16], 64],
      'a.weight.nested_absmax': ['F32', [1], 4],
      'a.weight.nested_quant_map': ['F32', [256], 1024],
      'a.weight.quant_state.bitsandbytes__nf4': ['U8', [bytes.length], bytes.length],
    } as const;
    let end = 0;
    const entries = Object.entries(parts).map(([name, [dtype, shape, length]]) => {
      const begin = end;
      end += length;
      return [name, { dtype, shape, data_offsets: [begin, end] }];
    });
    const header = Object.fromEntries(entries) as object;
    const file = safetensorsOf(header, end);
    file.set(bytes, file.length - bytes.length);
    const { tensors } = await readSafetensorsHeader(fileOf('nf4.safetensors', file));
    const index = new Map(tensors.map((tensor) => [tensor.name, tensor]));
    await findBitsandbytes(index, [{ name: 'a', inFeatures: 64, outFeatures: 4 }]);
    const source = await index.get('a.weight')!.quantised!.open();
    await source.read(0, new Uint8Array(4 * 4 * 64));
    await source.close();
  },
};

/** The manifest of a packed copy, which another version or a disk may have changed. */
const packedManifest: FuzzTarget = {
  seeds: [
    json({
      ...{ version: 1, format: 'int4', model: 'tiny', largestCode: 127, bytes: 48, mtimeNs: '1' },
      sources: [{ bytes: 34, sha256: '00' }],
      tensors: [
        { name: 'a', dtype: 'I4', shape: [2, 16], offset: 0, length: 16 },
        {
          ...{ name: 'b', dtype: 'I8', shape: [2, 2], offset: 16, length: 4 },
          scales: { offset: 20, length: 8, block: 2 },
        },
      ],
      sha256: 'ab',
    }),
  ],
  refusals: [],
  run: (bytes) => {
    const manifest = decodeManifest(bytes);
    if (manifest === null) return;
    assert.ok(isAsExpected(manifest, manifest));
    const again = decodeManifest(Buffer.from(encodeManifest(manifest)));
    assert.ok(again !== null && isAsExpected(again, manifest));
    assert.equal(versionOf(bytes), manifest.version);
  },
};

export const modelTargets: FuzzTargets = {
  safetensors,
  'weight-index': shards,
  config,
  'packed-manifest': packedManifest,
  gguf,
  'quant-state': quantState,
  'adapter-config': adapterConfig,
  'adapter-weights': adapterWeights,
  tokenizer,
  'tokenizer-config': tokenizerConfig,
};
