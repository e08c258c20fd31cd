/**
 * What the peer and its training process say to each other over the IPC channel of child_process.fork
 * (structured clone). Every message is checked on arrival: the two must be of one version. What is as large as the
 * adapter goes in pieces (adapter-arrays.ts).
 */
import { z } from 'zod';
import { DEVICES } from '../engine/devices.js';
import { EXIT_FAILURE, EXIT_USAGE } from '../errors.js';
import { MEMORY_MODES } from '../model/memory-mode.js';
import { WEIGHT_FORMATS } from '../model/weight-format.js';
import { ADAPTER_ARRAYS, PIECE_COORDINATES } from './adapter-arrays.js';
import { GPU_MEMORY_SOURCES } from './gpu-memory.js';

const piece = z.custom<Float32Array>(
  (value) => value instanceof Float32Array && value.length > 0 && value.length <= PIECE_COORDINATES,
);
const bytes = z.custom<Uint8Array>((value) => value instanceof Uint8Array);
const count = z.int().min(0);

const adapter = z.object({
  rank: z.int().min(1),
  alpha: z.number(),
  seed: bytes,
  targetModules: z.array(z.string()).readonly(),
  modules: z
    .array(z.object({ name: z.string(), inFeatures: count, outFeatures: count }))
    .readonly(),
});

/** See ColumnNames. */
const columnNames = z.object({
  text: z.string().nullable(),
  prompt: z.string().nullable(),
  completion: z.string().nullable(),
  messages: z.string().nullable(),
  acceptDropped: z.boolean().optional(),
  acceptRoles: z.boolean().optional(),
  emptyThoughts: z.boolean().optional(),
});

const training = z.object({
  sequenceLength: z.int().min(2),
  batchSize: z.int().min(1),
  learningRate: z.number(),
  warmupFraction: z.number(),
  finalFraction: z.number(),
  weightDecay: z.number(),
  beta1: z.number(),
  beta2: z.number(),
  epsilon: z.number(),
  gradientNormMax: z.number(),
  resetMoments: z.boolean(),
});

/** See PrivateTraining. */
const privateTraining = z.object({
  noise: z.number().positive(),
  clip: z.number().positive(),
  batchSize: z.int().min(1),
  /** Null: such that a step has batchSize records on average. */
  sampleRate: z.number().positive().max(1).nullable(),
});

/** What a training process trains, and on what: from the manifest, and from this peer's own flags. */
const sessionOptions = z.object({
  /** A Hugging Face model directory. */
  modelDir: z.string(),
  /** The cache of models, where packed copies of weights are kept; absolute. */
  cacheDir: z.string(),
  dataFiles: z.array(z.string()).min(1).readonly(),
  /** Absent: the usual ones. */
  columns: columnNames.optional(),
  adapter,
  training,
  /** The most sequences that go through the model at once; "auto": as many of a step as fit into memory. */
  microBatch: z.union([z.int().min(1), z.literal('auto')]),
  /** Whether to save memory at the price of time; "auto": where it is needed. */
  memory: z.enum(['auto', ...MEMORY_MODES]),
  /** Whether a model that is too large for the free memory is refused before it is tried. */
  refuseTooLarge: z.boolean(),
  run: z.object({ epochsMax: z.int().min(1), stepsRef: z.int().min(1) }),
  /** What the steps run on, and CPU threads for it. */
  device: z.enum(DEVICES),
  threads: z.int().min(1),
  /** Bytes of a GPU's memory that may be used; null or absent: as much as it is known to have free. */
  gpuMemory: z.number().positive().nullable().optional(),
  /** Format of the frozen weights; "auto": the most exact that fits. */
  weights: z.enum(['auto', ...WEIGHT_FORMATS]),
  /** Share of the examples that is only measured on, 0 to 0.5. */
  heldOutShare: z.number().min(0).max(0.5),
  /** Of the order of the examples; the same after a restart. */
  dataSeed: bytes,
  /** Absent: without noise. */
  privacy: privateTraining.optional(),
});
export type SessionOptions = z.infer<typeof sessionOptions>;

const stats = z.object({
  files: count,
  leftOut: count,
  examples: count,
  tokens: count,
  trainedTokens: count,
  heldOutExamples: count,
  heldOutTokens: count,
  cutExamples: count,
  droppedTokens: count,
});

/** See MemoryPlan in memory-plan.ts. */
const memoryPlan = z.object({
  batchSize: count,
  microBatch: z.int().min(1),
  sequenceLength: count,
  replicas: z.int().min(1),
  memory: z.enum(MEMORY_MODES),
  format: z.enum(WEIGHT_FORMATS),
  passedOver: z
    .array(z.object({ format: z.enum(WEIGHT_FORMATS), memory: z.enum(MEMORY_MODES), bytes: count }))
    .max(WEIGHT_FORMATS.length * MEMORY_MODES.length),
  weights: count,
  evictable: count,
  activations: count,
  adapter: count,
  process: count,
  free: count,
  gpu: z
    .object({
      device: z.enum(DEVICES),
      largest: count,
      bufferMax: count.nullable(),
      source: z.enum(GPU_MEMORY_SOURCES),
    })
    .nullable(),
});

/** How far reading the data is. */
const dataProgress = z.object({ records: count, tokens: count });
export type DataProgress = z.infer<typeof dataProgress>;

/** How far the packed copy of the weights is: weights of all that there are. */
const packingProgress = z.object({ packed: count, total: count });
export type PackingProgress = z.infer<typeof packingProgress>;

/** Something to tell people, in one sentence. */
const remark = z.object({ sentence: z.string().max(1000) });

const domainLosses = z.object({
  domain: z.string(),
  base: z.number().nullable(),
  alone: z.number().nullable(),
  swarm: z.number().nullable(),
  personal: z.number().nullable(),
});

const loss = z.union([z.number(), z.nan()]);
const personalExperts = z.object({
  losses: z.object({
    ...{ swarm: loss, continued: loss, alone: loss },
    ...{ single: loss, mixture: loss },
  }),
  end: z.enum(['continued', 'alone']),
  share: z.number(),
  rounds: count,
});

/** What can be asked of a training process: parameters, events while it runs, result. */
export const CALLS = {
  open: {
    params: sessionOptions,
    progress: z.union([memoryPlan, dataProgress, packingProgress, remark]),
    result: z.object({
      device: z.string(),
      /** The format that was chosen, where that was left open. */
      weights: z.enum(WEIGHT_FORMATS),
      stats,
      sampleRate: z.number().nullable(),
    }),
  },
  /** A part of an array of this process, from its parent: see AdapterArrays. */
  write: {
    params: z.object({ array: z.enum(ADAPTER_ARRAYS), start: count, values: piece }),
    progress: z.never(),
    result: z.object({}),
  },
  /** The same back. */
  read: {
    params: z.object({
      array: z.enum(ADAPTER_ARRAYS),
      start: count,
      length: z.int().min(1).max(PIECE_COORDINATES),
    }),
    progress: z.never(),
    result: z.object({ values: piece }),
  },
  /** From theta, as it was written before; then theta is the trained adapter, and m and v are the moments. */
  train: {
    params: z.object({
      epoch: count,
      /** Zeros, those that were written before, or those that the last call of train left. */
      moments: z.discriminatedUnion('from', [
        z.object({ from: z.literal('zero') }),
        z.object({ from: z.literal('written'), step: count }),
        z.object({ from: z.literal('kept') }),
      ]),
      steps: z.int().min(1),
      deadlineMs: z.number(),
    }),
    progress: z.object({ epoch: count, step: count, steps: count, loss: z.number() }),
    result: z.object({
      /** Of the moments. */
      step: count,
      steps: z.int().min(1),
      tokens: count,
      /** NaN when no step was finite. */
      loss: z.union([z.number(), z.nan()]),
      seconds: z.number(),
      skippedSteps: count,
    }),
  },
  /** Of theta, as it was written before. */
  evaluate: {
    params: z.object({}),
    progress: z.never(),
    /** loss: NaN when it is not finite. remark: a sentence on the device; null when there is nothing to say. */
    result: z.object({
      loss: z.union([z.number(), z.nan()]).nullable(),
      remark: z.string().nullable(),
    }),
  },
  measure: {
    params: z.object({}),
    progress: z.never(),
    result: z.object({ stepMs: z.number() }),
  },
  /** theta is the swarm's adapter; theta0 is written too where the run began from an adapter. */
  compare: {
    params: z.object({
      isTheta0Written: z.boolean(),
      /** A name for the table, and the data files whose held-out share is measured. */
      domains: z
        .array(z.object({ name: z.string(), files: z.array(z.string()).min(1).readonly() }))
        .readonly(),
      /** Steps of the comparison adapter by epoch; 0 leaves an epoch out. */
      stepsByEpoch: z.array(count).readonly(),
    }),
    progress: z.object({
      stage: z.enum(['personal', 'alone', 'held-out']),
      done: count,
      total: count,
    }),
    result: z.object({ domains: z.array(domainLosses) }),
  },
  /** As compare; then continued, alone and single are what was made. */
  personal: {
    params: z.object({
      isTheta0Written: z.boolean(),
      /** Steps of the lone adapter by epoch, as in compare. */
      stepsByEpoch: z.array(count).readonly(),
    }),
    progress: z.object({ stage: z.enum(['alone', 'personal']), done: count, total: count }),
    /** See PersonalExperts; null without held-out text. */
    result: z.object({ experts: personalExperts.nullable() }),
  },
} as const;

export type CallName = keyof typeof CALLS;
export type CallParams<K extends CallName> = z.infer<(typeof CALLS)[K]['params']>;
export type CallProgress<K extends CallName> = z.infer<(typeof CALLS)[K]['progress']>;
export type CallResult<K extends CallName> = z.infer<(typeof CALLS)[K]['result']>;

/** Parameters of a comparison together with its adapters, [adapterSize] float32 each. */
export type AdapterParams<K extends 'compare' | 'personal'> = Omit<
  CallParams<K>,
  'isTheta0Written'
> & {
  /** The swarm's. */
  theta: Float32Array;
  /** What the run began from, where that was an adapter; else it is drawn from the seed. */
  theta0?: Float32Array | undefined;
};

/** Calls that may wait for one training process; peer.ts makes one at a time. */
export const PENDING_CALLS_MAX = 8;

/** To the training process. `id` counts up from 1. */
export const requestSchema = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('call'),
    id: count,
    call: z.enum(['open', 'write', 'read', 'train', 'evaluate', 'measure', 'compare', 'personal']),
    params: z.unknown(),
  }),
  z.object({ kind: z.literal('abort'), id: count }),
]);
export type Request = z.infer<typeof requestSchema>;

/** Why a call failed, so that the other side can throw the same class with the same sentence. */
const failure = z.discriminatedUnion('type', [
  z.object({
    type: z.literal('user'),
    message: z.string(),
    exitCode: z.union([z.literal(EXIT_FAILURE), z.literal(EXIT_USAGE)]),
  }),
  z.object({ type: z.literal('aborted') }),
  z.object({ type: z.literal('memory'), message: z.string() }),
  z.object({ type: z.literal('internal'), message: z.string() }),
]);
export type Failure = z.infer<typeof failure>;

/** From the training process, about the call `id`: any number of progress, then result or failed. */
export const replySchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('progress'), id: count, progress: z.unknown() }),
  z.object({ kind: z.literal('result'), id: count, result: z.unknown() }),
  z.object({ kind: z.literal('failed'), id: count, failure }),
]);
export type Reply = z.infer<typeof replySchema>;
