/**
 * The engine on ONNX Runtime's WebGPU provider, whatever adapter Vulkan finds: in CI software, in
 * scripts/webgpu-software.sh. Bounds are those of the CPU: WebGPU computes in float32 as well.
 */
import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import { ortExecutor } from '../../node/engine/ort.js';
import { chooseDevice } from '../../node/train/choose-device.js';
import { operationCompliance } from '../compliance/ops.js';
import { BOUNDS, compareWithReference, MEASURES, type Differences } from '../reference/compare.js';
import { referenceCase } from '../unit/model/fixtures.js';

const executor = ortExecutor({ threads: 1, device: 'webgpu' });

operationCompliance('WebGPU', () => executor);

for (const name of ['llama-gqa-tied', 'gpt2'] as const) {
  describe(`${name} on WebGPU agrees with PyTorch and PEFT`, () => {
    let differences: Differences;
    before(async () => {
      differences = await compareWithReference(referenceCase(name), executor);
    });

    for (const measure of MEASURES) {
      it(`in the ${measure}`, (t) => {
        t.diagnostic(`largest difference ${differences[measure].toExponential(1)}`);
        assert.ok(differences[measure] <= BOUNDS[measure]);
      });
    }
  });
}

describe('choosing WebGPU', () => {
  const never = new AbortController().signal;

  it('is granted when it is asked for: a small step agrees with the CPU', async () => {
    const chosen = await chooseDevice({ device: 'webgpu', threads: 1 }, never);
    assert.equal(chosen.device, 'webgpu');
  });

  it('is done under auto by time, so that software is left alone', async (t) => {
    const { device, why } = await chooseDevice({ device: 'auto', threads: 1 }, never);
    t.diagnostic(`${device}; ${why}`);
    const [, there, here] =
      /a small step takes ([\d.]+) ms there and ([\d.]+) ms/.exec(why ?? '') ?? [];
    assert.equal(device, Number(there) < Number(here) ? 'webgpu' : 'cpu');
  });
});
