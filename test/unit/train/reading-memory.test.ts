import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { GraphMemory } from '../../../node/engine/memory.js';
import { WEIGHT_FORMATS, type WeightFormat } from '../../../node/model/weight-format.js';
import { DRIVER_BYTES, type MachineMemory } from '../../../node/train/memory-plan.js';
import { planReading, type ReadingNeeds } from '../../../node/train/reading-memory.js';
import type { WeightChoice } from '../../../node/train/weight-formats.js';
import { userError } from '../model/fixtures.js';

const MB = 1e6;
const purpose = { doing: 'generating', remedy: 'give a smaller --context,' };

/** MB: of fp32 a copy, of the others what is mapped from files. */
const SIZES: Readonly<Record<WeightFormat, readonly [number, number]>> = {
  fp32: [400, 0],
  bf16: [20, 200],
  int8: [10, 100],
  int4: [10, 55],
};

const needs: ReadingNeeds = {
  formats: WEIGHT_FORMATS,
  graph: (format) => {
    const [weights, evictable] = SIZES[format];
    const graph: GraphMemory = {
      ...{ weights: weights * MB, evictable: evictable * MB, stored: evictable * MB },
      ...{ peak: 8 * MB, operations: 0, largest: format === 'fp32' ? 300 * MB : 8 * MB },
    };
    return Promise.resolve(graph);
  },
};

/** With `free` MB beyond what ONNX Runtime itself takes. */
async function lines(free: number, weights: WeightChoice = 'auto'): Promise<string[]> {
  const room = { processBytes: 100 * MB, free: free * MB + 32 * 2 ** 20, refuse: true };
  return (await planReading(needs, weights, purpose, room)).sentence.split('\n');
}

describe('planReading', () => {
  it('is one line with what is taken, and of how much', async () => {
    assert.deepEqual(await lines(2000), [
      'generating takes about 543 MB of memory (fp32 weights 400 MB, activations 9 MB, the process 134 MB) of 2.1 GB',
    ]);
    assert.deepEqual(await lines(2000, 'int4'), [
      'generating takes about 208 MB of memory (int4 weights 10 MB and 55 MB mapped from files, activations 9 MB, the process 134 MB) of 2.1 GB',
    ]);
  });

  it('takes the most exact format that fits, and says why', async () => {
    assert.deepEqual((await lines(405)).slice(1), [
      'weights bf16: fp32 would take 543 MB, and 539 MB are free',
    ]);
    assert.match((await lines(228)).join(), /weights int8: fp32/);
    assert.match((await lines(118)).join(), /weights int4: fp32/);
  });

  it('is slow where the weights do not fit, and says so', async () => {
    assert.match(
      (await lines(60)).join(),
      /,weights int4: fp32 would take 543 MB, and 194 MB are free; it is slow, as its weights are read from the disk again/,
    );
    assert.match((await lines(60, 'bf16')).join(), /,weights bf16: it is slow/);
  });

  it('refuses what cannot fit, with the sizes and what to do', async () => {
    await assert.rejects(
      lines(10),
      userError(
        /^the model does not fit into memory: generating takes 19 MB \(int4 weights 10 MB and 55 MB mapped from files, activations 9 MB\), but only 10 MB are free: close other programs, give a smaller --context, or take a smaller model$/,
      ),
    );
    await assert.rejects(
      lines(150, 'fp32'),
      userError(/150 MB are free: --weights int8 fits \(253 MB in all\); or close other programs/),
    );
    await assert.rejects(
      lines(50, 'fp32'),
      userError(/--weights int4 fits \(208 MB in all\), slowly; or/),
    );
  });

  it('looks at this machine by itself', async () => {
    const { format, sentence } = await planReading(needs, 'int8', purpose);
    assert.equal(format, 'int8');
    assert.match(sentence, /^generating takes about \d+ MB of memory/);
  });
});

describe('planReading on a GPU', () => {
  const gpu = { device: 'webgpu', bufferMax: 500 * MB, source: 'known' } as const;
  /** With `free` MB beyond what its driver takes. */
  const room = (free: number, changes: Partial<MachineMemory['gpu']> = {}): MachineMemory => ({
    ...{ processBytes: 0, free: free * MB + DRIVER_BYTES },
    ...{ refuse: changes.source !== 'guessed', gpu: { ...gpu, ...changes } },
  });
  const on = async (machine: MachineMemory, weights: WeightChoice = 'auto'): Promise<string> =>
    (await planReading(needs, weights, purpose, machine)).sentence;

  it('holds mapped weights on the device, and takes the most exact format that fits there', async () => {
    assert.equal(
      await on(room(2000)),
      'generating takes about 946 MB of the memory of webgpu (fp32 weights 400 MB, activations 9 MB, its driver 537 MB) of 2.5 GB',
    );
    assert.match(
      await on(room(230)),
      /^generating .*\(bf16 weights 220 MB, .*\nweights bf16: fp32 /,
    );
    assert.match(await on(room(2000, { bufferMax: 200 * MB })), /^generating .*\(bf16 weights/);
  });

  it('is refused with the sizes where it does not fit, and tried where its size is a guess', async () => {
    await assert.rejects(
      on(room(100), 'bf16'),
      userError(
        /^the model does not fit into the memory of webgpu: generating takes 229 MB .*, but only 100 MB are free: --weights int4 fits .* or use --device cpu, /,
      ),
    );
    await assert.rejects(
      on(room(2000, { bufferMax: 200 * MB }), 'fp32'),
      userError(/but one array of it takes 300 MB, and a buffer of the device at most 200 MB: --w/),
    );
    assert.match(
      await on(room(10, { source: 'guessed' })),
      /\(int4 weights 65 MB, .* of 547 MB that it is taken to have \(--gpu-memory\)/,
    );
  });
});
