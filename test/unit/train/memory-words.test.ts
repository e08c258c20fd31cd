import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { MemoryPlan } from '../../../node/train/memory-plan.js';
import { describePlan, explainWeights } from '../../../node/train/memory-words.js';

const MB = 1e6;
const GB = 1e9;

const PLAN: MemoryPlan = {
  ...{ batchSize: 8, microBatch: 3, sequenceLength: 256, replicas: 1 },
  ...{ memory: 'normal', format: 'fp32', passedOver: [] },
  ...{ weights: 1.2 * GB, evictable: 0, activations: 2.04 * GB, adapter: 117 * MB },
  ...{ process: 160 * MB, free: 21 * GB, gpu: null },
};

describe('describePlan', () => {
  it('is one line with what is taken, of how much, and how a step is cut', () => {
    assert.equal(
      describePlan(PLAN),
      'training takes about 3.5 GB of memory (fp32 weights 1.2 GB, activations 2.0 GB, adapter 117 MB, the process ' +
        '160 MB) of 21.2 GB: the 8 sequences of a step in 3 parts of at most 3',
    );
    assert.match(describePlan({ ...PLAN, microBatch: 8 }), /: all 8 sequences of a step at once$/);
    assert.match(
      describePlan({ ...PLAN, batchSize: 1, microBatch: 1 }),
      /: the only sequence of a step at once$/,
    );
    assert.match(
      describePlan({ ...PLAN, microBatch: 2, replicas: 2 }),
      /in 4 parts of at most 2, by 2 copies of the model side by side$/,
    );
    assert.match(
      describePlan({ ...PLAN, memory: 'fast' }),
      /in 3 parts of at most 3, with weights laid out for each product \(--memory fast\)$/,
    );
  });

  it('says what low memory saves where nobody asked for it', () => {
    const low: MemoryPlan = { ...PLAN, memory: 'low' };
    const passedOver = [{ format: 'fp32', memory: 'normal', bytes: 23 * GB } as const];
    assert.match(
      describePlan({ ...low, passedOver }),
      /with low memory \(--memory low: slower by about a third\), as one part would take 23\.0 GB without$/,
    );
    assert.match(describePlan(low), /\(--memory low: slower by about a third\)$/);
  });

  it('tells weights that are mapped from files apart', () => {
    assert.match(
      describePlan({ ...PLAN, format: 'int4', weights: 200 * MB, evictable: 4.6 * GB }),
      /takes about 7\.1 GB of memory \(int4 weights 200 MB and 4\.6 GB mapped from files, activations/,
    );
  });
});

describe('describePlan of a GPU', () => {
  const gpu = { device: 'webgpu', largest: 0, bufferMax: null, source: 'known' } as const;

  it('names the device, and says where its size is a guess', () => {
    const plan: MemoryPlan = { ...PLAN, adapter: 0, process: 0.5 * GB, free: 7.5 * GB, gpu };
    assert.equal(
      describePlan(plan),
      'training takes about 3.7 GB of the memory of webgpu (fp32 weights 1.2 GB, activations and adapter 2.0 GB, its ' +
        'driver 500 MB) of 8.0 GB: the 8 sequences of a step in 3 parts of at most 3',
    );
    assert.match(
      describePlan({ ...plan, gpu: { ...gpu, source: 'guessed' } }),
      / of 8\.0 GB that it is taken to have \(--gpu-memory\): the 8 /,
    );
  });
});

describe('explainWeights', () => {
  const passedOver = [
    { format: 'fp32', memory: 'normal', bytes: 33.3 * GB },
    { format: 'bf16', memory: 'normal', bytes: 24 * GB },
    { format: 'int8', memory: 'normal', bytes: 22 * GB },
  ] as const;

  it('says what was passed over, and nothing where there is no reason', () => {
    assert.equal(explainWeights(PLAN), null);
    assert.equal(
      explainWeights({ ...PLAN, format: 'int8', passedOver: [...passedOver] }),
      'weights int8: fp32 would take 33.3 GB, and 21.2 GB are free',
    );
    const low = [{ format: 'fp32', memory: 'normal', bytes: 33.3 * GB } as const];
    assert.equal(explainWeights({ ...PLAN, memory: 'low', passedOver: low }), null);
  });

  it('says that a step is slow, and why, where not all weights fit', () => {
    const paged: MemoryPlan = { ...PLAN, format: 'int4', evictable: 4.6 * GB, free: 6 * GB };
    const slow =
      'each step is slow, as 4.6 GB of weights are mapped from files and only 2.6 GB of memory are left for them, ' +
      'so that they are read from the disk again and again';
    assert.equal(explainWeights(paged), `weights int4: ${slow}`);
    assert.equal(
      explainWeights({ ...paged, passedOver: [...passedOver] }),
      `weights int4: fp32 would take 33.3 GB, and 6.2 GB are free; ${slow}`,
    );
  });
});
