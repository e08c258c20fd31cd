import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Program } from '../../../node/engine/executor.js';
import { constant, input } from '../../../node/engine/graph.js';
import { matmul } from '../../../node/engine/ops/index.js';
import type { MemoryMode } from '../../../node/model/memory-mode.js';
import {
  describePlan,
  planMemory,
  type MachineMemory,
  type MemoryPlan,
  type MemoryNeeds,
} from '../../../node/train/memory.js';
import { userError } from '../model/fixtures.js';

const MB = 1e6;

/** A program of b rows of 1000: 4 KB of input, 4 MB of output for each row. */
function rows(b: number): Program {
  const x = input('x', 'float32', [1000 * b, 1]);
  return { outputs: { y: matmul(x, constant(new Float32Array(1000), [1, 1000])) } };
}

function needs(changes: Partial<MemoryNeeds> = {}): MemoryNeeds {
  const programs = (b: number): Promise<Program[]> => Promise.resolve([rows(b), rows(b)]);
  return {
    ...{ batchSize: 12, sequenceLength: 64, adapterSize: 1000, programs },
    ...{ fastest: Infinity, replications: [] },
    ...changes,
  };
}

/** `free` beyond what ONNX Runtime itself takes. */
function machine(free: number, changes: Partial<MachineMemory> = {}): MachineMemory {
  return { processBytes: 100 * MB, free: free + 32 * 2 ** 20, refuse: true, ...changes };
}

/** In the normal mode. */
function planFor(
  needs: MemoryNeeds,
  most: number | 'auto',
  machine: MachineMemory,
): Promise<MemoryPlan> {
  return planMemory(needs, { most, memory: 'normal' }, machine);
}

describe('planMemory', () => {
  it('takes the whole batch where that fits, and adds up what each graph holds', async () => {
    const plan = await planFor(needs(), 'auto', machine(1000 * MB));
    assert.deepEqual([plan.microBatch, plan.batchSize, plan.free], [12, 12, 1000 * MB]);
    // Two graphs, each of 12 rows, and a twelfth more or so for fragmentation.
    const exact = 2 * 12 * (4 * MB + 4000);
    assert.ok(plan.activations > exact && plan.activations < 1.2 * exact);
    assert.ok(plan.weights > 2 * 4000 && plan.weights < 2 * 4000 + 100_000);
    assert.equal(plan.adapter, 12 * 4 * 1000);
    assert.ok(plan.process > 100 * MB);
  });

  it('takes no more at once than make a step fast', async () => {
    for (const [fastest, microBatch] of [
      [1, 1],
      [5, 4],
      [6, 6],
      [12, 12],
    ] as const) {
      const plan = await planFor(needs({ fastest }), 'auto', machine(1000 * MB));
      assert.equal(plan.microBatch, microBatch, `${fastest}`);
    }
    assert.equal((await planFor(needs({ fastest: 2 }), 12, machine(1000 * MB))).microBatch, 12);
  });

  it('finds the largest part that fits, in few looks', async () => {
    const looks: number[] = [];
    const counted = needs({
      batchSize: 4096,
      programs: (b) => {
        looks.push(b);
        return Promise.resolve([rows(b)]);
      },
    });
    const plan = await planFor(counted, 'auto', machine(50 * MB));
    // 11 rows of 4.3 MB would fit; 4096 in 373 parts are 11 each.
    assert.equal(plan.microBatch, 11);
    assert.ok(looks.length < 20, `${looks.length} looks`);
    for (const free of [9, 20, 40, 60, 100]) {
      const { microBatch } = await planFor(needs(), 'auto', machine(free * MB));
      const most = Math.floor((free - 0.1) / 2 / (1.08 * 4.004));
      assert.ok(microBatch <= most, `${microBatch} of at most ${most} in ${free} MB`);
      const parts = Math.ceil(12 / most);
      assert.equal(microBatch, Math.ceil(12 / parts));
    }
  });

  it('takes as many replicas as are no waste, where nobody says how many sequences, and never in low memory', async () => {
    const side = [
      { replicas: 3, microBatch: 2 },
      { replicas: 2, microBatch: 3 },
    ];
    const one = await planFor(needs(), 4, machine(1000 * MB));
    const planned = async (free: number, most: number | 'auto' = 'auto'): Promise<number[]> => {
      const plan = await planFor(needs({ replications: side }), most, machine(free * MB));
      return [plan.replicas, plan.microBatch];
    };
    assert.deepEqual(await planned(2000), [3, 2]);
    // Six sequences at once in two graphs take 53 MB, three threads 126 and two 84.
    assert.deepEqual(await planned(5 * 160), [2, 3]);
    assert.deepEqual(await planned(5 * 120), [1, 12]);
    assert.deepEqual(await planned(2000, 4), [one.replicas, one.microBatch]);
    const request = { most: 'auto', memory: 'low' } as const;
    const low = await planMemory(needs({ replications: side }), request, machine(2000 * MB));
    assert.equal(low.replicas, 1);
  });

  it('takes what is asked for, in equal parts', async () => {
    for (const [most, microBatch] of [
      [1, 1],
      [5, 4],
      [7, 6],
      [12, 12],
      [50, 12],
    ] as const) {
      assert.equal((await planFor(needs(), most, machine(1000 * MB))).microBatch, microBatch);
    }
  });

  it('refuses what cannot fit, with the sizes and what to do', async () => {
    await assert.rejects(
      planFor(needs(), 'auto', machine(5 * MB)),
      userError(
        /^the model does not fit into memory: training 1 sequence of 64 tokens at once takes 9 MB \(weights 1 MB, activations 9 MB, adapter 1 MB\), but only 5 MB are free: leave --memory to auto, close other programs, .*--sequence-length.* smaller model$/,
      ),
    );
    await assert.rejects(
      planFor(needs(), 8, machine(40 * MB)),
      userError(
        /training 6 sequences .* 40 MB are free: leave --micro-batch to auto, leave --memory to auto, close/,
      ),
    );
    const tried = await planFor(needs(), 'auto', machine(5 * MB, { refuse: false }));
    assert.equal(tried.microBatch, 1);
  });
});

describe('planMemory in the modes', () => {
  const factor = { fast: 4, normal: 3, low: 1 };
  const programs: MemoryNeeds['programs'] = (b, memory) =>
    Promise.resolve([rows(factor[memory] * b)]);
  const planned = async (
    free: number,
    memory: MemoryMode | 'auto',
    most: number | 'auto' = 'auto',
    replications: MemoryNeeds['replications'] = [],
  ): Promise<[string, number, number | null]> => {
    const request = { most, memory };
    const one = await planMemory(needs({ programs, replications }), request, machine(free * MB));
    return [one.memory, one.microBatch, one.otherwise && Math.round(one.otherwise / MB)];
  };

  it('is fast where all of it takes a fifth of what is free, and where that is asked for', async () => {
    // Twelve sequences take 208 MB, four 69 MB.
    assert.deepEqual(await planned(5 * 210, 'auto'), ['fast', 12, null]);
    assert.deepEqual(await planned(5 * 200, 'auto'), ['normal', 12, null]);
    assert.deepEqual(await planned(5 * 70, 'auto', 4), ['fast', 4, null]);
    assert.deepEqual(await planned(5 * 65, 'auto', 4), ['normal', 4, null]);
    assert.deepEqual(await planned(5 * 210, 'normal'), ['normal', 12, null]);
    assert.deepEqual(await planned(230, 'fast'), ['fast', 12, null]);
    assert.deepEqual(await planned(110, 'fast'), ['fast', 6, null]);
  });

  it('lays weights out for replicas too, but where that mode is not', async () => {
    const side = [{ replicas: 2, microBatch: 1 }];
    assert.deepEqual(await planned(5 * 150, 'auto', 'auto', side), ['fast', 1, null]);
    assert.deepEqual(await planned(5 * 150, 'normal', 'auto', side), ['normal', 1, null]);
  });

  it('saves memory by parts of a batch first, and by time only where one sequence does not fit', async () => {
    assert.deepEqual(await planned(500, 'auto'), ['normal', 12, null]);
    assert.deepEqual(await planned(30, 'auto'), ['normal', 2, null]);
    assert.deepEqual(await planned(10, 'auto'), ['low', 2, 13]);
    assert.deepEqual(await planned(30, 'low'), ['low', 6, null]);
  });

  it('saves it where the sequences that are asked for do not fit else', async () => {
    assert.deepEqual(await planned(30, 'auto', 2), ['normal', 2, null]);
    assert.deepEqual(await planned(30, 'auto', 4), ['low', 4, 52]);
  });

  it('refuses with the sizes of the mode that takes the least', async () => {
    await assert.rejects(planned(3, 'auto'), userError(/takes 5 MB .* 3 MB are free: close other/));
    await assert.rejects(
      planned(10, 'normal'),
      userError(/14 MB .*: leave --memory to auto, close/),
    );
    await assert.rejects(planned(10, 'fast'), userError(/18 MB .*: leave --memory to auto, close/));
    await assert.rejects(planned(3, 'low'), userError(/takes 5 MB .* 3 MB are free: close other/));
  });
});

describe('describePlan', () => {
  it('is one line with what is taken, of how much, and how a step is cut', () => {
    const plan = {
      ...{ batchSize: 8, microBatch: 3, sequenceLength: 256, replicas: 1 },
      ...{ memory: 'normal' as const, otherwise: null },
      ...{ weights: 1.2e9, activations: 2.04e9, adapter: 117 * MB, process: 160 * MB },
      free: 21e9,
    };
    assert.equal(
      describePlan(plan),
      'training takes about 3.5 GB of memory (weights 1.2 GB, activations 2.0 GB, adapter 117 MB, the process ' +
        '160 MB) of 21.2 GB: the 8 sequences of a step in 3 parts of at most 3',
    );
    assert.match(describePlan({ ...plan, microBatch: 8 }), /: all 8 sequences of a step at once$/);
    assert.match(
      describePlan({ ...plan, memory: 'low', otherwise: 23e9 }),
      /in 3 parts of at most 3, with low memory \(--memory low: slower by about a third\), for one sequence would take 23\.0 GB without$/,
    );
    assert.match(
      describePlan({ ...plan, memory: 'fast' }),
      /in 3 parts of at most 3, with weights laid out for each product \(--memory fast\)$/,
    );
    assert.match(
      describePlan({ ...plan, microBatch: 2, replicas: 2 }),
      /in 4 parts of at most 2, by 2 copies of the model side by side$/,
    );
    assert.match(
      describePlan({ ...plan, batchSize: 1, microBatch: 1 }),
      /: the only sequence of a step at once$/,
    );
  });
});
