/**
 * What a peer holds and what it comes to: the log, its fold, and the last sealed updates. Whatever changes the log says
 * so by changed(); the rest follows.
 */
import { createHash } from 'node:crypto';
import { adapterLayout, initialAdapter } from '../../protocol/adapter.js';
import type { Bodies } from '../../protocol/bodies.js';
import { EpochFold } from '../../protocol/epoch-fold.js';
import { Fold } from '../../protocol/fold.js';
import { UpdateLog } from '../../protocol/log.js';
import type { Run } from '../../protocol/manifest.js';
import { Members } from '../../protocol/members.js';
import type { SealStatement } from '../../protocol/seal.js';
import { RowFormats } from '../../protocol/row-format.js';
import type { UpdateHeader } from '../../protocol/update.js';
import { inPieces } from './pieces.js';
import type { AdapterSnapshot, FilteredUpdate } from './snapshot.js';

/** `status` waits for the fold of so many coordinates: 20 ms at 5 ns. */
const QUICK_COORDINATES = 1 << 22;

/** Sealed epochs whose updates can still be read: a survey of authors (survey.ts) looks back, and takes its time. */
const SEALED_EPOCHS_KEPT = 48;

/** Updates left out by the filter that a snapshot tells of. */
const FILTERED_SHOWN_MAX = 32;

/** Bodies of updates, with what the journal tells of those on disk. */
export interface ReplicaBodies extends Bodies {
  readonly hasRoom: boolean;
  saved(id: string, place: number): void;
  placeOf(id: string): number | undefined;
  forget(id: string): void;
}

export class FoldedLog {
  readonly run: Run;
  readonly formats: RowFormats;
  readonly log: UpdateLog;
  /** Coordinates of the adapter. */
  readonly size: number;
  readonly bodies: ReplicaBodies;
  readonly #rows: EpochFold;
  readonly #fold: Fold;
  /** Folds of a part of the log that are being made beside it. */
  readonly #others = new Set<Fold>();
  /** Updates before the log's floor, and those of the last such epochs, as far back as this peer held them. */
  #sealedUpdates = 0;
  readonly #sealed = new Map<number, readonly UpdateHeader[]>();
  #sealedFrom = 0;
  #sha256: string | null = null;
  #adapter: AdapterSnapshot | null = null;
  #isSettling = false;

  constructor(run: Run, bodies: ReplicaBodies) {
    this.run = run;
    this.formats = new RowFormats(run);
    const members = new Members(run.manifest.membership);
    this.log = new UpdateLog({ members, bodies, runId: run.id });
    this.bodies = bodies;
    this.#rows = new EpochFold(run, this.formats);
    this.#fold = new Fold(run, this.#rows);
    this.size = adapterLayout(run.manifest.adapter).size;
  }

  /** theta0, the adapter of an empty log: [adapterSize] float32. */
  initialTheta(): Float32Array {
    return initialAdapter(this.run.manifest.adapter);
  }

  /** The fold of the whole log as the trainer takes it: [adapterSize] float32, into `out` when given. */
  theta(out?: Float32Array): Float32Array {
    this.#fold.compute(this.log);
    return this.#fold.theta(out);
  }

  /** The sum behind theta(): [adapterSize] whole steps, not to be written to. */
  foldSum(): Float64Array {
    this.#fold.compute(this.log);
    return this.#fold.sum();
  }

  /**
   * Folds what is new in pieces, so that messages get through meanwhile: the rows of a large adapter take
   * seconds. theta() is quick right after it.
   */
  async settle(signal: AbortSignal): Promise<void> {
    await inPieces(this.#fold.steps(this.log), signal);
  }

  /**
   * The adapter for `status`, at once: of the whole log where the fold of what is new is quick, else as
   * it was last, while the rest is folded in the background.
   */
  adapter(signal: AbortSignal): AdapterSnapshot {
    const last = this.#adapter;
    if (last === null || this.#sha256 !== null) return this.#describe();
    if (this.#fold.pendingRows(this.log) * this.size <= QUICK_COORDINATES) return this.#describe();
    if (!this.#isSettling && !signal.aborted) {
      this.#isSettling = true;
      // Only an abort ends it early.
      void this.settle(signal)
        .then(() => this.#describe())
        .catch(() => undefined)
        .finally(() => (this.#isSettling = false));
    }
    return last;
  }

  /** Whoever asks for the hash leaves a description behind that belongs to it. */
  #describe(): AdapterSnapshot {
    if (this.#adapter !== null && this.#sha256 !== null) return this.#adapter;
    const { newestEpoch, size, floor } = this.log;
    this.#fold.compute(this.log);
    const hash = createHash('sha256');
    for (const piece of this.#fold.thetaBytes()) hash.update(piece);
    this.#sha256 = hash.digest('hex');
    const updates = this.#sealedUpdates + size;
    this.#adapter = { sha256: this.#sha256, epoch: newestEpoch, updates, sealedEpoch: floor };
    return this.#adapter;
  }

  /** What the filter left out, as far as the log was folded: the newest epochs first. */
  filtered(): FilteredUpdate[] {
    const epochs = [...this.#fold.dropped()].sort(([a], [b]) => b - a).slice(0, FILTERED_SHOWN_MAX);
    const updates = epochs.flatMap(([epoch, rows]) => rows.map((row) => ({ epoch, ...row })));
    return updates.slice(0, FILTERED_SHOWN_MAX);
  }

  /** SHA-256 of theta(), 64 hex digits. */
  sha256(): string {
    return this.#describe().sha256;
  }

  /**
   * Calls `use` with the sum of the whole fold and that of the epochs from `epoch` on, both of one moment of the log;
   * the second is the caller's. Rejects when `signal` aborts.
   */
  async withLaterFold<T>(
    epoch: number,
    signal: AbortSignal,
    use: (all: Float64Array, later: Float64Array) => T,
  ): Promise<T> {
    const later = new Fold(this.run, this.#rows, { epoch, sum: null });
    this.#others.add(later);
    try {
      // Each pass costs only what has come since the last one.
      do {
        await this.settle(signal);
        await inPieces(later.steps(this.log), signal);
      } while (this.#fold.pendingRows(this.log) > 0 || later.pendingRows(this.log) > 0);
      return use(this.#fold.sum(), later.sum());
    } finally {
      this.#others.delete(later);
    }
  }

  /**
   * Goes on from a certificate: `sum` is that of the fold before its epoch. `isSame`: it is the sum of what the log
   * holds, so that what was folded stands. `keep`: own updates that it does not count, whose bodies are needed again.
   */
  seal(
    { epoch, id, updates }: SealStatement,
    sum: Float64Array,
    { isSame, keep }: { isSame: boolean; keep: readonly UpdateHeader[] },
  ): void {
    const kept = new Set(keep.map((header) => header.id));
    for (let e = this.log.floor; e < epoch; e++) {
      const updates = this.log.inEpoch(e).filter((header) => !kept.has(header.id));
      if (updates.length > 0) this.#sealed.set(e, updates);
    }
    this.log.seal(epoch, id);
    this.#sealedUpdates = updates;
    for (const [old, headers] of this.#sealed) {
      if (old >= this.readableFrom) break;
      for (const header of headers) this.bodies.forget(header.id);
      this.#sealed.delete(old);
    }
    if (!isSame) this.#sealedFrom = epoch;
    this.#fold.rebase({ epoch, sum }, { isSame });
    this.#sha256 = null;
  }

  /** The updates of epochs from here on can still be read: those of the log, and of the last sealed epochs. */
  get readableFrom(): number {
    return Math.max(this.#sealedFrom, this.log.floor - SEALED_EPOCHS_KEPT);
  }

  /** The updates of a readable epoch that are in the fold, in ascending order of peer id. */
  inEpoch(epoch: number): readonly UpdateHeader[] {
    return epoch < this.log.floor ? (this.#sealed.get(epoch) ?? []) : this.log.inEpoch(epoch);
  }

  /** What the log holds before `epoch`. */
  headersBefore(epoch: number): UpdateHeader[] {
    const { log } = this;
    return log
      .authors()
      .flatMap((author) =>
        log.epochsOf(author).flatMap((e) => (e < epoch ? (log.get(author, e) ?? []) : [])),
      );
  }

  /** Says that the updates of these epochs may have changed. */
  protected changed(epochs: Iterable<number>): void {
    for (const epoch of epochs) {
      this.#fold.invalidate(epoch);
      for (const fold of this.#others) fold.invalidate(epoch);
    }
    this.#sha256 = null;
  }
}
