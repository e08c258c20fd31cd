/**
 * The engine on ONNX Runtime's WebGPU provider, whatever adapter Vulkan finds: in CI software, in
 * scripts/webgpu-software.sh. Bounds are those of the CPU: WebGPU computes in float32 as well.
 */
import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import { ortExecutor } from '../../node/engine/ort.js';
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
