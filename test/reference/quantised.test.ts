/** Checkpoints that others have quantised: exactly the numbers that bitsandbytes, gguf and numpy find in them. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { cp, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { decodeFloats } from '../../node/engine/storage.js';
import { fingerprintModel } from '../../node/model/fingerprint.js';
import { openModelDirectory } from '../../node/model/model-directory.js';
import { quantisationIn } from '../../node/model/packed/layout.js';
import { openPackedWeights } from '../../node/model/packed/open.js';
import { findWeight } from '../../node/model/parameters.js';
import { BLOCK_DECODERS } from '../../node/model/quantised/gguf-blocks.js';
import {
  readSafetensorsHeader,
  readTensorF32,
  type TensorEntry,
} from '../../node/model/safetensors.js';
import { bytesAt, valuesOf } from '../support/packed-values.js';
import { ROOT, Scratch, userError } from '../unit/model/fixtures.js';
import { distance, readTensors } from './compare.js';

const scratch = new Scratch();
after(() => scratch.remove());

const BASES = join(ROOT, 'test', 'reference', 'quantised');
/** What each is called in messages; null where its weights are plain numbers. */
const METHODS: Readonly<Record<string, string | null>> = {
  nf4: 'bitsandbytes NF4',
  'nf4-plain': 'bitsandbytes NF4',
  gptq: 'GPTQ, 4 bits',
  'gptq-v2': 'GPTQ, 4 bits',
  awq: 'AWQ, 4 bits',
  'gguf-q4_0': 'GGUF Q8_0',
  'gguf-q8_0': 'GGUF Q8_0',
  'gguf-f16': 'GGUF F16',
  'gguf-bf16': null,
};

async function openBase(name: string): Promise<string> {
  const dir = join(await scratch.directory(), name);
  await cp(join(BASES, name), dir, { recursive: true });
  await writeFile(join(dir, 'tokenizer.json'), '{}');
  return dir;
}

/** Rows a few at a time, as packing may ask for them. */
async function rowsOf(entry: TensorEntry): Promise<Float32Array> {
  if (entry.quantised === undefined) return readTensorF32(entry);
  const [rows, width] = entry.shape as [number, number];
  const values = new Float32Array(rows * width);
  const source = await entry.quantised.open();
  assert.equal(source.storage, 'F32');
  for (let first = 0; first < rows; first += 7) {
    const count = Math.min(7, rows - first) * width;
    await source.read(first, new Uint8Array(values.buffer, 4 * first * width, 4 * count));
  }
  await source.close();
  return values;
}

for (const [name, method] of Object.entries(METHODS)) {
  describe(`the base ${name}`, () => {
    it('has exactly the numbers of the reference', async () => {
      const { weights } = await openModelDirectory(await openBase(name));
      const expected = await readTensors(join(BASES, name, 'expected.safetensors'));
      assert.ok(expected.size > 6);
      for (const [tensor, values] of expected) {
        const entry = weights.get(tensor);
        assert.ok(entry, tensor);
        assert.deepEqual(await rowsOf(entry), values, tensor);
      }
      assert.equal(quantisationIn(weights), method);
    });

    it('is computed with as a copy: int8, int4 or bf16, and not as it is', async () => {
      const directory = await openModelDirectory(await openBase(name));
      const expected = await readTensors(join(BASES, name, 'expected.safetensors'));
      const cacheDir = await scratch.directory();
      const errors = { bf16: 0.003, int8: 0.01, int4: 0.13 };
      for (const format of ['bf16', 'int8', 'int4'] as const) {
        const weights = await openPackedWeights({ directory, format, cacheDir });
        for (const [tensor, values] of expected) {
          const entry = weights.get(tensor)!;
          findWeight(weights, tensor, entry.shape);
          const off = distance(await valuesOf(entry), values as Float32Array);
          assert.ok(off < errors[format], `${tensor} as ${format} is off by ${off}`);
        }
      }
      if (method === null) return;
      await assert.rejects(
        openPackedWeights({ directory, format: 'fp32', cacheDir }),
        userError(
          /weights are quantised \(.+\), and are computed with as a copy only: choose --weights int8, int4 or bf16/,
        ),
      );
      const quantised = [...directory.weights.values()].find((entry) => entry.quantised)!;
      assert.throws(
        () => findWeight(directory.weights, quantised.name, quantised.shape),
        userError(/is quantised \(.+\), and is computed with as a copy only: choose --weights/),
      );
      await assert.rejects(readTensorF32(quantised), userError(/weights must be F32, F16 or BF16/));
    });

    it('is told from others by the hash of its file', async () => {
      const dir = await openBase(name);
      const file = (await readdir(dir)).find((one) => one.startsWith('model.'))!;
      const sha256 = createHash('sha256')
        .update(await readFile(join(dir, file)))
        .digest('hex');
      const line = createHash('sha256').update(`${sha256}  ${file}\n`).digest('hex');
      assert.equal((await fingerprintModel(dir)).weightsSha256, line);
    });
  });
}

describe('blocks of Q6_K', () => {
  it('have exactly the numbers that gguf finds', async () => {
    const { tensors } = await readSafetensorsHeader(join(BASES, 'q6_k.safetensors'));
    const [blocks, values] = ['blocks', 'values'].map((one) =>
      tensors.find(({ name }) => name === one)!,
    );
    const expected = decodeFloats(await bytesAt(values!), 'F32');
    const found = new Float32Array(expected.length);
    BLOCK_DECODERS[14]!(await bytesAt(blocks!), found);
    assert.deepEqual(found, expected);
  });
});
