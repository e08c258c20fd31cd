/** What training takes in memory in one way of doing it, read off its graphs before anything is compiled. */
import type { Device } from '../engine/devices.js';
import type { GraphMemory } from '../engine/memory.js';
import type { MemoryMode } from '../model/memory-mode.js';
import type { WeightFormat } from '../model/weight-format.js';
import type { Replication } from './accumulate.js';
import type { GpuMemorySource } from './gpu-memory.js';

/** How a batch goes through the model, and what that takes; sizes in bytes. */
export interface MemoryPlan {
  /** Sequences in one step of the run, and how many of them go through the model at once. */
  batchSize: number;
  microBatch: number;
  sequenceLength: number;
  /** Copies of the model that compute at the same time, microBatch sequences each. */
  replicas: number;
  memory: MemoryMode;
  /** Of the frozen weights. */
  format: WeightFormat;
  /** What was left open, is preferred to this, and does not fit; the most preferred first. */
  passedOver: PassedOver[];
  /** Frozen weights in the process's own memory, with the graphs around them. */
  weights: number;
  /** Frozen weights mapped from files: the kernel drops these pages when it needs room, and reads them again. */
  evictable: number;
  /** Intermediate values of a part of the batch. */
  activations: number;
  /** Moments of AdamW, sums of gradients, and what crosses to the peer and back. */
  adapter: number;
  /** Code, tokenizer and data: what the process has taken before the model. */
  process: number;
  /** What was still available, beyond `process`, when this was planned. */
  free: number;
  /** Where all of these are of a GPU's memory: `process` is then what its driver takes. Null for the CPU. */
  gpu: GpuPlan | null;
}

/** What counts on a GPU beside the sum. */
export interface GpuPlan {
  device: Device;
  /** Bytes of the largest array, and of the largest that can be had; null where nothing but the sum bounds it. */
  largest: number;
  bufferMax: number | null;
  source: GpuMemorySource;
}

/** A way that does not fit. */
export interface PassedOver {
  format: WeightFormat;
  memory: MemoryMode;
  /** In all, with as few sequences at once as the request allows. */
  bytes: number;
}

/** What the graphs are built for. */
export interface GraphShape {
  microBatch: number;
  sequenceLength: number;
  memory: MemoryMode;
  format: WeightFormat;
}

/** What a plan is made for. */
export interface MemoryNeeds {
  batchSize: number;
  sequenceLength: number;
  /** Sequences at once beyond which a step is no faster: see fastestMicroBatch. */
  fastest: number;
  /** Ways to be faster with more memory, the fastest first: see replications. */
  replications: readonly Replication[];
  /** Coordinates. */
  adapterSize: number;
  /** Whether training is private. Default: false. */
  isPrivate?: boolean;
  /** Formats that frozen weights can have here, the most exact first; at least one. */
  formats: readonly WeightFormat[];
  /** Whether the model's files hold 16-bit weights: bf16 and fp32 are then the same numbers. */
  isHalf: boolean;
  /** What the graphs take that training compiles, in order; each holds it to the end. */
  graphs: (shape: GraphShape) => Promise<readonly GraphMemory[]>;
}

/** What there is to plan with. */
export interface MachineMemory {
  /** What this process takes now. */
  processBytes: number;
  /** What it may still take: see freeMemory. */
  free: number;
  /** Whether what does not fit is refused; else it is tried all the same. */
  refuse: boolean;
  /** Where the memory is a GPU's; absent for the CPU's. */
  gpu?: Omit<GpuPlan, 'largest'>;
}

/** What ONNX Runtime spends on a node, its kernel and its names: 8 to 14 KB in graphs of 500 to 6,000. */
export const NODE_BYTES = 12_000;
/** ONNX Runtime itself: its code, its thread pool, its first buffers. */
export const RUNTIME_BYTES = 32 * 2 ** 20;
/** What its arena takes for buffers is more than the buffers, by blocks too small for what comes next: measured 0.96 to 1.13. */
export const FRAGMENTATION = 1.08;
/**
 * What a GPU's driver takes of its memory before the first weight, with the buffers that cross to it and back: 13 to 34 MB on
 * software, and on cards what their makers say of a context.
 */
export const DRIVER_BYTES = 512 * 2 ** 20;
/** A thread's own JavaScript, and arrays of the adapter's size that are on their way to it and back. */
const REPLICA_BYTES = 40 * 2 ** 20;
const REPLICA_ARRAYS = 4;
/** Arrays of the adapter's size beside adapter and gradient, which the graph counts: the moments. */
export const ADAPTER_ARRAYS = 2;
/** Beside these where a batch goes through the model in parts: the sum of their gradients. */
export const PART_ARRAYS = 1;
/**
 * Pieces of two arrays that came from the peer and went there stay until V8 looks, which it does after so much of them:
 * 46 MB were measured with arrays of 29 MB.
 */
export const PIECES_BYTES = 48 * 2 ** 20;
/** Beside these in private training: the exact sum, in float64. */
export const PRIVATE_ARRAYS = 2;

/** One way of training. */
export interface Way extends GraphShape {
  replicas: number;
}

/** What `way` takes of `machine`. */
export async function predict(
  { batchSize, adapterSize, isPrivate = false, graphs }: MemoryNeeds,
  { replicas, ...shape }: Way,
  { processBytes, free, gpu }: MachineMemory,
): Promise<MemoryPlan> {
  const taken = await graphs(shape);
  if (gpu !== undefined) return predictOnGpu({ batchSize, ...shape }, taken, { free, gpu });
  let [weights, evictable, activations] = [0, 0, 0];
  for (const graph of taken) {
    weights += graph.weights + NODE_BYTES * graph.operations;
    // Graphs of one model map the same pages.
    evictable = Math.max(evictable, graph.evictable);
    activations += FRAGMENTATION * graph.peak;
  }
  const threads = replicas === 1 ? 0 : replicas;
  const isInParts = isPrivate || shape.microBatch < batchSize;
  const arrays = ADAPTER_ARRAYS + (isInParts ? PART_ARRAYS : 0) + (isPrivate ? PRIVATE_ARRAYS : 0);
  const array = 4 * adapterSize;
  return {
    ...{ batchSize, ...shape, replicas, passedOver: [] },
    weights: Math.ceil(replicas * weights) + threads * REPLICA_BYTES,
    evictable,
    activations: Math.ceil(replicas * activations),
    adapter: (arrays + threads * REPLICA_ARRAYS) * array + Math.min(2 * array, PIECES_BYTES),
    process: processBytes + RUNTIME_BYTES,
    free: Math.max(0, free - RUNTIME_BYTES),
    gpu: null,
  };
}

/**
 * Every weight is a buffer of the device, mapped or not; each graph holds its own. Adapter and gradient are among the graph's values, the moments
 * stay in the process.
 */
function predictOnGpu(
  shape: GraphShape & Pick<MemoryPlan, 'batchSize'>,
  graphs: readonly GraphMemory[],
  { free, gpu }: { free: number; gpu: Omit<GpuPlan, 'largest'> },
): MemoryPlan {
  let [weights, activations, largest] = [0, 0, 0];
  for (const graph of graphs) {
    weights += graph.weights + graph.stored;
    activations += Math.ceil(FRAGMENTATION * graph.peak);
    largest = Math.max(largest, graph.largest);
  }
  return {
    ...{ ...shape, replicas: 1, passedOver: [], weights, evictable: 0, activations, adapter: 0 },
    process: DRIVER_BYTES,
    free: Math.max(0, free - DRIVER_BYTES),
    gpu: { ...gpu, largest },
  };
}

/** Bytes that must be free in any case: they stay until the training process ends. */
export function anonymous({
  weights,
  activations,
  adapter,
}: Pick<MemoryPlan, 'weights' | 'activations' | 'adapter'>): number {
  return weights + activations + adapter;
}

/** The same with the weights that are mapped from files: bytes that must be free for a step to be fast. */
export function needed(plan: Pick<MemoryPlan, NeededPart>): number {
  return anonymous(plan) + plan.evictable;
}
type NeededPart = 'weights' | 'activations' | 'adapter' | 'evictable';

/** Whether all of it fits. Where only what is mapped from files does not, steps read that from the disk again and again. */
export function fits(plan: Pick<MemoryPlan, NeededPart | 'free' | 'gpu'>): boolean {
  return needed(plan) <= plan.free && !isTooLargeABuffer(plan);
}

/** Whether it can be done at all, be it slowly. */
export function isPossible(plan: Pick<MemoryPlan, NeededPart | 'free' | 'gpu'>): boolean {
  return anonymous(plan) <= plan.free && !isTooLargeABuffer(plan);
}

/** Whether an array is larger than the GPU has buffers, whatever else is free there. */
export function isTooLargeABuffer({ gpu }: Pick<MemoryPlan, 'gpu'>): boolean {
  return gpu !== null && gpu.bufferMax !== null && gpu.largest > gpu.bufferMax;
}

/** What the user asks for; "auto" leaves it open. */
export interface MemoryRequest {
  /** The most sequences at once. */
  most: number | 'auto';
  memory: MemoryMode | 'auto';
  weights: WeightFormat | 'auto';
}

/** What fits where a request does not. */
export interface Remedy {
  /** With everything left to auto; null where that does not fit either. */
  plan: MemoryPlan | null;
  /** The options that ask for it instead of what was asked for; empty for none. */
  options: string;
  /** Else the longest sequences that do; null for none. */
  sequenceLength: number | null;
}

/** E.g. "640 MB" or "2.4 GB", in the powers of 1000 that disks and messages of systems use. */
export function size(bytes: number): string {
  return bytes < 1e9 ? `${Math.ceil(bytes / 1e6)} MB` : `${(bytes / 1e9).toFixed(1)} GB`;
}
