/**
 * The fold: log -> adapter.   theta = theta0 - sum over epochs of alpha_e g_e
 * with g_e the weighted (or robust: robust.ts) mean of that epoch's rows (dequantised updates), each scaled by
 * staleness and clipped to clip x the median row norm. Float64 in (epoch, peer id) order and only + - * / sqrt and
 * comparison, so that equal logs give equal bits on every machine. Where the beginning of the log has
 * become a checkpoint, its theta takes the place of theta0.
 */
import { initialAdapter } from './adapter.js';
import { EpochFold } from './epoch-fold.js';
import type { UpdateLog } from './log.js';
import type { Run } from './manifest.js';

/** A late update replays from the last snapshot before its epoch; the first ones lie this far apart. */
const SNAPSHOT_EPOCHS = 16;

/** Old snapshots kept besides the base: with age they lie further apart, so a replay is about twice the age. */
const SNAPSHOTS_MAX = 8;

/** The newest epochs have one each: their updates come one after another, and each changes theta. */
const RECENT_EPOCHS = 3;

/** Memory of all snapshots; at least one is kept. */
const SNAPSHOT_BYTES_MAX = 512 * 1024 * 1024;

/** What the fold begins with: theta before `epoch`, [adapterSize] float64, which is not written to. */
export interface FoldBase {
  readonly epoch: number;
  readonly theta: Float64Array;
}

/** Folds one log incrementally: only epochs from the earliest change on are computed again. */
export class Fold {
  readonly #rows: EpochFold;
  #base: FoldBase;
  /** theta before epoch `key`; that of the base is always there. */
  readonly #snapshots: Map<number, Float64Array>;
  readonly #recentMax: number;
  readonly #oldMax: number;
  /** theta after all epochs below #next. */
  #theta: Float64Array;
  #next: number;
  /** Counts what happened to #theta and to epoch #next: whoever folds in pieces begins that epoch again. */
  #version = 0;

  constructor(run: Run, rows = new EpochFold(run), base = initialBase(run)) {
    this.#rows = rows;
    this.#base = base;
    this.#snapshots = new Map([[base.epoch, base.theta]]);
    this.#theta = base.theta.slice();
    this.#next = base.epoch;
    const affordable = Math.max(1, Math.floor(SNAPSHOT_BYTES_MAX / base.theta.byteLength));
    this.#recentMax = Math.min(RECENT_EPOCHS, affordable);
    this.#oldMax = Math.min(SNAPSHOTS_MAX, affordable - this.#recentMax);
  }

  /**
   * Begins with another base from now on. `isSame` says that it is the fold of the log up to there, bit for
   * bit, so that what was folded after it stands.
   */
  rebase(base: FoldBase, { isSame }: { isSame: boolean }): void {
    this.#base = base;
    for (const key of this.#snapshots.keys()) {
      if (!isSame || key < base.epoch) this.#snapshots.delete(key);
    }
    this.#snapshots.set(base.epoch, base.theta);
    if (isSame && this.#next >= base.epoch) return;
    this.#version += 1;
    this.#theta = base.theta.slice();
    this.#next = base.epoch;
  }

  /** Says that the updates of `epoch` changed. */
  invalidate(epoch: number): void {
    if (epoch > this.#next) return;
    this.#version += 1;
    if (epoch === this.#next) return;
    const keys = [...this.#snapshots.keys()].filter((key) => key <= epoch);
    const start = Math.max(this.#base.epoch, ...keys);
    for (const key of this.#snapshots.keys()) if (key > start) this.#snapshots.delete(key);
    this.#theta = (this.#snapshots.get(start) ?? this.#base.theta).slice();
    this.#next = start;
  }

  /** theta of the whole log, [adapterSize] float64; the caller must not write to it. */
  compute(log: UpdateLog): Float64Array {
    const steps = this.steps(log);
    while (steps.next().done !== true);
    return this.#theta;
  }

  /** Rows that compute() has to go through, each of the whole adapter at most. */
  pendingRows(log: UpdateLog): number {
    let rows = 0;
    for (let epoch = this.#next; epoch <= log.newestEpoch; epoch++)
      rows += this.#rows.cost(log.countIn(epoch));
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
    const apply = yield* this.#rows.steps(epoch, log.inEpoch(epoch));
    const recentFrom = log.newestEpoch - this.#recentMax + 1;
    const isDue = epoch % SNAPSHOT_EPOCHS === 0 || epoch >= recentFrom;
    if (epoch > this.#base.epoch && isDue) {
      this.#snapshots.set(epoch, this.#theta.slice());
      this.#thinOut(recentFrom);
    }
    this.#version += 1;
    this.#next += 1;
    apply(this.#theta);
  }

  /** Keeps the base, the snapshots from `recentFrom` on and #oldMax before them. */
  #thinOut(recentFrom: number): void {
    const { epoch: base } = this.#base;
    const old = [...this.#snapshots.keys()].filter((key) => key > base && key < recentFrom);
    for (const key of old) if (key % SNAPSHOT_EPOCHS !== 0) this.#snapshots.delete(key);
    const keys = old.filter((key) => key % SNAPSHOT_EPOCHS === 0).sort((a, b) => a - b);
    if (keys.length <= this.#oldMax) return;
    // The one whose loss lengthens a replay least, as a share of its length.
    const losses = keys.map((key, i) => (key - (keys[i - 1] ?? base)) / (this.#next + 1 - key));
    const least = keys[losses.indexOf(Math.min(...losses))] ?? 0;
    this.#snapshots.delete(least);
  }
}

function initialBase({ manifest }: Run): FoldBase {
  return { epoch: 0, theta: Float64Array.from(initialAdapter(manifest.adapter)) };
}
