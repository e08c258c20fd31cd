/**
 * The fold: log -> adapter.   theta = theta0 - sum over epochs of alpha_e g_e
 * with g_e the weighted (or robust: robust.ts) mean of that epoch's rows (dequantised updates), each scaled by
 * staleness and clipped to clip x the median row norm. Float64 in (epoch, peer id) order and only + - * / sqrt and
 * comparison, so that equal logs give equal bits on every machine.
 */
import { initialAdapter } from './adapter.js';
import type { UpdateLog } from './log.js';
import type { AlphaPhase, Run } from './manifest.js';
import { dequantise } from './quantise.js';
import { norm } from './residual.js';
import { robustMean } from './robust.js';
import { phaseAt, scatterAdd, Slicer, type Slice } from './slice.js';
import type { Update } from './update.js';

/** A late update replays from the last checkpoint before its epoch; the first ones lie this far apart. */
const CHECKPOINT_EPOCHS = 16;

/** Old checkpoints kept besides theta0: with age they lie further apart, so a replay is about twice the age. */
const CHECKPOINTS_MAX = 8;

/** The newest epochs have one each: their updates come one after another, and each changes theta. */
const RECENT_EPOCHS = 3;

/** Memory of all checkpoints; at least one is kept. */
const CHECKPOINT_BYTES_MAX = 512 * 1024 * 1024;

/** Norms of rows, which depend on the update alone: a replay saves one of two passes. */
const norms = new WeakMap<Update, number>();

/** Folds one log incrementally: only epochs from the earliest change on are computed again. */
export class Fold {
  readonly #run: Run;
  readonly #slicer: Slicer;
  readonly #weights: ReadonlyMap<string, number>;
  /** theta before epoch `key`; 0 is always there. */
  readonly #checkpoints: Map<number, Float64Array>;
  readonly #recentMax: number;
  readonly #oldMax: number;
  /** theta after all epochs below #next. */
  #theta: Float64Array;
  #next = 0;
  /** Counts what happened to #theta and to epoch #next: whoever folds in pieces begins that epoch again. */
  #version = 0;

  constructor(run: Run, slicer = new Slicer(run)) {
    this.#run = run;
    this.#slicer = slicer;
    const theta0 = Float64Array.from(initialAdapter(run.manifest.adapter));
    this.#checkpoints = new Map([[0, theta0]]);
    this.#theta = theta0.slice();
    const affordable = Math.max(1, Math.floor(CHECKPOINT_BYTES_MAX / theta0.byteLength));
    this.#recentMax = Math.min(RECENT_EPOCHS, affordable);
    this.#oldMax = Math.min(CHECKPOINTS_MAX, affordable - this.#recentMax);
    const { membership } = run.manifest;
    this.#weights = new Map(
      membership.mode === 'open' ? [] : membership.members.map((m) => [m.peerId, m.weight]),
    );
  }

  /** Says that the updates of `epoch` changed. */
  invalidate(epoch: number): void {
    if (epoch > this.#next) return;
    this.#version += 1;
    if (epoch === this.#next) return;
    const start = Math.max(...[...this.#checkpoints.keys()].filter((key) => key <= epoch));
    for (const key of this.#checkpoints.keys()) if (key > start) this.#checkpoints.delete(key);
    this.#theta = (this.#checkpoints.get(start) ?? this.#theta).slice();
    this.#next = start;
  }

  /** theta of the whole log, [adapterSize] float64; the caller must not write to it. */
  compute(log: UpdateLog): Float64Array {
    const steps = this.steps(log);
    while (steps.next().done !== true);
    return this.#theta;
  }

  /** Rows that compute() has to go through, each of the whole adapter at most; robust, each once for every other. */
  pendingRows(log: UpdateLog): number {
    const isRobust = this.#run.manifest.fold.mode === 'robust';
    let rows = 0;
    for (let epoch = this.#next; epoch <= log.newestEpoch; epoch++) {
      const count = log.countIn(epoch);
      rows += isRobust ? count * count : count;
    }
    return rows;
  }

  /**
   * compute() in pieces of one row, each of which gives its number of coordinates. Between two pieces the
   * log may change and compute() may be called: the result is that of the log at the end, bit for bit.
   */
  *steps(log: UpdateLog): Generator<number> {
    while (this.#next <= log.newestEpoch) {
      const version = this.#version;
      for (const coordinates of this.#foldEpoch(log)) {
        yield coordinates;
        if (this.#version !== version) break;
      }
    }
  }

  /** Folds epoch #next, unless the caller gives up half-way: then nothing has changed. */
  *#foldEpoch(log: UpdateLog): Generator<number> {
    const epoch = this.#next;
    const slice = this.#slicer.slice(epoch);
    const updates = log.inEpoch(epoch);
    const g = yield* this.#meanRow(updates, slice);
    const recentFrom = log.newestEpoch - this.#recentMax + 1;
    if (epoch > 0 && (epoch % CHECKPOINT_EPOCHS === 0 || epoch >= recentFrom)) {
      this.#checkpoints.set(epoch, this.#theta.slice());
      this.#thinOut(recentFrom);
    }
    this.#version += 1;
    this.#next += 1;
    if (g === null) return;
    const { numerator, denominator } = phaseAt<AlphaPhase>(this.#run.manifest.fold.alpha, epoch);
    scatterAdd(this.#theta, slice, g, -(numerator / denominator));
  }

  /** Keeps the checkpoints from `recentFrom` on and #oldMax before them. */
  #thinOut(recentFrom: number): void {
    const old = [...this.#checkpoints.keys()].filter((key) => key < recentFrom).sort(ascending);
    for (const key of old.slice(1)) {
      if (key % CHECKPOINT_EPOCHS !== 0) this.#checkpoints.delete(key);
    }
    const keys = old.filter((key) => key % CHECKPOINT_EPOCHS === 0);
    if (keys.length <= this.#oldMax + 1) return;
    // The one whose loss lengthens a replay least, as a share of its length.
    const losses = keys.slice(1).map((key, i) => (key - (keys[i] ?? 0)) / (this.#next + 1 - key));
    const least = keys[losses.indexOf(Math.min(...losses)) + 1] ?? 0;
    this.#checkpoints.delete(least);
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
    return this.#weights.get(author) ?? 1;
  }
}

/** Weight of an update whose base was folded `lag` epochs earlier: 1 up to 2, then 2 / lag. */
export function staleness({ epoch, baseEpoch }: Pick<Update, 'epoch' | 'baseEpoch'>): number {
  const lag = epoch - baseEpoch;
  return lag <= 2 ? 1 : 2 / lag;
}

function ascending(a: number, b: number): number {
  return a - b;
}

/** Mean of the two middle values when their number is even; 0 for none. */
function median(values: readonly number[]): number {
  const sorted = [...values].sort(ascending);
  const middle = sorted.length >>> 1;
  if (sorted.length % 2 === 1) return sorted[middle] ?? 0;
  return ((sorted[middle - 1] ?? 0) + (sorted[middle] ?? 0)) / 2;
}
