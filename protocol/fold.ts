/**
 * The fold: log -> adapter.   theta = theta0 - sum over epochs of alpha_e g_e
 * with g_e the weighted mean of that epoch's rows (dequantised updates), each scaled by staleness and
 * clipped to clip x the median row norm. Float64 in (epoch, peer id) order and only + - * / sqrt and
 * comparison, so that equal logs give equal bits on every machine.
 */
import { initialAdapter } from './adapter.js';
import type { UpdateLog } from './log.js';
import type { AlphaPhase, Run } from './manifest.js';
import { dequantise } from './quantise.js';
import { norm } from './residual.js';
import { phaseAt, scatterAdd, Slicer } from './slice.js';
import type { Update } from './update.js';

/** A late update replays from the last checkpoint before its epoch; this many epochs lie between two. */
const CHECKPOINT_EPOCHS = 16;

/** Checkpoints kept besides theta0; an update older than the oldest replays from the start. */
const CHECKPOINTS_MAX = 8;

/** Folds one log incrementally: only epochs from the earliest change on are computed again. */
export class Fold {
  readonly #run: Run;
  readonly #slicer: Slicer;
  readonly #weights: ReadonlyMap<string, number>;
  /** theta before epoch `key`; 0 is always there. */
  readonly #checkpoints: Map<number, Float64Array>;
  /** theta after all epochs below #next. */
  #theta: Float64Array;
  #next = 0;

  constructor(run: Run, slicer = new Slicer(run)) {
    this.#run = run;
    this.#slicer = slicer;
    const theta0 = Float64Array.from(initialAdapter(run.manifest.adapter));
    this.#checkpoints = new Map([[0, theta0]]);
    this.#theta = theta0.slice();
    const { membership } = run.manifest;
    this.#weights = new Map(
      membership.mode === 'open' ? [] : membership.members.map((m) => [m.peerId, m.weight]),
    );
  }

  /** Says that the updates of `epoch` changed. */
  invalidate(epoch: number): void {
    if (epoch >= this.#next) return;
    const start = Math.max(...[...this.#checkpoints.keys()].filter((key) => key <= epoch));
    for (const key of this.#checkpoints.keys()) if (key > start) this.#checkpoints.delete(key);
    this.#theta = (this.#checkpoints.get(start) ?? this.#theta).slice();
    this.#next = start;
  }

  /** theta of the whole log, [adapterSize] float64; the caller must not write to it. */
  compute(log: UpdateLog): Float64Array {
    while (this.#next <= log.newestEpoch) {
      if (this.#next % CHECKPOINT_EPOCHS === 0) {
        this.#keepCheckpoint();
      }
      this.#applyEpoch(log.inEpoch(this.#next), this.#next);
      this.#next += 1;
    }
    return this.#theta;
  }

  #keepCheckpoint(): void {
    this.#checkpoints.set(this.#next, this.#theta.slice());
    if (this.#checkpoints.size <= CHECKPOINTS_MAX + 1) return;
    const oldest = Math.min(...[...this.#checkpoints.keys()].filter((key) => key > 0));
    this.#checkpoints.delete(oldest);
  }

  /** theta -= alpha_e g_e, in place. Two passes over the rows: memory stays at one row. */
  #applyEpoch(updates: readonly Update[], epoch: number): void {
    if (updates.length === 0) return;
    const { clip, alpha: phases } = this.#run.manifest.fold;
    const slice = this.#slicer.slice(epoch);
    const row = new Float64Array(slice.coordinates);
    const norms = updates.map((update) => norm(dequantise(update, slice, row)));
    const bound = clip === 0 ? Infinity : clip * median(norms.filter((value) => value > 0));
    const totalWeight = updates.reduce((sum, { author }) => sum + this.#weight(author), 0);
    const g = new Float64Array(slice.coordinates);
    for (const [i, update] of updates.entries()) {
      const length = norms[i] ?? 0;
      const clipped = length > bound ? bound / length : 1;
      const share = (this.#weight(update.author) * staleness(update) * clipped) / totalWeight;
      dequantise(update, slice, row);
      for (let j = 0; j < row.length; j++) g[j] = (g[j] ?? 0) + share * (row[j] ?? 0);
    }
    const { numerator, denominator } = phaseAt<AlphaPhase>(phases, epoch);
    scatterAdd(this.#theta, slice, g, -(numerator / denominator));
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

/** Mean of the two middle values when their number is even; 0 for none. */
function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >>> 1;
  if (sorted.length % 2 === 1) return sorted[middle] ?? 0;
  return ((sorted[middle - 1] ?? 0) + (sorted[middle] ?? 0)) / 2;
}
