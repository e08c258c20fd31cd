import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { listSupportedBackends } from 'onnxruntime-node';
import {
  DEVICES,
  GPU_DEVICES,
  lackOf,
  remedyFor,
  type Machine,
} from '../../../node/engine/devices.js';

function machine(platform: string, arch: string, paths: readonly string[] = []): Machine {
  const exists = (path: string): boolean => paths.some((one) => path.endsWith(one));
  return { platform, arch, env: {}, exists };
}

describe('lackOf', () => {
  it('says of this platform what ONNX Runtime says of itself', () => {
    const built = listSupportedBackends().map(({ name }) => name);
    const known = DEVICES.filter((device) => lackOf(device)?.isOfPlatform !== true);
    const providers = DEVICES.filter((device) => built.includes(device));
    assert.deepEqual([...known].sort(), [...providers, 'tfjs'].sort());
  });

  it('leaves nobody without the CPU and TensorFlow.js', () => {
    for (const platform of ['linux', 'darwin', 'win32', 'freebsd']) {
      assert.equal(lackOf('cpu', machine(platform, 'arm64')), null);
      assert.equal(lackOf('tfjs', machine(platform, 'arm64')), null);
    }
  });

  it('names the platforms of a device that this one never has', () => {
    assert.deepEqual(lackOf('dml', machine('linux', 'x64')), {
      isOfPlatform: true,
      reason: 'it exists on Windows only, and this is linux on x64',
    });
    assert.equal(lackOf('webgpu', machine('linux', 'arm64'))?.isOfPlatform, true);
    assert.equal(lackOf('coreml', machine('darwin', 'arm64')), null);
  });

  it('sees without trying that a Linux machine has no graphics card', () => {
    const bare = machine('linux', 'x64');
    assert.equal(lackOf('webgpu', bare)?.reason, 'no graphics card found');
    assert.equal(lackOf('webgpu', machine('linux', 'x64', ['/dev/dri'])), null);
    // A driver that was named is tried: it may be software.
    assert.equal(lackOf('webgpu', { ...bare, env: { VK_ICD_FILENAMES: '/x.json' } }), null);
  });

  it('tells a missing NVIDIA card from missing CUDA libraries', () => {
    assert.equal(lackOf('cuda', machine('linux', 'x64'))?.reason, 'no NVIDIA card found');
    const card = machine('linux', 'x64', ['/dev/nvidiactl']);
    assert.equal(lackOf('cuda', card)?.reason, "ONNX Runtime's CUDA libraries are not installed");
    const all = ['/dev/nvidiactl', 'libonnxruntime_providers_cuda.so'];
    assert.equal(lackOf('cuda', machine('linux', 'x64', all)), null);
  });

  it('has a remedy for every GPU, and tries each of them', () => {
    assert.deepEqual([...GPU_DEVICES, 'cpu', 'tfjs'].sort(), [...DEVICES].sort());
    for (const device of GPU_DEVICES) assert.notEqual(remedyFor(device), '');
  });
});
