import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { GraphMemory } from '../../../node/engine/memory.js';
import type { MemoryMode } from '../../../node/model/memory-mode.js';
import type { WeightFormat } from '../../../node/model/weight-format.js';
import { longestSequence, planMemory } from '../../../node/train/memory.js';
import {
  ADAPTER_ARRAYS,
  DRIVER_BYTES,
  PART_ARRAYS,
  FRAGMENTATION,
  PRIVATE_ARRAYS,
  type GraphShape,
  type MachineMemory,
  type MemoryNeeds,
  type MemoryRequest,
} from '../../../node/train/memory-plan.js';
import { userError } from '../model/fixtures.js';

const MB = 1e6;

/** MB of weights in the process, MB mapped from files, and MB of activations for each sequence of 64 tokens. */
type Sizes = readonly [weights: number, evictable: number, activations: number];

function graph([weights, evictable, activations]: Sizes, shape: GraphShape): GraphMemory {
  const sequences = (shape.microBatch * shape.sequenceLength) / 64;
  return {
    weights: weights * MB,
    evictable: evictable * MB,
    stored: evictable * MB,
    peak: (activations * MB * sequences) / FRAGMENTATION,
    operations: 0,
    largest: activations * MB * sequences,
  };
}

/** A model of 100 M parameters in files of 16 bits, whose fp32 weights are copied and whose others are mapped. */
function sizes(format: WeightFormat, memory: MemoryMode): Sizes {
  const activations = { fast: 40, normal: 40, low: 10 }[memory];
  switch (format) {
    case 'fp32':
      return [memory === 'fast' ? 800 : 400, 0, activations];
    case 'bf16':
      return [20, 200, activations];
    case 'int8':
      return [10, 100, activations];
    case 'int4':
      return [10, 55, activations];
  }
}

function needs(changes: Partial<MemoryNeeds> = {}): MemoryNeeds {
  return {
    ...{ batchSize: 12, sequenceLength: 64, adapterSize: 0, isHalf: true },
    ...{ fastest: Infinity, replications: [], formats: ['fp32', 'bf16', 'int8', 'int4'] },
    graphs: (shape) => Promise.resolve([graph(sizes(shape.format, shape.memory), shape)]),
    ...changes,
  };
}

/** `free` MB beyond what ONNX Runtime itself takes. */
function machine(free: number, changes: Partial<MachineMemory> = {}): MachineMemory {
  return { processBytes: 100 * MB, free: free * MB + 32 * 2 ** 20, refuse: true, ...changes };
}

const OPEN: MemoryRequest = { most: 'auto', memory: 'auto', weights: 'auto' };

/** Format, mode, sequences at once; what was passed over. */
async function planned(
  free: number,
  request: Partial<MemoryRequest> = {},
  changes: Partial<MemoryNeeds> = {},
): Promise<[string, string[]]> {
  const plan = await planMemory(needs(changes), { ...OPEN, ...request }, machine(free));
  const { format, memory, microBatch, replicas, passedOver } = plan;
  return [
    `${format} ${memory} ${microBatch}${replicas > 1 ? ` x${replicas}` : ''}`,
    passedOver.map((one) => `${one.format} ${one.memory}`),
  ];
}

describe('planMemory with formats', () => {
  it('takes the most exact format that fits, and bf16 before fp32 in low memory where files hold 16 bits', async () => {
    assert.deepEqual(await planned(441), ['fp32 normal 1', []]);
    assert.deepEqual(await planned(439), ['bf16 normal 4', ['fp32 normal']]);
    assert.deepEqual(await planned(261), ['bf16 normal 1', ['fp32 normal']]);
    assert.deepEqual(await planned(259), ['bf16 low 3', ['fp32 normal', 'bf16 normal']]);
    const bf16 = ['fp32 normal', 'bf16 normal', 'bf16 low'];
    assert.deepEqual(await planned(229), ['int8 normal 2', bf16]);
    assert.deepEqual(await planned(149), ['int8 low 3', [...bf16, 'int8 normal']]);
    assert.deepEqual(await planned(119), ['int4 normal 1', [...bf16, 'int8 normal', 'int8 low']]);
    assert.equal((await planned(104))[0], 'int4 low 3');
  });

  it('takes fp32 in low memory where files hold 32 bits, which bf16 would round', async () => {
    const exact = { isHalf: false };
    assert.deepEqual(await planned(439, {}, exact), ['fp32 low 3', ['fp32 normal']]);
    assert.deepEqual(await planned(409, {}, exact), ['bf16 normal 4', ['fp32 normal', 'fp32 low']]);
  });

  it('takes the format and the mode that are asked for, and only what they leave open', async () => {
    assert.deepEqual(await planned(5000, { weights: 'int4' }), ['int4 normal 12', []]);
    assert.deepEqual(await planned(5000, { weights: 'int4', memory: 'low' }), ['int4 low 12', []]);
    assert.deepEqual(await planned(5000, { memory: 'low' }), ['bf16 low 12', []]);
    assert.deepEqual(await planned(420, { weights: 'fp32' }), ['fp32 low 2', ['fp32 normal']]);
    assert.deepEqual(await planned(5000, {}, { formats: ['fp32'] }), ['fp32 normal 12', []]);
  });

  it('gives up exactness for as many sequences at once as are asked for, and not for more', async () => {
    assert.deepEqual(await planned(441, { most: 4 }), ['bf16 normal 4', ['fp32 normal']]);
    assert.deepEqual(await planned(441, { most: 1 }), ['fp32 normal 1', []]);
  });

  it('pages the leanest format where none fits wholly, and refuses where that does not fit either', async () => {
    const all = ['fp32 normal', 'bf16 normal', 'bf16 low', 'int8 normal', 'int8 low'];
    assert.deepEqual(await planned(70), ['int4 low 1', [...all, 'int4 normal']]);
    assert.deepEqual(await planned(21), ['int4 low 1', [...all, 'int4 normal']]);
    await assert.rejects(
      planned(19),
      userError(/takes 20 MB beside what is mapped from files .*19 MB are free/),
    );
    assert.deepEqual(await planned(100, { weights: 'bf16' }), ['bf16 low 1', ['bf16 normal']]);
    const tried = await planMemory(needs(), OPEN, machine(5, { refuse: false }));
    assert.deepEqual([tried.format, tried.memory, tried.microBatch], ['int4', 'low', 1]);
  });

  it('refuses with the sizes, and with the options that fit or else the sequences that do', async () => {
    await assert.rejects(
      planned(120, { weights: 'fp32' }),
      userError(
        /^the model does not fit into memory: training 1 sequence of 64 tokens at once takes 410 MB \(fp32 weights 400 MB, activations 10 MB, adapter 0 MB\), but only 120 MB are free: --weights int8 fits \(254 MB in all\); or close other programs$/,
      ),
    );
    await assert.rejects(
      planned(50, { weights: 'fp32' }),
      userError(/: --weights int4 fits \(209 MB in all\), slowly; or close/),
    );
    await assert.rejects(
      planned(200, {}, { sequenceLength: 2048, formats: ['int8'] }),
      userError(
        /2048 tokens at once takes 330 MB .*: sequences of 576 tokens fit \(--sequence-length, /,
      ),
    );
    await assert.rejects(
      planned(5),
      userError(/5 MB are free: close other programs, or take a smaller model$/),
    );
  });

  it('looks at each way once', async () => {
    const seen: string[] = [];
    const graphs: MemoryNeeds['graphs'] = (shape) => {
      seen.push(`${shape.format} ${shape.memory} ${shape.microBatch}`);
      return Promise.resolve([graph(sizes(shape.format, shape.memory), shape)]);
    };
    await planned(70, {}, { graphs });
    assert.equal(seen.length, 7);
    assert.equal(new Set(seen).size, 7);
  });
});

describe('planMemory with sequences', () => {
  const int8 = { weights: 'int8' } as const;

  it('adds up what each graph holds, and counts what is mapped from files once', async () => {
    const graphs: MemoryNeeds['graphs'] = (shape) => {
      const one = { ...graph([10, 100, 4], shape), operations: 100 };
      return Promise.resolve([one, one]);
    };
    const plan = await planMemory(needs({ graphs, adapterSize: 1000 }), OPEN, machine(1000));
    assert.deepEqual([plan.microBatch, plan.batchSize, plan.free], [12, 12, 1000 * MB]);
    assert.equal(plan.weights, 2 * (10 * MB + 100 * 12_000));
    assert.equal(plan.evictable, 100 * MB);
    assert.ok(Math.abs(plan.activations - 2 * 12 * 4 * MB) < 10);
    const onTheWay = 2;
    assert.equal(plan.adapter, (ADAPTER_ARRAYS + onTheWay) * 4 * 1000);
    const hidden = needs({ graphs, adapterSize: 1000, isPrivate: true });
    const { adapter } = await planMemory(hidden, OPEN, machine(1000));
    const arrays = ADAPTER_ARRAYS + onTheWay + PART_ARRAYS;
    assert.equal(adapter, (arrays + PRIVATE_ARRAYS) * 4 * 1000);
    assert.ok(plan.process > 100 * MB);
    const inParts = needs({ graphs, adapterSize: 1000, fastest: 3 });
    const parts = await planMemory(inParts, OPEN, machine(1000));
    assert.equal(parts.adapter, arrays * 4 * 1000, 'a sum of gradients');
  });

  it('takes no more at once than make a step fast', async () => {
    for (const [fastest, microBatch] of [
      [1, 1],
      [5, 4],
      [6, 6],
      [12, 12],
    ] as const) {
      assert.equal((await planned(1000, int8, { fastest }))[0], `int8 normal ${microBatch}`);
    }
    assert.equal((await planned(1000, { ...int8, most: 12 }, { fastest: 2 }))[0], 'int8 normal 12');
  });

  it('takes what is asked for, in equal parts', async () => {
    for (const [most, microBatch] of [
      [1, 1],
      [5, 4],
      [7, 6],
      [12, 12],
      [50, 12],
    ] as const) {
      assert.equal((await planned(1000, { ...int8, most }))[0], `int8 normal ${microBatch}`);
    }
  });

  it('finds the largest part that fits, in few looks', async () => {
    const looks: number[] = [];
    const graphs: MemoryNeeds['graphs'] = (shape) => {
      looks.push(shape.microBatch);
      return Promise.resolve([graph([10, 100, 4], shape)]);
    };
    // 110 MB of weights, and 11 sequences of 4 MB; 4096 in 373 parts are 11 each.
    const [way] = await planned(156, int8, { graphs, batchSize: 4096 });
    assert.equal(way, 'int8 normal 11');
    assert.ok(looks.length < 20, `${looks.length} looks`);
    for (const free of [120, 130, 140, 155]) {
      const most = Math.floor((free - 110) / 4);
      const parts = Math.ceil(12 / most);
      assert.equal(
        (await planned(free, int8, { graphs }))[0],
        `int8 normal ${Math.ceil(12 / parts)}`,
      );
    }
  });
});

describe('planMemory with memory to spare', () => {
  it('lays fp32 weights out where all of that takes a fifth of what is free', async () => {
    // 800 MB, and 40 for each of 12 sequences.
    assert.equal((await planned(5 * 1281))[0], 'fp32 fast 12');
    assert.equal((await planned(5 * 1279))[0], 'fp32 normal 12');
    assert.equal((await planned(5 * 961, { most: 4 }))[0], 'fp32 fast 4');
    assert.equal((await planned(5 * 1281, { memory: 'normal' }))[0], 'fp32 normal 12');
    assert.equal((await planned(1290, { memory: 'fast' }))[0], 'fp32 fast 12');
    assert.equal((await planned(5000, { weights: 'bf16' }))[0], 'bf16 normal 12');
  });

  it('takes as many replicas as are no waste, where nobody says how many sequences, and never in low memory', async () => {
    const replications = [
      { replicas: 3, microBatch: 2 },
      { replicas: 2, microBatch: 3 },
    ];
    const way = async (free: number, request: Partial<MemoryRequest>): Promise<string> =>
      (await planned(free, request, { replications }))[0];
    const normal = { weights: 'int8', memory: 'normal' } as const;
    // 6 sequences take 240 MB, each copy 10 and its thread 42, and all of them map the same 100.
    assert.equal(await way(5 * 500, normal), 'int8 normal 2 x3');
    assert.equal(await way(5 * 470, normal), 'int8 normal 3 x2');
    assert.equal(await way(5 * 430, normal), 'int8 normal 12');
    assert.equal(await way(5 * 500, { ...normal, most: 4 }), 'int8 normal 4');
    assert.equal(await way(5 * 500, { ...normal, memory: 'low' }), 'int8 low 12');
    assert.equal(await way(5 * 3000, {}), 'fp32 fast 2 x3');
  });
});

describe('longestSequence', () => {
  const longest = (free: number, most: number, request: Partial<MemoryRequest> = {}) =>
    longestSequence(needs(), { ...OPEN, ...request }, machine(free), most);

  it('is the longest that fits in the leanest way left open, in steps of 64, below them of 8', async () => {
    // int4 in low memory: 65 MB, and 10 MB for each 64 tokens.
    assert.equal(await longest(5000, 2048), 2048);
    assert.equal(await longest(5000, 100), 100);
    assert.equal(await longest(116, 2048), 5 * 64);
    assert.equal(await longest(75, 2048), 64);
    assert.equal(await longest(74, 2048), 56);
    assert.equal(await longest(600, 2048, { weights: 'fp32' }), 20 * 64);
    assert.equal(await longest(600, 2048, { weights: 'fp32', memory: 'normal' }), 5 * 64);
  });

  it('need not hold what is mapped from files where that never fits, and is null where nothing fits', async () => {
    assert.equal(await longest(50, 2048), 4 * 64);
    assert.equal(await longest(12, 2048), 8);
    assert.equal(await longest(11, 2048), null);
    assert.equal(await longest(11, 8), null);
  });

  it('looks at few lengths', async () => {
    let looks = 0;
    const graphs: MemoryNeeds['graphs'] = (shape) => {
      looks++;
      return Promise.resolve([graph([10, 55, 10], shape)]);
    };
    assert.equal(await longestSequence(needs({ graphs }), OPEN, machine(1000), 131_072), 93 * 64);
    assert.ok(looks <= 13, `${looks} looks`);
  });
});

describe('planMemory on a GPU', () => {
  const gpu = { device: 'webgpu', bufferMax: null, source: 'known' } as const;
  /** With `free` MB beyond what its driver takes. */
  const room = (free: number, changes: Partial<MachineMemory['gpu']> = {}): MachineMemory => ({
    ...{ processBytes: 0, free: free * MB + DRIVER_BYTES },
    ...{ refuse: changes.source !== 'guessed', gpu: { ...gpu, ...changes } },
  });
  const planned = async (
    machine: MachineMemory,
    request: Partial<MemoryRequest> = {},
  ): Promise<string> => {
    const changes = { formats: ['bf16', 'int8', 'int4'], replications: [] } as const;
    const many = [{ replicas: 4, microBatch: 3 }];
    const plan = await planMemory(
      needs({ ...changes, replications: many }),
      { ...OPEN, ...request },
      machine,
    );
    const { format, memory, microBatch, replicas, evictable } = plan;
    assert.deepEqual([replicas, evictable], [1, 0]);
    return `${format} ${memory} ${microBatch}`;
  };

  it('holds mapped weights as well: the most exact format and the most sequences that fit, and no copies', async () => {
    assert.equal(await planned(room(5000)), 'bf16 normal 12');
    assert.equal(await planned(room(700)), 'bf16 normal 12');
    assert.equal(await planned(room(699)), 'bf16 normal 6');
    assert.equal(await planned(room(259)), 'bf16 low 3');
    assert.equal(await planned(room(229)), 'int8 normal 2');
    assert.equal(await planned(room(75)), 'int4 low 1');
  });

  it('has no array that is larger than a buffer of the device', async () => {
    assert.equal(await planned(room(5000, { bufferMax: 100 * MB })), 'bf16 normal 2');
    assert.equal(await planned(room(5000, { bufferMax: 39 * MB })), 'bf16 low 3');
    await assert.rejects(
      planned(room(5000, { bufferMax: 9 * MB })),
      userError(
        /^the model does not fit into the memory of webgpu: training 1 sequence of 64 tokens at once takes 75 MB \(int4 weights 65 MB, activations and adapter 10 MB\), but one array of it takes 10 MB, and a buffer of the device at most 9 MB: sequences of 56 tokens fit /,
      ),
    );
  });

  it('is refused with the sizes and with what fits, and tried where its size is a guess', async () => {
    await assert.rejects(
      planned(room(200), { weights: 'bf16' }),
      userError(
        /takes 230 MB \(bf16 weights 220 MB, .*\), but only 200 MB are free: --weights int8 fits \(727 MB in all\); or close other programs that use the GPU, or use --device cpu$/,
      ),
    );
    await assert.rejects(
      planned(room(70)),
      userError(/only 70 MB are free: sequences of 32 tokens/),
    );
    assert.equal(await planned(room(5, { source: 'guessed' })), 'int4 low 1');
  });
});
