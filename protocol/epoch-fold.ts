/** One epoch of the fold: the weighted or robust mean of its rows (docs/PROTOCOL.md, "Fold", steps 1 to 8). */
import type { AlphaPhase, Run } from './manifest.js';
import { dequantise } from './quantise.js';
import { norm } from './residual.js';
import { robustMean } from './robust.js';
import { phaseAt, scatterAdd, Slicer, type Slice } from './slice.js';
import type { Update } from './update.js';

/** Norms of rows, which depend on the update alone: a replay saves one of two passes. */
const norms = new WeakMap<Update, number>();

export class EpochFold {
  readonly #run: Run;
  readonly #slicer: Slicer;
  readonly #weights: ReadonlyMap<string, number>;
  /** Of those that the manifest does not list. */
  readonly #otherWeight: number;

  constructor(run: Run, slicer = new Slicer(run)) {
    this.#run = run;
    this.#slicer = slicer;
    const { membership } = run.manifest;
    this.#weights = new Map(
      membership.mode === 'open' ? [] : membership.members.map((m) => [m.peerId, m.weight]),
    );
    this.#otherWeight = membership.mode === 'invite' ? membership.inviteWeight : 1;
  }

  /**
   * Folds `updates` of `epoch`, in ascending order of peer id, in pieces of one row, each of which gives its
   * number of coordinates. Returns what changes theta in place; until it is called nothing has changed.
   */
  *steps(
    epoch: number,
    updates: readonly Update[],
  ): Generator<number, (theta: Float64Array) => void> {
    const slice = this.#slicer.slice(epoch);
    const g = yield* this.#meanRow(updates, slice);
    const { numerator, denominator } = phaseAt<AlphaPhase>(this.#run.manifest.fold.alpha, epoch);
    return (theta) => {
      if (g !== null) scatterAdd(theta, slice, g, -(numerator / denominator));
    };
  }

  /** Rows of which `count` updates cost the time: robust, each goes through all. */
  cost(count: number): number {
    return this.#run.manifest.fold.mode === 'robust' ? count * count : count;
  }

  /** g_e, [slice.coordinates]; null without updates. */
  *#meanRow(updates: readonly Update[], slice: Slice): Generator<number, Float64Array | null> {
    if (updates.length === 0) return null;
    const clips = yield* this.#clips(updates, slice);
    const { mode, trimFraction } = this.#run.manifest.fold;
    if (mode === 'mean') return yield* this.#weightedMean(updates, clips, slice);
    const rows = updates.map((update, i) => ({
      quantised: update,
      factor: staleness(update) * (clips[i] ?? 1),
    }));
    return yield* robustMean(rows, slice, trimFraction);
  }

  /** What each row is scaled down by, so that none is longer than clip x the median. */
  *#clips(updates: readonly Update[], slice: Slice): Generator<number, number[]> {
    const { clip } = this.#run.manifest.fold;
    const row = new Float64Array(slice.coordinates);
    const lengths: number[] = [];
    for (const update of updates) {
      lengths.push(this.#norm(update, slice, row));
      yield slice.coordinates;
    }
    const bound = clip === 0 ? Infinity : clip * median(lengths.filter((value) => value > 0));
    return lengths.map((length) => (length > bound ? bound / length : 1));
  }

  /** A second pass over the rows: memory stays at one row. */
  *#weightedMean(
    updates: readonly Update[],
    clips: readonly number[],
    slice: Slice,
  ): Generator<number, Float64Array> {
    const totalWeight = updates.reduce((sum, { author }) => sum + this.#weight(author), 0);
    const row = new Float64Array(slice.coordinates);
    const g = new Float64Array(slice.coordinates);
    for (const [i, update] of updates.entries()) {
      const weight = this.#weight(update.author) * staleness(update);
      const share = (weight * (clips[i] ?? 1)) / totalWeight;
      dequantise(update, slice, row);
      for (let j = 0; j < row.length; j++) g[j] = (g[j] ?? 0) + share * (row[j] ?? 0);
      yield slice.coordinates;
    }
    return g;
  }

  /** Norm of a row; `row` is scratch space. */
  #norm(update: Update, slice: Slice, row: Float64Array<ArrayBuffer>): number {
    const value = norms.get(update) ?? norm(dequantise(update, slice, row));
    norms.set(update, value);
    return value;
  }

  #weight(author: string): number {
    return this.#weights.get(author) ?? this.#otherWeight;
  }
}

/** Weight of an update whose base was folded `lag` epochs earlier: 1 up to 2, then 2 / lag. */
export function staleness({ epoch, baseEpoch }: Pick<Update, 'epoch' | 'baseEpoch'>): number {
  const lag = epoch - baseEpoch;
  return lag <= 2 ? 1 : 2 / lag;
}

/** Mean of the two middle values when their number is even; 0 for none. */
function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >>> 1;
  if (sorted.length % 2 === 1) return sorted[middle] ?? 0;
  return ((sorted[middle - 1] ?? 0) + (sorted[middle] ?? 0)) / 2;
}
