/**
 * What training will take, said before it begins: how many sequences go through the model at once, and a
 * refusal with the sizes where not even one fits. docs/ENGINE.md compares prediction and measurement.
 */
import { graphMemory } from '../engine/memory.js';
import type { Program } from '../engine/executor.js';
import { UserError } from '../errors.js';
import type { MemoryMode } from '../model/memory-mode.js';
import { microBatchSize, type Replication } from './accumulate.js';

/** How the batch of a step goes through the model, and what that takes; sizes in bytes. */
export interface MemoryPlan {
  /** Sequences in one step of the run, and how many of them go through the model at once. */
  batchSize: number;
  microBatch: number;
  sequenceLength: number;
  /** Copies of the model that compute at the same time, microBatch sequences each. */
  replicas: number;
  memory: MemoryMode;
  /** Of low memory that was not asked for: what one sequence would have taken in the normal mode; else null. */
  otherwise: number | null;
  /** Frozen weights in all copies, with the graphs around them, and what it takes to load them. */
  weights: number;
  /** Intermediate values of a part of the batch. */
  activations: number;
  /** Adapter, gradient, moments of AdamW, and what crosses to the peer and back. */
  adapter: number;
  /** Code, tokenizer and data: what the process has taken before the model. */
  process: number;
  /** What was still to be had, beyond `process`, when this was planned. */
  free: number;
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
  /** The graphs that training compiles, in order, for so many sequences at once; each holds what it takes to the end. */
  programs: (microBatch: number, memory: MemoryMode) => Promise<readonly Program[]>;
}

/** What there is to plan with. */
export interface MachineMemory {
  /** What this process takes now. */
  processBytes: number;
  /** What it may still take: see freeMemory. */
  free: number;
  /** Whether what does not fit is refused; else it is tried all the same. */
  refuse: boolean;
}

/** What ONNX Runtime spends on a node, its kernel and its names: 8 to 14 KB in graphs of 500 to 6,000. */
export const NODE_BYTES = 12_000;
/** ONNX Runtime itself: its code, its thread pool, its first buffers. */
export const RUNTIME_BYTES = 32 * 2 ** 20;
/** What its arena takes for buffers is more than the buffers, by blocks too small for what comes next: measured 0.96 to 1.13. */
export const FRAGMENTATION = 1.08;
/** The share of what is free that may go into speed: copies of a model where one can do the work, weights laid out for each product. */
const SPEED_SHARE = 0.2;
/** A thread's own JavaScript, and arrays of the adapter's size that are on their way to it and back. */
const REPLICA_BYTES = 40 * 2 ** 20;
const REPLICA_ARRAYS = 4;
/** Arrays of the adapter's size: as it came, as it is trained, two moments of each, gradients, messages. */
const ADAPTER_ARRAYS = 12;

const MODE_IN_WORDS: Readonly<Record<MemoryMode, string>> = {
  fast: ', with weights laid out for each product (--memory fast)',
  normal: '',
  low: ', with low memory (--memory low: slower by about a third)',
};

/** What the user asks for. */
export interface MemoryRequest {
  /** The most sequences at once; "auto": as many as make a step fast and fit. */
  most: number | 'auto';
  /**
   * "auto": fast where all of it takes SPEED_SHARE at most; low where not one sequence fits else, for that costs a
   * third more time, and a batch in parts costs next to nothing; else normal.
   */
  memory: MemoryMode | 'auto';
}

/** The plan for `request`. Throws UserError with the sizes when the model does not fit, and what programs() throws. */
export async function planMemory(
  needs: MemoryNeeds,
  { most, memory }: MemoryRequest,
  machine: MachineMemory,
): Promise<MemoryPlan> {
  const least = most === 'auto' ? 1 : microBatchSize(needs.batchSize, most);
  const first = await predict(needs, least, memory === 'auto' ? 'normal' : memory, machine);
  if (fits(first)) {
    const fast = await fastWithinShare(needs, { most, memory }, first, machine);
    return fast ?? (most === 'auto' ? largest(needs, first, machine) : first);
  }
  if (memory !== 'auto') return accept(first, machine, memory !== 'low');
  const low = { ...(await predict(needs, least, 'low', machine)), otherwise: needed(first) };
  if (most !== 'auto' || !fits(low)) return accept(low, machine, false);
  return largest(needs, low, machine);
}

/**
 * The fastest plan that the request leaves open and that is no waste of memory; null for none. `least` takes no more than
 * any of them.
 */
async function fastWithinShare(
  needs: MemoryNeeds,
  { most, memory }: MemoryRequest,
  least: MemoryPlan,
  machine: MachineMemory,
): Promise<MemoryPlan | null> {
  if (memory === 'low') return null;
  const room = SPEED_SHARE * least.free;
  const ways = most === 'auto' ? [...needs.replications] : [];
  if (memory === 'auto') {
    const alone = most === 'auto' ? Math.min(needs.batchSize, needs.fastest) : least.microBatch;
    ways.push({ replicas: 1, microBatch: microBatchSize(needs.batchSize, alone) });
  }
  for (const { replicas, microBatch } of ways) {
    // More sequences never take less, and no graph need be built to see that these are too many.
    if (replicas * (least.weights + least.activations) > room) continue;
    const mode = memory === 'auto' ? 'fast' : memory;
    const plan = await predict(needs, microBatch, mode, machine, replicas);
    if (needed(plan) <= room) return plan;
  }
  return null;
}

/** The plan for as many sequences as make a step fast and fit; `least` is that for one. */
async function largest(
  needs: MemoryNeeds,
  least: MemoryPlan,
  machine: MachineMemory,
): Promise<MemoryPlan> {
  const { batchSize, memory, otherwise } = least;
  const plan = async (microBatch: number): Promise<MemoryPlan> => ({
    ...(await predict(needs, microBatchSize(batchSize, microBatch), memory, machine)),
    otherwise,
  });
  const most = Math.min(batchSize, needs.fastest);
  if (most === 1) return least;
  const wanted = await plan(most);
  if (fits(wanted)) return wanted;
  // More sequences never take less, so that halving the range finds the most that fit.
  let best = least;
  for (let low = 1, high = most; high - low > 1;) {
    const middle = (low + high) >>> 1;
    const one = await plan(middle);
    if (fits(one)) [low, best] = [middle, one];
    else high = middle;
  }
  return best;
}

async function predict(
  { batchSize, sequenceLength, adapterSize, programs }: MemoryNeeds,
  microBatch: number,
  memory: MemoryMode,
  { processBytes, free }: MachineMemory,
  replicas = 1,
): Promise<MemoryPlan> {
  let [weights, activations, loading] = [0, 0, 0];
  for (const program of await programs(microBatch, memory)) {
    const graph = graphMemory(program);
    weights += graph.weights + NODE_BYTES * graph.operations;
    // A graph is compiled after the last one has run for the first time.
    loading = Math.max(loading, weights + graph.loading + activations);
    activations += FRAGMENTATION * graph.peak;
  }
  weights = Math.max(weights, loading - activations);
  const threads = replicas === 1 ? 0 : replicas;
  return {
    ...{ batchSize, microBatch, sequenceLength, replicas, memory, otherwise: null },
    weights: Math.ceil(replicas * weights) + threads * REPLICA_BYTES,
    activations: Math.ceil(replicas * activations),
    adapter: (ADAPTER_ARRAYS + threads * REPLICA_ARRAYS) * 4 * adapterSize,
    process: processBytes + RUNTIME_BYTES,
    free: Math.max(0, free - RUNTIME_BYTES),
  };
}

/** What must still be had, in bytes. */
function needed({ weights, activations, adapter }: MemoryPlan): number {
  return weights + activations + adapter;
}

function fits(plan: MemoryPlan): boolean {
  return needed(plan) <= plan.free;
}

function accept(plan: MemoryPlan, { refuse }: MachineMemory, canTakeLess: boolean): MemoryPlan {
  if (!refuse || fits(plan)) return plan;
  const { microBatch, sequenceLength, weights, activations, adapter, free } = plan;
  const fewer = microBatch > 1 ? 'leave --micro-batch to auto, ' : '';
  const less = canTakeLess ? 'leave --memory to auto, ' : '';
  throw new UserError(
    `the model does not fit into memory: training ${sequences(microBatch)} of ${sequenceLength} tokens at once takes ` +
      `${size(needed(plan))} (weights ${size(weights)}, activations ${size(activations)}, adapter ` +
      `${size(adapter)}), but only ${size(free)} are free: ${fewer}${less}close other programs, or take part in a ` +
      'run with shorter sequences (--sequence-length) or a smaller model',
  );
}

/** E.g. "training takes about 3.5 GB of memory (weights 1.2 GB, ...) of 21.1 GB: all 8 sequences of a step at once". */
export function describePlan(plan: MemoryPlan): string {
  const { microBatch, batchSize, replicas, weights, activations, adapter } = plan;
  const { process, free, otherwise } = plan;
  const why = otherwise === null ? '' : `, for one sequence would take ${size(otherwise)} without`;
  const parts = Math.ceil(batchSize / microBatch);
  const how =
    parts === 1
      ? `${batchSize === 1 ? 'the only sequence' : `all ${batchSize} sequences`} of a step at once`
      : `the ${sequences(batchSize)} of a step in ${parts} parts of at most ${microBatch}` +
        (replicas === 1 ? '' : `, by ${replicas} copies of the model side by side`);
  return (
    `training takes about ${size(needed(plan) + process)} of memory (weights ${size(weights)}, activations ` +
    `${size(activations)}, adapter ${size(adapter)}, the process ${size(process)}) of ` +
    `${size(free + process)}: ${how}${MODE_IN_WORDS[plan.memory]}${why}`
  );
}

function sequences(count: number): string {
  return count === 1 ? '1 sequence' : `${count} sequences`;
}

/** E.g. "640 MB" or "2.4 GB", in the powers of 1000 that disks and messages of systems use. */
export function size(bytes: number): string {
  return bytes < 1e9 ? `${Math.ceil(bytes / 1e6)} MB` : `${(bytes / 1e9).toFixed(1)} GB`;
}
