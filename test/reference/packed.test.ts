/** Packed weights against numpy and PyTorch: the same codes, and the gradient of the weights that they stand for. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { cp, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { ortExecutor } from '../../node/engine/ort.js';
import { decoderOf } from '../../node/model/families.js';
import { openModelDirectory, type ModelDirectory } from '../../node/model/model-directory.js';
import { openPackedWeights } from '../../node/model/packed/open.js';
import {
  readSafetensorsHeader,
  writeSafetensors,
  type F32Tensor,
  type WeightIndex,
} from '../../node/model/safetensors.js';
import { bytesAt, turned, valuesOf } from '../support/packed-values.js';
import { referenceCase, ROOT, Scratch } from '../unit/model/fixtures.js';
import { distance, flatten, openCase, readTensors, type OpenCase } from './compare.js';

const scratch = new Scratch();
after(() => scratch.remove());

const executor = ortExecutor({ threads: 1 });
const FORMATS = ['bf16', 'int8', 'int4'] as const;
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** Writes the model that the packed weights stand for, with an output layer of its own, as the case in `dir`. */
async function unpackInto(
  dir: string,
  { config, weights: own }: ModelDirectory,
  weights: WeightIndex,
): Promise<void> {
  const layers = new Map(decoderOf(config).layers.map((layer) => [`${layer.name}.weight`, layer]));
  const tensors: F32Tensor[] = [];
  for (const entry of weights.values()) {
    const isTurned = entry.scales !== undefined && layers.get(entry.name)?.transposed === true;
    const values = await valuesOf(entry);
    const data = isTurned ? turned(values, entry.shape) : values;
    tensors.push({ name: entry.name, shape: own.get(entry.name)?.shape ?? entry.shape, data });
  }
  await writeSafetensors(join(dir, 'base', 'model.safetensors'), tensors, {});
  const path = join(dir, 'base', 'config.json');
  const raw = JSON.parse(await readFile(path, 'utf8')) as Record<string, unknown>;
  const tied = config.tieWordEmbeddings && !weights.has('lm_head.weight');
  await writeFile(path, JSON.stringify({ ...raw, tie_word_embeddings: tied }));
}

for (const name of ['llama-gqa-tied', 'llama-untied-bias', 'qwen2', 'gpt2'] as const) {
  for (const format of FORMATS) {
    describe(`${name} as ${format}`, async () => {
      const dir = join(await scratch.directory(), name);
      await cp(referenceCase(name), dir, { recursive: true });
      await writeFile(join(dir, 'base', 'tokenizer.json'), '{}');
      const directory = await openModelDirectory(join(dir, 'base'));
      const cacheDir = await scratch.directory();
      const weights = await openPackedWeights({ directory, format, cacheDir });
      const file = join(ROOT, 'test', 'reference', 'packed', `${name}-${format}.safetensors`);

      it('has the codes and scales that numpy finds', async () => {
        const { metadata } = await readSafetensorsHeader(file);
        const found: Record<string, string> = {};
        for (const entry of weights.values()) {
          if (directory.weights.get(entry.name) === entry) continue;
          const scales = entry.scales ? await bytesAt(entry.scales) : new Uint8Array(0);
          found[entry.name] = `${sha256(await bytesAt(entry))} ${sha256(scales)}`;
        }
        assert.deepEqual(found, metadata);
      });

      it("stands for weights with PyTorch's loss, and its gradient to 1e-5", async () => {
        const other = join(await scratch.directory(), name);
        await cp(dir, other, { recursive: true });
        await unpackInto(other, directory, weights);
        await compare(await openCase(other, executor));
      });

      it("is computed with as it lies on the disk, to PyTorch's gradient as well", async () => {
        // Codes are codes whatever the format, which alone says that nothing is multiplied in 8 bits.
        const mapped = { weights, weightFormat: 'bf16' } as const;
        await compare(await openCase(referenceCase(name), executor, mapped));
      });

      const compare = async (opened: OpenCase): Promise<void> => {
        const tensors = await readTensors(file);
        try {
          const { model, batch, theta, layout } = opened;
          const { loss, gradient } = await model.gradient(batch, theta);
          assert.ok(Math.abs(loss / tensors.get('loss')![0]! - 1) < 1e-6, `loss ${loss}`);
          const off = distance(gradient, flatten({ layout, tensors }, 'grad.'));
          assert.ok(off < 1e-5, `off by ${off}`);
        } finally {
          await opened.model.dispose();
          await opened.reader.dispose();
        }
      };
    });
  }
}
