/** Adapters that PEFT wrote with patterns, rank stabilisation and targets of every form, against PEFT's own logits. */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { ortExecutor } from '../../node/engine/ort.js';
import { readModelConfig } from '../../node/model/config.js';
import { writeMergedModel } from '../../node/model/merge.js';
import { openNextTokenModel } from '../../node/model/next-token-model.js';
import { readPeftAdapter, writePeftAdapter } from '../../node/model/peft.js';
import { openWeights } from '../../node/model/weight-index.js';
import { readTensorF32 } from '../../node/model/safetensors.js';
import { referenceCase, ROOT, Scratch, type ReferenceCaseName } from '../unit/model/fixtures.js';
import { BOUNDS, integers, logitsDifference, readTensors } from './compare.js';

const ADAPTERS = join(ROOT, 'test', 'reference', 'adapters');
/** Weights after merging, absolute: PEFT multiplies in float32. */
const MERGED_BOUND = 1e-6;

const scratch = new Scratch();
after(() => scratch.remove());

async function open(name: string) {
  const dir = join(ADAPTERS, name);
  const file = JSON.parse(await readFile(join(dir, 'case.json'), 'utf8')) as {
    base: ReferenceCaseName;
    length: number;
  };
  const base = join(referenceCase(file.base), 'base');
  const configPath = join(base, 'config.json');
  const config = readModelConfig(await readFile(configPath), configPath);
  const tensors = await readTensors(join(dir, 'reference.safetensors'));
  const weights = await openWeights(base);
  return { file, base, config, weights, tensors, adapterDir: join(dir, 'adapter') };
}

/** Largest difference of the logits with the adapter in `dir`. */
async function difference(opened: Awaited<ReturnType<typeof open>>, dir: string): Promise<number> {
  const { config, weights, tensors, file } = opened;
  const { theta, ...adapter } = await readPeftAdapter(dir);
  const reader = await openNextTokenModel({
    ...{ config, weights, adapter, theta, capacity: file.length, chunk: 1 },
    executor: ortExecutor({ threads: 1 }),
  });
  try {
    const batch = { tokens: integers(tensors, 'input_ids') };
    return await logitsDifference({ file, tensors, reader, batch });
  } finally {
    await reader.dispose();
  }
}

describe('an adapter of PEFT', () => {
  for (const name of readdirSync(ADAPTERS)) {
    it(`computes what it does in PEFT: ${name}`, async () => {
      const opened = await open(name);
      const logits = await difference(opened, opened.adapterDir);
      assert.ok(logits < BOUNDS['logits, absolute'], `${logits}`);
    });

    it(`stays that when it is written again, and merged: ${name}`, async () => {
      const opened = await open(name);
      const dir = join(await scratch.directory(), 'adapter');
      const { theta, ...spec } = await readPeftAdapter(opened.adapterDir);
      await writePeftAdapter(dir, { spec, theta, baseModelName: 'base' });
      const again = await readPeftAdapter(dir);
      assert.deepEqual([again.rank, again.alpha, again.theta], [spec.rank, spec.alpha, theta]);
      const merged = join(await scratch.directory(), 'merged');
      await writeMergedModel(merged, {
        ...{ dir: opened.base, config: opened.config, weights: opened.weights },
        ...{ adapter: spec, theta, dtype: null },
        onProgress: () => undefined,
        signal: new AbortController().signal,
      });
      const weights = await openWeights(merged);
      const wanted = [...opened.tensors].filter(([key]) => key.startsWith('merged.'));
      assert.equal(wanted.length, 2);
      for (const [key, values] of wanted) {
        const own = await readTensorF32(weights.get(key.slice('merged.'.length))!);
        assert.equal(own.length, values.length);
        const worst = own.reduce((most, one, i) => Math.max(most, Math.abs(one - values[i]!)), 0);
        assert.ok(worst < MERGED_BOUND, `${key} ${worst}`);
      }
    });
  }
});
