/** The graph that reads and writes text, on WebGPU in every format of weights: all of it on the device, and the CPU's logits. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ortExecutor } from '../../node/engine/ort.js';
import {
  openNextTokenModel,
  type NextTokenModelOptions,
} from '../../node/model/next-token-model.js';
import { WEIGHT_FORMATS } from '../../node/model/weight-format.js';
import { weightFolder } from '../support/stored-weights.js';
import { packModel } from '../support/packed-model.js';
import { leftToCpu, nodesOn, placementOf } from '../support/placement.js';
import { openCase } from '../unit/model/small-case.js';
import type { ReferenceCaseName } from '../unit/model/fixtures.js';

const dir = weightFolder();
/** Of logits, absolute: float32 sums in another order. */
const BOUND = 2e-4;
const TOKENS = [5, 17, 3, 29, 11, 2, 8];

/** After a prompt in pieces, and after one more token. */
async function logitsOf(options: NextTokenModelOptions): Promise<Float32Array[]> {
  const model = await openNextTokenModel(options);
  try {
    const prompt = Float32Array.from(await model.read(TOKENS));
    return [prompt, Float32Array.from(await model.read([7]))];
  } finally {
    await model.dispose();
  }
}

async function check(name: ReferenceCaseName, format: (typeof WEIGHT_FORMATS)[number]) {
  const { options, model, theta } = await openCase(name, ['all-linear']);
  await model.dispose();
  const shape = { theta, capacity: 16, chunk: 4 };
  const { config, weights } = options;
  const packed = format === 'fp32' ? null : await packModel(dir, config, weights, format);
  const exact = packed ? { weights: packed.floats, config: packed.floatConfig } : {};
  const onCpu = { ...options, ...exact, ...shape, executor: ortExecutor({ threads: 1 }) };
  const expected = await logitsOf(onCpu);
  let found: Float32Array[] = [];
  const placement = await placementOf({ threads: 1, device: 'webgpu' }, async (executor) => {
    const stored = packed ? { weights: packed.weights, weightFormat: format } : {};
    found = await logitsOf({ ...options, ...stored, ...shape, executor });
  });
  assert.equal(leftToCpu(placement), '');
  assert.ok(nodesOn(placement, 'WebGpuExecutionProvider') > 50);
  let most = 0;
  for (const [i, logits] of expected.entries()) {
    for (const [j, value] of logits.entries()) {
      most = Math.max(most, Math.abs(value - found[i]![j]!));
    }
  }
  assert.ok(most <= BOUND, `a logit is off by ${most}`);
  return most;
}

describe('generation on WebGPU leaves no node to the CPU', () => {
  for (const format of WEIGHT_FORMATS) {
    for (const name of ['llama-gqa-tied', 'gpt2'] as const) {
      it(`with ${format} weights: ${name}`, async (t) => {
        t.diagnostic(`logits off by ${(await check(name, format)).toExponential(1)}`);
      });
    }
  }
});
