import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { checkWeightsFinite, checkWeightsOnDevice } from '../../../node/model/broken-weights.js';
import { openWeights } from '../../../node/model/weight-index.js';
import { REFERENCE_CASES, referenceCase, Scratch, TINY_BASE, userError } from './fixtures.js';

const scratch = new Scratch();
after(() => scratch.remove());

describe('checkWeightsFinite', () => {
  it('finds nothing in sound weights of any type', async () => {
    for (const name of REFERENCE_CASES) {
      await checkWeightsFinite(await openWeights(join(referenceCase(name), 'base')));
    }
    await checkWeightsFinite(await openWeights(TINY_BASE));
  });

  it('names the tensor, the file and its hash, for NaN and infinity', async () => {
    const dir = await scratch.tinyBase();
    const file = join(dir, 'model.safetensors');
    const whole = await readFile(file);
    const weights = await openWeights(dir);
    const entry = weights.get('model.layers.3.mlp.up_proj.weight')!;
    assert.equal(entry.dtype, 'BF16');
    for (const bits of [0x7fc0, 0xff80]) {
      const bytes = Buffer.from(whole);
      bytes.writeUInt16LE(bits, entry.offset + entry.length - 2);
      await writeFile(file, bytes);
      const sha256 = createHash('sha256').update(bytes).digest('hex');
      await assert.rejects(
        checkWeightsFinite(weights),
        userError(
          new RegExp(
            `${sha256}.*the weight model.layers.3.mlp.up_proj.weight holds NaN or infinity`,
          ),
        ),
      );
    }
  });
});

describe('checkWeightsOnDevice', () => {
  it('names a weight of bfloat16 that is beyond float16 where the device has no bfloat16', async () => {
    const dir = await scratch.tinyBase();
    const file = join(dir, 'model.safetensors');
    const bytes = await readFile(file);
    const weights = await openWeights(dir);
    const entry = weights.get('model.layers.3.mlp.up_proj.weight')!;
    await checkWeightsOnDevice(weights, 'webgpu');
    bytes.writeUInt16LE(0x4780, entry.offset); // 65,536
    await writeFile(file, bytes);
    await checkWeightsOnDevice(weights, 'cuda');
    await assert.rejects(
      checkWeightsOnDevice(weights, 'webgpu'),
      userError(
        /up_proj.weight in .* holds 65536, but --device webgpu computes with 16-bit weights up to 65504: use --weights fp32/,
      ),
    );
  });
});
