import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  gpuBytes,
  gpuMemory,
  GUESSED_GPU_BYTES,
  onGpu,
  type GpuWorld,
} from '../../../node/train/gpu-memory.js';

const MIB = 2 ** 20;

function world(changes: Partial<GpuWorld> = {}): GpuWorld {
  return {
    platform: 'linux',
    run: () => Promise.resolve(null),
    list: () => Promise.resolve([]),
    read: () => Promise.resolve(null),
    totalBytes: 24e9,
    ...changes,
  };
}

/** What amdgpu shows of each card. */
function amd(cards: Readonly<Record<string, readonly [total: number, used: number]>>): GpuWorld {
  return world({
    list: () => Promise.resolve([...Object.keys(cards), 'card0-DP-1', 'version']),
    read: (path) => {
      const [, name = '', what] = /(card\d+)\/device\/mem_info_vram_(\w+)$/.exec(path) ?? [];
      const [total, used] = cards[name] ?? [];
      return Promise.resolve(`${what === 'total' ? total : used}\n`);
    },
  });
}

describe('the memory of a GPU', () => {
  it('is what is asked for, whatever the driver says', async () => {
    const run = (): Promise<string> => Promise.resolve('4000\n');
    const { free, source } = await gpuMemory('cuda', gpuBytes(24), world({ run }));
    assert.deepEqual([free, source], [24e9, 'asked']);
    assert.equal(gpuBytes(null), null);
  });

  it('is what the driver says is free, of several cards the least', async () => {
    const asked: string[] = [];
    const run: GpuWorld['run'] = (program, args) => {
      asked.push([program, ...args].join(' '));
      return Promise.resolve('22000\n14000\n');
    };
    const found = await gpuMemory('cuda', null, world({ run }));
    assert.deepEqual(found, { free: 14_000 * MIB, bufferMax: null, source: 'known' });
    assert.deepEqual(asked, ['nvidia-smi --query-gpu=memory.free --format=csv,noheader,nounits']);
    for (const text of ['', '[N/A]\n', 'No devices were found']) {
      const odd = await gpuMemory('cuda', null, world({ run: () => Promise.resolve(text) }));
      assert.equal(odd.source, 'guessed', text);
    }
    const card = await gpuMemory('webgpu', null, amd({ card1: [16e9, 3e9] }));
    assert.deepEqual([card.free, card.source], [13e9, 'known']);
    // What a processor's graphics keep apart says nothing.
    const own = await gpuMemory('webgpu', null, amd({ card0: [0.5e9, 0.1e9] }));
    assert.equal(own.source, 'guessed');
  });

  it('is a share of a Mac’s, and else a guess after which nothing is refused', async () => {
    const mac = await gpuMemory('webgpu', null, world({ platform: 'darwin' }));
    assert.deepEqual([mac.free, mac.source], [16e9, 'known']);
    const guess = await gpuMemory('dml', null, world({ platform: 'win32' }));
    assert.deepEqual(guess, { free: GUESSED_GPU_BYTES, bufferMax: 2 ** 30, source: 'guessed' });
    assert.equal(onGpu('dml', guess, true).refuse, false);
    assert.equal(onGpu('webgpu', mac, true).refuse, true);
    assert.equal(onGpu('webgpu', mac, false).refuse, false);
  });
});
