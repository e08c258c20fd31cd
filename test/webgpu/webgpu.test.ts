/**
 * The engine on ONNX Runtime's WebGPU provider, whatever adapter Vulkan finds: in CI software, in
 * scripts/webgpu-software.sh. Bounds are those of the CPU: WebGPU computes in float32 as well.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ortExecutor } from '../../node/engine/ort.js';
import { chooseDevice } from '../../node/train/choose-device.js';
import { operationCompliance } from '../compliance/ops.js';
import { referenceAgreement } from '../reference/agreement.js';

const executor = ortExecutor({ threads: 1, device: 'webgpu' });

operationCompliance('WebGPU', () => executor);

referenceAgreement('WebGPU', () => Promise.resolve(executor), ['llama-gqa-tied', 'gpt2']);

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
