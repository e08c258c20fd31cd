import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { readModelConfig } from '../../../node/model/config.js';
import { writeGgufAdapter } from '../../../node/model/gguf-adapter.js';
import { readPeftAdapter } from '../../../node/model/peft.js';
import { adapterLayout } from '../../../protocol/adapter.js';
import {
  REFERENCE_CASES,
  referenceCase,
  Scratch,
  userError,
  type ReferenceCaseName,
} from './fixtures.js';

const scratch = new Scratch();
after(() => scratch.remove());

/** What GGUF says of itself, read back plainly. */
interface Gguf {
  metadata: Record<string, string | number>;
  tensors: Map<string, { shape: [columns: number, rows: number]; data: Float32Array }>;
}

function readGguf(bytes: Buffer): Gguf {
  let at = 4;
  assert.equal(bytes.toString('latin1', 0, 4), 'GGUF');
  const uint32 = (): number => bytes.readUInt32LE((at += 4) - 4);
  const uint64 = (): number => Number(bytes.readBigUInt64LE((at += 8) - 8));
  const string = (): string => {
    const length = uint64();
    return bytes.toString('utf8', at, (at += length));
  };
  assert.equal(uint32(), 3);
  const [tensorCount, metadataCount] = [uint64(), uint64()];
  const metadata: Gguf['metadata'] = {};
  for (let i = 0; i < metadataCount; i++) {
    const key = string();
    const type = uint32();
    assert.ok(type === 8 || type === 6);
    metadata[key] = type === 8 ? string() : bytes.readFloatLE((at += 4) - 4);
  }
  const infos = Array.from({ length: tensorCount }, () => {
    const name = string();
    assert.equal(uint32(), 2);
    const shape: [number, number] = [uint64(), uint64()];
    assert.equal(uint32(), 0);
    return { name, shape, offset: uint64() };
  });
  const start = Math.ceil(at / 32) * 32;
  const tensors: Gguf['tensors'] = new Map();
  for (const { name, shape, offset } of infos) {
    assert.equal(offset % 32, 0);
    const from = start + offset;
    const data = bytes.buffer.slice(
      bytes.byteOffset + from,
      bytes.byteOffset + from + 4 * shape[0] * shape[1],
    );
    tensors.set(name, { shape, data: new Float32Array(data) });
  }
  return { metadata, tensors };
}

async function open(name: ReferenceCaseName): Promise<Parameters<typeof writeGgufAdapter>[1]> {
  const path = join(referenceCase(name), 'base', 'config.json');
  const config = readModelConfig(await readFile(path), path);
  const { rank, alpha, modules, theta } = await readPeftAdapter(
    join(referenceCase(name), 'adapter'),
  );
  return { config, adapter: { rank, alpha, modules }, theta, name: 'a test' };
}

async function written(adapter: Parameters<typeof writeGgufAdapter>[1]): Promise<Gguf> {
  const path = join(await scratch.directory(), 'adapter.gguf');
  await writeGgufAdapter(path, adapter);
  return readGguf(await readFile(path));
}

describe('writeGgufAdapter', () => {
  for (const name of REFERENCE_CASES) {
    it(`${name}: has every factor, [columns, rows], under llama.cpp's name`, async () => {
      const opened = await open(name);
      const { metadata, tensors } = await written(opened);
      assert.deepEqual(metadata, {
        'general.architecture': opened.config.architecture,
        'general.type': 'adapter',
        'general.name': 'a test',
        'adapter.type': 'lora',
        'adapter.lora.alpha': opened.adapter.alpha,
      });
      const layout = adapterLayout(opened.adapter);
      assert.equal(tensors.size, layout.tensors.length);
      const sum = (values: Float32Array): number => [...values].sort().reduce((a, b) => a + b, 0);
      for (const [i, [key, { shape, data }]] of [...tensors].entries()) {
        const { factor, shape: own, offset, length } = layout.tensors[i]!;
        assert.match(
          key,
          /^(output|blk\.\d+\.(attn_(q|k|v|qkv|output)|ffn_(gate|up|down)))\.weight\.lora_[ab]$/,
        );
        assert.ok(key.endsWith(factor === 'A' ? 'lora_a' : 'lora_b'));
        assert.deepEqual(shape, [own[1], own[0]]);
        const values = opened.theta.subarray(offset, offset + length);
        const inPairs = ['llama', 'smollm3', 'granite'].includes(opened.config.architecture);
        if (!inPairs) assert.deepEqual(data, values);
        else assert.equal(sum(data), sum(values), 'the same values');
      }
    });
  }

  it("puts the rows of Llama's q and k in the order of llama.cpp: features i and i + half side by side", async () => {
    const opened = await open('llama-gqa-tied');
    const { adapter, config } = opened;
    assert.ok(config.architecture === 'llama');
    const { headDim, heads, keyValueHeads } = config;
    const { rank } = adapter;
    // Each row holds its own number.
    const theta = opened.theta.slice();
    for (const { factor, offset, length } of adapterLayout(adapter).tensors) {
      if (factor === 'B')
        theta.set(
          Float32Array.from({ length }, (_, i) => Math.floor(i / rank)),
          offset,
        );
    }
    const { tensors } = await written({ ...opened, theta });
    for (const [key, count] of [
      ['attn_q', heads],
      ['attn_k', keyValueHeads],
    ] as const) {
      const { data } = tensors.get(`blk.0.${key}.weight.lora_b`)!;
      for (let head = 0; head < count; head++) {
        for (let i = 0; i < headDim / 2; i++) {
          const row = (place: number): number => data[(head * headDim + place) * rank]!;
          assert.deepEqual(
            [row(2 * i), row(2 * i + 1)],
            [head * headDim + i, head * headDim + i + headDim / 2],
          );
        }
      }
    }
    const other = tensors.get('blk.0.attn_v.weight.lora_b')!.data;
    assert.deepEqual([other[0], other[rank]], [0, 1], 'v is not rotated');
  });

  it('refuses the adapter of another model, and leaves no file', async () => {
    const [llama, qwen] = [await open('llama-gqa-tied'), await open('qwen3')];
    const dir = await scratch.directory();
    const wrong = { ...llama, adapter: qwen.adapter, theta: qwen.theta };
    await assert.rejects(
      writeGgufAdapter(join(dir, 'x.gguf'), wrong),
      userError(/use the base model of the run/),
    );
    await assert.rejects(
      writeGgufAdapter(join(dir, 'none', 'x.gguf'), llama),
      userError(/cannot be written \(ENOENT\)/),
    );
    assert.deepEqual(await readdir(dir), []);
  });
});
