/** What of quantised checkpoints is refused: by name, with what to do, and without believing a size that the file claims. */
import assert from 'node:assert/strict';
import { cp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { openModelDirectory } from '../../../node/model/model-directory.js';
import { listModelFiles } from '../../../node/model/model-listing.js';
import { writeMergedModel } from '../../../node/model/merge.js';
import { readGgufHeader } from '../../../node/model/quantised/gguf-header.js';
import { readQuantisation } from '../../../node/model/quantised/method.js';
import {
  readSafetensorsHeader,
  streamSafetensors,
  type Dtype,
} from '../../../node/model/safetensors.js';
import { bytesAt } from '../../support/packed-values.js';
import { ROOT, Scratch, userError } from './fixtures.js';

const scratch = new Scratch();
after(() => scratch.remove());

const BASES = join(ROOT, 'test', 'reference', 'quantised');

async function openBase(name: string): Promise<string> {
  const dir = join(await scratch.directory(), name);
  await cp(join(BASES, name), dir, { recursive: true });
  await writeFile(join(dir, 'tokenizer.json'), '{}');
  return dir;
}

interface Part {
  name: string;
  dtype: Dtype;
  shape: readonly number[];
  bytes: Uint8Array;
}

/** Writes the weights of a base again, as `change` makes them. */
async function rewrite(dir: string, change: (parts: Part[]) => Part[]): Promise<void> {
  const path = join(dir, 'model.safetensors');
  const { tensors } = await readSafetensorsHeader(path);
  const parts = await Promise.all(
    tensors.map(async (entry) => ({
      ...{ name: entry.name, dtype: entry.dtype as Dtype, shape: entry.shape },
      bytes: await bytesAt(entry),
    })),
  );
  await streamSafetensors(
    path,
    change(parts).map(({ bytes, ...part }) => ({ ...part, pieces: () => [bytes] })),
    {},
  );
}

const UP = 'model.layers.0.mlp.up_proj';
const changed = (name: string, edit: (part: Part) => Part) => (parts: Part[]) =>
  parts.map((part) => (part.name === name ? edit(part) : part));
const without = (name: string) => (parts: Part[]) => parts.filter((part) => part.name !== name);

describe('quantization_config', () => {
  it('is read for 4 bits of bitsandbytes, GPTQ and AWQ', () => {
    const read = (value: unknown): unknown => readQuantisation(value, 'config.json');
    assert.equal(read(undefined), null);
    assert.equal(read(null), null);
    assert.deepEqual(read({ load_in_4bit: true }), { method: 'bitsandbytes' });
    assert.deepEqual(read({ quant_method: 'gptq', bits: 8, group_size: -1 }), {
      ...{ method: 'gptq', bits: 8, groupSize: 0, zeroOffset: 1 },
    });
    assert.deepEqual(
      read({ quant_method: 'gptq', bits: 4, group_size: 128, checkpoint_format: 'gptq_v2' }),
      { method: 'gptq', bits: 4, groupSize: 128, zeroOffset: 0 },
    );
    assert.deepEqual(read({ quant_method: 'awq', w_bit: 4, q_group_size: 64, version: 'GEMM' }), {
      ...{ method: 'awq', groupSize: 64 },
    });
  });

  const refused: [object, RegExp][] = [
    [{ quant_method: 'fp8' }, /quantised by "fp8" are not read/],
    [{ quant_method: 'compressed-tensors' }, /quantised by "compressed-tensors"/],
    [{ quant_method: 'bitsandbytes', load_in_8bit: true }, /bitsandbytes in 8 bits/],
    [{ bits: 4 }, /an unnamed method/],
    [{ quant_method: 'gptq', bits: 3, group_size: 128 }, /GPTQ in 3 bits/],
    [{ quant_method: 'gptq', bits: 4, group_size: 0 }, /groups of 0 weights/],
    [{ quant_method: 'gptq', bits: 4, group_size: 1e9 }, /groups of 1000000000 weights/],
    [
      { quant_method: 'gptq', bits: 4, group_size: 128, checkpoint_format: 'marlin' },
      /GPTQ in the format "marlin"/,
    ],
    [{ quant_method: 'awq', bits: 8, group_size: 128 }, /AWQ in 8 bits/],
    [{ quant_method: 'awq', bits: 4, group_size: 128, version: 'gemv' }, /AWQ in the order "gemv"/],
    [{ quant_method: 4 }, /does not say clearly/],
  ];
  for (const [config, sentence] of refused) {
    it(`is refused by name, with what to do: ${JSON.stringify(config)}`, () => {
      const refuses = (expected: RegExp): void =>
        assert.throws(() => readQuantisation(config, 'config.json'), userError(expected));
      refuses(sentence);
      refuses(
        /^config\.json: .*: take the model without quantisation \(.*--weights\), or one in 4 bits/,
      );
    });
  }
});

describe('a quantised checkpoint', () => {
  const faults: [string, string, (parts: Part[]) => Part[], RegExp][] = [
    [
      'nf4',
      'without its table',
      without(`${UP}.weight.quant_map`),
      /no tensor .*quant_map, which its quantised weight needs/,
    ],
    [
      'nf4',
      'with too few sizes of blocks',
      changed(`${UP}.weight.absmax`, (part) => ({
        ...part,
        shape: [1],
        bytes: part.bytes.slice(0, 1),
      })),
      /absmax is U8 \[1\], but its config makes it U8 \[128\]/,
    ],
    [
      'nf4',
      'with a state of another shape',
      changed(`${UP}.weight.quant_state.bitsandbytes__nf4`, (part) =>
        withText(part, '[128, 64]', '[64, 128]'),
      ),
      /has shape \[64, 128\], but the model's config expects \[128, 64\]/,
    ],
    [
      'nf4',
      'with a state that is none',
      changed(`${UP}.weight.quant_state.bitsandbytes__nf4`, (part) =>
        withText(part, '"blocksize": 64', '"blocksize": 00'),
      ),
      /not valid JSON/,
    ],
    [
      'nf4',
      'with blocks of nothing',
      changed(`${UP}.weight.quant_state.bitsandbytes__nf4`, (part) =>
        withText(part, '"blocksize": 64', '"blocksize": 0'),
      ),
      /field "blocksize" is 0/,
    ],
    [
      'gptq',
      'with an order beyond its groups',
      changed(`${UP}.g_idx`, (part) => ({ ...part, bytes: part.bytes.fill(0x7f) })),
      /g_idx names group 2139062143 of 2/,
    ],
    [
      'gptq',
      'with codes of another shape',
      changed(`${UP}.qweight`, (part) => ({ ...part, shape: [4, 256] })),
      /qweight is I32 \[4, 256\], but its config makes it I32 \[8, 128\]/,
    ],
    [
      'gptq',
      'with a bias that the model has not',
      changed(`${UP}.bias`, (part) => ({ ...part, bytes: part.bytes.fill(1) })),
      /does not use \(model\.layers\.0\.mlp\.up_proj\.bias\)/,
    ],
    ['awq', 'without its scales', without(`${UP}.scales`), /no tensor .*up_proj\.scales/],
    [
      'awq',
      'with zero points of another type',
      changed(`${UP}.qzeros`, (part) => ({ ...part, dtype: 'F32' })),
      /qzeros is F32 \[2, 16\], but its config makes it I32/,
    ],
  ];
  for (const [base, what, change, sentence] of faults) {
    it(`is refused ${what} (${base})`, async () => {
      const dir = await openBase(base);
      await rewrite(dir, change);
      const opening = async (): Promise<void> => {
        const { weights } = await openModelDirectory(dir);
        // Some is only seen when the parts are read.
        const source = await weights.get(`${UP}.weight`)!.quantised!.open();
        await source.close();
      };
      await assert.rejects(opening(), userError(sentence));
    });
  }

  it('cannot be merged into', async () => {
    for (const [base, what] of [
      ['nf4', /is bitsandbytes NF4/],
      ['gguf-bf16', /is GGUF/],
    ] as const) {
      const { dir, config, weights } = await openModelDirectory(await openBase(base));
      const adapter = { rank: 1, alpha: 1, modules: [] };
      const merging = writeMergedModel(join(await scratch.directory(), 'out'), {
        ...{ dir, config, weights, adapter, theta: new Float32Array(0), dtype: null },
        ...{ onProgress: () => undefined, signal: new AbortController().signal },
      });
      await assert.rejects(merging, userError(what));
    }
  });
});

function withText(part: Part, from: string, to: string): Part {
  const text = Buffer.from(part.bytes).toString();
  assert.ok(text.includes(from), text);
  const bytes = Buffer.from(text.replace(from, to));
  return { ...part, bytes, shape: [bytes.length] };
}

describe('a GGUF base', () => {
  it('takes config and tokenizer from beside it, and says so', async () => {
    const dir = await openBase('gguf-q8_0');
    await rm(join(dir, 'expected.safetensors'));
    await rm(join(dir, 'tokenizer.json'));
    await assert.rejects(openModelDirectory(dir), userError(/has no tokenizer\.json/));
    await rm(join(dir, 'config.json'));
    await assert.rejects(
      openModelDirectory(dir),
      userError(
        /has model\.gguf but no config\.json, from which the model and its tokenizer are read: put config\.json and tokenizer\.json of the model that it was made of there/,
      ),
    );
  });

  it('is one file, of a kind that is read, and of the model of its config', async () => {
    const dir = await openBase('gguf-q4_0');
    await cp(join(dir, 'model.gguf'), join(dir, 'other.gguf'));
    await assert.rejects(
      openModelDirectory(dir),
      userError(/has 2 GGUF files \(model\.gguf, other\.gguf\): leave the one/),
    );
    await rename(join(dir, 'other.gguf'), join(dir, 'model.gguf'));
    await cp(join(BASES, 'gguf-q8_0', 'config.json'), join(dir, 'config.json'));
    await assert.rejects(
      openModelDirectory(dir),
      userError(/holds a model of the kind "llama", but config\.json beside it makes that "qwen2"/),
    );
    await cp(join(ROOT, 'test/reference/cases/phi3/base/config.json'), join(dir, 'config.json'));
    await assert.rejects(
      openModelDirectory(dir),
      userError(
        /GGUF is read for models of the kinds llama, qwen2, qwen3, and config\.json is of a phi3/,
      ),
    );
  });

  it('is not shared with members', async () => {
    await assert.rejects(
      listModelFiles(await openBase('gguf-bf16')),
      userError(/model\.gguf is GGUF, and only models in safetensors can be shared with members/),
    );
    const { files } = await listModelFiles(await openBase('gptq'));
    assert.ok(
      files.some(({ name }) => name === 'model.safetensors'),
      'others are',
    );
  });

  it('names types of weights that are not read, and what to do', async () => {
    const bytes = await readFile(join(BASES, 'gguf-q4_0', 'model.gguf'));
    // The type of the first tensor: after its name, the number of dimensions and two sizes.
    const at = bytes.indexOf('token_embd.weight') + 17 + 4 + 16;
    for (const [type, name] of [
      [12, 'Q4_K'],
      [3, 'Q4_1'],
      [23, 'IQ4_XS'],
      [39, 'type 39'],
    ] as const) {
      bytes.writeUInt32LE(type, at);
      await assert.rejects(
        header(bytes),
        userError(
          new RegExp(
            `token_embd\\.weight is ${name}, which is not read; take the model as Q8_0, .*llama-quantize`,
          ),
        ),
      );
    }
  });

  it('is held to the bytes of its file, wherever it is cut or changed', async () => {
    const whole = await readFile(join(BASES, 'gguf-q8_0', 'model.gguf'));
    const { tensors } = await header(whole);
    assert.ok(tensors.every(({ offset, length }) => offset + length <= whole.length));
    const refused = userError(/it is no GGUF file, or it is damaged; get it again$/);
    for (const length of [0, 3, 4, 30, 200, 700, whole.length - 1]) {
      await assert.rejects(header(whole.subarray(0, length)), refused, `${length} bytes`);
    }
    const claims: [number, (view: DataView) => void][] = [
      [8, (view) => view.setBigUint64(8, 1n << 60n, true)],
      [16, (view) => view.setBigUint64(16, 0xffff_ffff_ffff_ffffn, true)],
      [24, (view) => view.setBigUint64(24, 1n << 62n, true)],
    ];
    for (const [at, claim] of claims) {
      const bytes = Uint8Array.from(whole);
      claim(new DataView(bytes.buffer));
      await assert.rejects(header(bytes), refused, `at ${at}`);
    }
    const shape = whole.indexOf('token_embd.weight') + 17 + 4;
    for (const size of [0n, 1n, 1n << 40n, 1n << 63n]) {
      const bytes = Buffer.from(whole);
      bytes.writeBigUInt64LE(size, shape);
      await assert.rejects(header(bytes), refused, `${size}`);
    }
  });
});

async function header(bytes: Uint8Array): ReturnType<typeof readGgufHeader> {
  const path = join(await scratch.directory(), 'model.gguf');
  await writeFile(path, bytes);
  return readGgufHeader(path);
}
