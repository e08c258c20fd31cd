/**
 * The fold: log -> adapter.   theta = theta0 - sum over epochs of d_e
 * with d_e the weighted (and filtered) or robust mean of that epoch's rows times alpha_e, rounded to whole steps (grid.ts). Sums of
 * steps are exact, so the order in which epochs are added, taken out and added again leaves no trace: a late update
 * costs two epochs of work, however old it is, and equal logs give equal bits on every machine.
 */
import { adapterLayout, initialAdapter } from './adapter.js';
import { littleEndian } from './bytes.js';
import { EpochFold, type Dropped, type EpochSteps, type FoldSource } from './epoch-fold.js';
import { isSumOfSteps, subtractSteps } from './grid.js';
import type { Run } from './manifest.js';
import type { UpdateHeader } from './update.js';

export type { Dropped, FoldSource } from './epoch-fold.js';

/** What the fold begins with: the sum of all epochs below `epoch`, [adapterSize] whole steps. Only read; null for zeros. */
export interface FoldBase {
  readonly epoch: number;
  readonly sum: Float64Array | null;
}

/** Replaces what one epoch did to the sum. */
interface Job {
  readonly epoch: number;
  readonly was: readonly UpdateHeader[];
  readonly will: readonly UpdateHeader[];
  /** From the first change of the sum to the last the job cannot be given up. */
  isApplying: boolean;
  /** Of those that come in; known once it is applying. */
  dropped: readonly Dropped[];
  readonly pieces: Generator<number>;
}

/** Coordinates of a piece of thetaBytes(). */
const PIECE_COORDINATES = 1 << 16;

/** Looking at so many unchanged epochs counts as one piece of LOOK_COORDINATES. */
const LOOKS_PER_PIECE = 256;
const LOOK_COORDINATES = 1 << 16;

/** Folds one log incrementally: only epochs that changed are computed again. */
export class Fold {
  readonly #run: Run;
  readonly #rows: EpochFold;
  readonly #sum: Float64Array;
  /** theta0, once somebody asks for theta. */
  #initial: readonly InitialTensor[] | null = null;
  #baseEpoch = 0;
  /** The updates in the sum, of each epoch that has any. */
  readonly #folded = new Map<number, readonly UpdateHeader[]>();
  /** Those that the filter left out, of each epoch in the sum that has any. */
  readonly #dropped = new Map<number, readonly Dropped[]>();
  /** Epochs below #next that may have changed. */
  readonly #changed = new Set<number>();
  /** The first epoch that was never looked at. */
  #next = 0;
  #job: Job | null = null;
  /** Why the sum is not to be trusted; null normally. */
  #failure: Error | null = null;

  constructor(run: Run, rows = new EpochFold(run), base?: FoldBase) {
    this.#run = run;
    this.#rows = rows;
    this.#sum = new Float64Array(adapterLayout(run.manifest.adapter).size);
    if (base !== undefined) this.rebase(base, { isSame: false });
  }

  /** Says that the updates of `epoch` may have changed. */
  invalidate(epoch: number): void {
    if (epoch >= this.#baseEpoch && epoch < this.#next) this.#changed.add(epoch);
  }

  /**
   * Begins with another base from now on; epochs below it are no longer looked at. `isSame` says that it is the sum
   * of the log up to there, so that what was folded after it stands.
   */
  rebase(base: FoldBase, { isSame }: { isSame: boolean }): void {
    this.#finishApplying();
    if (this.#job !== null) this.#giveUp(this.#job);
    const isUpToDate =
      this.#next >= base.epoch && [...this.#changed].every((epoch) => epoch >= base.epoch);
    this.#baseEpoch = base.epoch;
    if (isSame && isUpToDate) {
      for (const epochs of [this.#folded, this.#dropped])
        for (const epoch of epochs.keys()) if (epoch < base.epoch) epochs.delete(epoch);
      return;
    }
    const { epoch, sum } = base;
    if (sum === null) this.#sum.fill(0);
    else if (sum.length === this.#sum.length && isSumOfSteps(sum, epoch)) this.#sum.set(sum);
    else throw new RangeError(`the base of epoch ${epoch} is not a sum of steps of this adapter`);
    this.#folded.clear();
    this.#dropped.clear();
    this.#changed.clear();
    this.#next = base.epoch;
    this.#failure = null;
  }

  /** Folds all that is due. */
  compute(source: FoldSource): void {
    const steps = this.steps(source);
    while (steps.next().done !== true);
  }

  /** Rows that steps() has to go through, each of the whole adapter at most. */
  pendingRows(source: FoldSource): number {
    const { newestEpoch } = source;
    const rowsOf = (was: readonly UpdateHeader[], will: readonly UpdateHeader[]): number =>
      isSameSet(was, will) ? 0 : this.#rows.cost(was.length) + this.#rows.cost(will.length);
    let rows = this.#job === null ? 0 : rowsOf(this.#job.was, this.#job.will);
    for (const epoch of this.#changed) {
      const was = this.#job?.epoch === epoch ? this.#job.will : (this.#folded.get(epoch) ?? []);
      rows += rowsOf(was, source.inEpoch(epoch));
    }
    for (let epoch = this.#next; epoch <= newestEpoch; epoch++)
      if (!this.#changed.has(epoch))
        rows += rowsOf(this.#folded.get(epoch) ?? [], source.inEpoch(epoch));
    return rows;
  }

  /**
   * compute() in pieces, each of which gives its work in coordinates of rows. Between two pieces the log may change,
   * and everything else here may be called, other steps() included: in the end the sum is that of the log.
   */
  *steps(source: FoldSource): Generator<number> {
    let looks = 0;
    for (;;) {
      this.#throwFailure();
      if (this.#job !== null) {
        // Whoever runs between two pieces may have gone on with the job, or begun the next one.
        const work = this.#advance(this.#job);
        if (work > 0) yield work;
        continue;
      }
      if (!this.#look(source)) return;
      looks += 1;
      if (looks % LOOKS_PER_PIECE === 0) yield LOOK_COORDINATES;
    }
  }

  /**
   * The sum of all epochs that were folded, [adapterSize] whole steps; not to be written to. An epoch that is being
   * folded in pieces counts whole or not at all: what has begun to change the sum is finished first.
   */
  sum(): Float64Array {
    this.#throwFailure();
    this.#finishApplying();
    return this.#sum;
  }

  /** The updates that the filter left out of each epoch that is in the sum: by epoch, in no order. */
  dropped(): ReadonlyMap<number, readonly Dropped[]> {
    return this.#dropped;
  }

  /** The adapter as far as it was folded (see sum), [adapterSize] float32, into `out` when given. */
  theta(out: Float32Array = new Float32Array(this.#sum.length)): Float32Array {
    const sum = this.sum();
    for (const { offset, length, values } of this.#tensors()) {
      const end = offset + length;
      subtractSteps(values, sum.subarray(offset, end), out.subarray(offset, end));
    }
    return out;
  }

  /** The bytes of theta() in little-endian order, in pieces that hold until the next one: for a hash of it. */
  *thetaBytes(): Generator<Uint8Array> {
    const sum = this.sum();
    const scratch = new Float32Array(PIECE_COORDINATES);
    for (const { offset, length, values } of this.#tensors()) {
      for (let start = 0; start < length; start += PIECE_COORDINATES) {
        const end = Math.min(start + PIECE_COORDINATES, length);
        const piece = scratch.subarray(0, end - start);
        const initial = values?.subarray(start, end) ?? null;
        subtractSteps(initial, sum.subarray(offset + start, offset + end), piece);
        yield littleEndian(piece);
      }
    }
  }

  #tensors(): readonly InitialTensor[] {
    this.#initial ??= initialTensors(this.#run);
    return this.#initial;
  }

  /** Begins a job if the next epoch that may have changed has. Returns false when there is none left. */
  #look(source: FoldSource): boolean {
    const [changed] = this.#changed;
    if (changed === undefined && this.#next > source.newestEpoch) return false;
    const epoch = changed ?? this.#next++;
    this.#changed.delete(epoch);
    const was = this.#folded.get(epoch) ?? [];
    const will = [...source.inEpoch(epoch)];
    if (!isSameSet(was, will)) this.#begin(epoch, was, will, source);
    return true;
  }

  #begin(
    epoch: number,
    was: readonly UpdateHeader[],
    will: readonly UpdateHeader[],
    source: FoldSource,
  ): void {
    const prepare = (headers: readonly UpdateHeader[]): Generator<number, EpochSteps> =>
      this.#rows.prepare(epoch, headers, source);
    const pieces = function* (this: Fold): Generator<number> {
      const [out, into] = [yield* prepare(was), yield* prepare(will)];
      job.isApplying = true;
      job.dropped = into.dropped;
      yield* out.addTo(this.#sum, -1);
      yield* into.addTo(this.#sum, 1);
    }.call(this);
    const job: Job = { epoch, was, will, isApplying: false, dropped: [], pieces };
    this.#job = job;
  }

  /** Does one piece of the job; returns its work, 0 when it was the end. */
  #advance(job: Job): number {
    // Nothing has changed yet, and it would be for updates that are not the log's any more.
    if (!job.isApplying && this.#changed.has(job.epoch)) {
      this.#giveUp(job);
      return 0;
    }
    try {
      const piece = job.pieces.next();
      if (piece.done !== true) return piece.value;
    } catch (error) {
      this.#giveUp(job);
      if (job.isApplying)
        this.#failure = new RangeError(`folding epoch ${job.epoch} failed half-way`, {
          cause: error,
        });
      throw error;
    }
    this.#job = null;
    if (job.will.length === 0) this.#folded.delete(job.epoch);
    else this.#folded.set(job.epoch, job.will);
    if (job.dropped.length === 0) this.#dropped.delete(job.epoch);
    else this.#dropped.set(job.epoch, job.dropped);
    return 0;
  }

  #giveUp(job: Job): void {
    this.#job = null;
    this.#changed.add(job.epoch);
  }

  #finishApplying(): void {
    while (this.#job?.isApplying === true) this.#advance(this.#job);
  }

  #throwFailure(): void {
    if (this.#failure !== null) throw this.#failure;
  }
}

/** One tensor of theta0; no values where they are all zero, which is the case of half of them. */
interface InitialTensor {
  readonly offset: number;
  readonly length: number;
  readonly values: Float32Array | null;
}

function initialTensors({ manifest }: Run): InitialTensor[] {
  const theta = initialAdapter(manifest.adapter);
  return adapterLayout(manifest.adapter).tensors.map(({ offset, length }) => {
    const values = theta.slice(offset, offset + length);
    const isZero = values.every((value) => Object.is(value, 0));
    return { offset, length, values: isZero ? null : values };
  });
}

/** Both in ascending order of peer id. An id names the signed header, and that its body. */
function isSameSet(a: readonly UpdateHeader[], b: readonly UpdateHeader[]): boolean {
  return a.length === b.length && a.every(({ id }, i) => id === b[i]?.id);
}

/** The adapter of a whole log at once, [adapterSize] float32. */
export function foldOnce(run: Run, source: FoldSource): Float32Array {
  const fold = new Fold(run);
  fold.compute(source);
  return fold.theta();
}
