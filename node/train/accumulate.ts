/**
 * Gradient accumulation: a batch goes through the model a few sequences at a time, where all of them at
 * once would not fit into memory, and the sum is the gradient of the whole batch.
 */
import type { GradientResult, LanguageModel } from '../model/language-model.js';
import { IGNORED_TARGET, type TokenBatch } from '../model/token-batch.js';
import { inTurn } from './in-turn.js';

/**
 * Tokens at once that keep one thread's matrix products busy. More make a step no faster, or slower, where what one
 * operation writes is out of the CPU's caches when the next reads it (docs/ENGINE.md, What paid).
 */
const TOKENS_PER_THREAD = 256;

/** Sequences of `sequenceLength` tokens that go through the model at once where a step is to be fast, on the CPU. */
export function fastestMicroBatch(sequenceLength: number, threads: number): number {
  return Math.max(1, Math.floor((TOKENS_PER_THREAD * threads) / sequenceLength));
}

/** Replicas beyond which the memory for their weights is better spent otherwise. */
const REPLICAS_MAX = 4;

/** Copies of a model that compute at the same time, and the sequences that go through each at once. */
export interface Replication {
  readonly replicas: number;
  readonly microBatch: number;
}

/**
 * How replicas make a step fast on the CPU, the fastest first: each has a thread at least, and as many tokens as keep that
 * busy. Empty where there is no more than one.
 */
export function replications(
  batchSize: number,
  sequenceLength: number,
  threads: number,
): Replication[] {
  const busy = Math.floor((batchSize * sequenceLength) / TOKENS_PER_THREAD);
  const most = Math.max(1, Math.min(REPLICAS_MAX, threads, batchSize, busy));
  return Array.from({ length: most - 1 }, (_, i) => {
    const replicas = most - i;
    const fastest = fastestMicroBatch(sequenceLength, Math.floor(threads / replicas));
    return { replicas, microBatch: microBatchSize(Math.ceil(batchSize / replicas), fastest) };
  });
}

/** Both, as planMemory takes them. */
export function fastestWays(
  batchSize: number,
  sequenceLength: number,
  threads: number,
): { fastest: number; replications: Replication[] } {
  return {
    fastest: fastestMicroBatch(sequenceLength, threads),
    replications: replications(batchSize, sequenceLength, threads),
  };
}

/**
 * Sequences that go through the model at once when at most `most` may, `most` and `batchSize` from 1:
 * the batch in as few parts as that allows, the parts as equal as can be. "auto", where nothing says what fits
 * into memory, is the whole batch.
 */
export function microBatchSize(batchSize: number, most: number | 'auto'): number {
  if (most === 'auto') return batchSize;
  return Math.ceil(batchSize / Math.ceil(batchSize / most));
}

/** Arrays of [adapterSize] float32 in which gradients are computed: made when they are first used, and used again each step. */
export class GradientBuffers {
  readonly #size: number;
  readonly #made = new Map<'sum' | 'part', Float32Array>();
  #exactSum: Float64Array | null = null;

  constructor(size: number) {
    this.#size = size;
  }

  /** Of a step: what its parts come to. */
  get sum(): Float32Array {
    return this.#get('sum');
  }

  /** Of one part, until it is added. */
  get part(): Float32Array {
    return this.#get('part');
  }

  /** Of private training: the sum before it is rounded, [adapterSize] float64. */
  get exactSum(): Float64Array {
    return (this.#exactSum ??= new Float64Array(this.#size));
  }

  #get(name: 'sum' | 'part'): Float32Array {
    const array = this.#made.get(name) ?? new Float32Array(this.#size);
    this.#made.set(name, array);
    return array;
  }
}

/**
 * Loss and gradient of `batch` (B rows) at `theta` ([adapterSize] float32) by a model that takes b rows at
 * once, b from 1 to B. The loss of a batch is a mean over its trained tokens, so each part counts by its share
 * of them. Graphs have static shapes: where b does not divide B, rows in which nothing is trained fill up
 * the last part, which allows any b at the price of computing them. Gives way to the event loop between
 * two parts, where it rejects with `signal.reason`. A part that is not finite makes the result so. The gradient lies in
 * `buffers`, until they are used again.
 */
export async function accumulatedGradient(
  model: AccumulatingModel,
  batch: TokenBatch,
  theta: Float32Array,
  signal: AbortSignal,
  buffers = new GradientBuffers(theta.length),
): Promise<GradientResult> {
  const size = model.batchSize * model.sequenceLength;
  if (batch.tokens.length === size) return model.gradient(batch, theta, buffers.sum);
  const total = trainedTokens(batch);
  const sum: GradientResult = { loss: 0, targets: 0, gradient: buffers.sum.fill(0) };
  // Copies of the model that compute side by side cannot write into one array.
  const one = (model.replicas ?? 1) === 1;
  const gradientOf = (part: TokenBatch): Promise<GradientResult> =>
    one ? model.gradient(part, theta, buffers.part) : model.gradient(part, theta);
  for await (const part of inTurn(partsOf(batch, size), gradientOf, signal, model.replicas)) {
    const { loss, targets, gradient } = part;
    const share = targets / total;
    sum.loss += share * loss;
    sum.targets += targets;
    for (let i = 0; i < gradient.length; i++) sum.gradient[i]! += share * gradient[i]!;
  }
  return sum;
}

/** What accumulatedGradient needs of a model; without `replicas` there is one. */
export type AccumulatingModel = Pick<LanguageModel, 'gradient' | 'batchSize' | 'sequenceLength'> &
  Partial<Pick<LanguageModel, 'replicas'>>;

/** The parts of a batch in which something is trained. */
function* partsOf(batch: TokenBatch, size: number): Generator<TokenBatch> {
  for (let start = 0; start < batch.tokens.length; start += size) {
    const part = rowsOf(batch, start, size);
    if (trainedTokens(part) > 0) yield part;
  }
}

function trainedTokens({ targets }: TokenBatch): number {
  let count = 0;
  for (let i = 0; i < targets.length; i++) if (targets[i] !== IGNORED_TARGET) count++;
  return count;
}

/** Positions `start` to below `start + size`; what lies beyond the batch is padding. */
function rowsOf(
  { tokens, targets, segments }: TokenBatch,
  start: number,
  size: number,
): TokenBatch {
  const end = start + size;
  if (end <= tokens.length) {
    return {
      tokens: tokens.subarray(start, end),
      targets: targets.subarray(start, end),
      segments: segments.subarray(start, end),
    };
  }
  // Token 0 is in every vocabulary.
  const part = {
    tokens: new Int32Array(size),
    targets: new Int32Array(size).fill(IGNORED_TARGET),
    segments: new Int32Array(size),
  };
  part.tokens.set(tokens.subarray(start));
  part.targets.set(targets.subarray(start));
  part.segments.set(segments.subarray(start));
  return part;
}
