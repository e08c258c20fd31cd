/** This peer's copy of the run: log, fold and the decision what becomes of each message that arrives. */
import { adapterSha256, initialAdapter } from '../../protocol/adapter.js';
import { UpdateRejectedError, type RejectionCode, type Verdict } from '../../protocol/errors.js';
import { Fold } from '../../protocol/fold.js';
import {
  checkEquivocation,
  decodeGossip,
  encodeEquivocation,
  encodeUpdateMessage,
} from '../../protocol/gossip.js';
import { AUTHORS_MAX, DEFERRED_MAX, FUTURE_EPOCHS_MAX } from '../../protocol/limits.js';
import { UpdateLog, type EquivocationProof } from '../../protocol/log.js';
import type { Run } from '../../protocol/manifest.js';
import { Slicer } from '../../protocol/slice.js';
import { checkUpdate, type Update, type UpdateHeader } from '../../protocol/update.js';
import type * as wire from '../../protocol/wire/messages.js';

export interface ReplicaHandlers {
  /** A record to append to the log on disk. */
  onRecord(record: Uint8Array): void;
  /** An announced update that this peer lacks; `from` passed the announcement on. */
  onAnnounced(header: UpdateHeader, from: string): void;
  /** A proof that this peer found itself, to be told to the others. */
  onProof(proof: EquivocationProof): void;
}

export class Replica {
  readonly run: Run;
  readonly slicer: Slicer;
  readonly log = new UpdateLog();
  readonly #fold: Fold;
  readonly #handlers: ReplicaHandlers;
  /** The slot of the clock, for deferring updates from the future. */
  readonly #epochNow: () => number;
  readonly #deferred = new Map<string, Update>();
  readonly #rejected = new Map<string, Partial<Record<RejectionCode, number>>>();
  #sha256: string | null = null;

  constructor(run: Run, epochNow: () => number, handlers: ReplicaHandlers) {
    this.run = run;
    this.slicer = new Slicer(run);
    this.#fold = new Fold(run, this.slicer);
    this.#epochNow = epochNow;
    this.#handlers = handlers;
  }

  /** theta0, the adapter of an empty log: [adapterSize] float32. */
  initialTheta(): Float32Array {
    return initialAdapter(this.run.manifest.adapter);
  }

  /** The fold of the whole log as the trainer takes it: a new [adapterSize] float32. */
  theta(): Float32Array {
    return Float32Array.from(this.#fold.compute(this.log));
  }

  /** SHA-256 of theta(), 64 hex digits. */
  sha256(): string {
    this.#sha256 ??= adapterSha256(this.theta());
    return this.#sha256;
  }

  /** Restores one record of the log on disk. Returns false when the record is not valid for this run. */
  restore(record: Uint8Array): boolean {
    try {
      const message = decodeGossip(this.run, this.slicer, record, 'disk');
      if (message.kind === 'update') this.#insert(message.update);
      if (message.kind === 'equivocation') this.#evict(message.proof);
      return true;
    } catch (error) {
      if (error instanceof UpdateRejectedError) return error.code === 'evicted';
      throw error;
    }
  }

  /** Adds this peer's own update, which must be on disk already. */
  addOwn(update: Update): void {
    if (this.#insert(update) === 'added') this.#handlers.onRecord(encodeUpdateMessage(update));
  }

  /** Judges a gossip message passed on by `from`; never throws for what it holds. */
  onGossip(bytes: Uint8Array, from: string): Verdict {
    return this.#judge(from, () => {
      const message = decodeGossip(this.run, this.slicer, bytes);
      switch (message.kind) {
        case 'update':
          return this.#admit(message.update);
        case 'announcement':
          return this.#onAnnouncement(message.header, from);
        case 'equivocation':
          return this.#admitProof(message.proof);
      }
    });
  }

  /** Judges an update that came by sync from `from`. */
  onSynced(update: wire.Update, from: string): Verdict {
    return this.#judge(from, () => this.#admit(checkUpdate(this.run, this.slicer, update)));
  }

  onSyncedProof(proof: wire.Equivocation, from: string): Verdict {
    return this.#judge(from, () => this.#admitProof(checkEquivocation(this.run, proof)));
  }

  /** Looks again at updates that came too early. */
  retryDeferred(): void {
    for (const [id, update] of this.#deferred) {
      if (this.#isFuture(update.epoch)) continue;
      this.#deferred.delete(id);
      this.#judge(update.author, () => this.#admit(update));
    }
  }

  /** Messages from (or by) `peerId` that were not used: code -> count. */
  rejectedBy(peerId: string): Partial<Record<RejectionCode, number>> {
    return { ...this.#rejected.get(peerId) };
  }

  #judge(from: string, admit: () => Verdict): Verdict {
    try {
      return admit();
    } catch (error) {
      if (!(error instanceof UpdateRejectedError)) throw error;
      this.#count(from, error.code);
      return error.verdict;
    }
  }

  #admit(update: Update): Verdict {
    if (this.#isFuture(update.epoch)) {
      // Dropped when there are too many: sync brings them again once their time has come.
      if (this.#deferred.size < DEFERRED_MAX) this.#deferred.set(update.id, update);
      throw new UpdateRejectedError(
        'future-epoch',
        'defer',
        `epoch ${update.epoch} has not begun; this machine's clock says ${this.#epochNow()}`,
      );
    }
    const result = this.#insert(update);
    if (result === 'added') this.#handlers.onRecord(encodeUpdateMessage(update));
    return result === 'added' ? 'accept' : 'ignore';
  }

  #insert(update: Update): 'added' | 'duplicate' | 'evicted' {
    const result = this.log.insert(update);
    if (result.kind === 'added') this.#invalidate(update.epoch);
    if (result.kind === 'evicted') {
      this.#invalidate(result.fromEpoch);
      this.#count(update.author, 'equivocation');
      this.#handlers.onRecord(encodeEquivocation(result.proof));
      this.#handlers.onProof(result.proof);
    }
    return result.kind;
  }

  #onAnnouncement(header: UpdateHeader, from: string): Verdict {
    if (this.log.proofAgainst(header.author)) return 'ignore';
    if (this.log.get(header.author, header.epoch)?.id === header.id) return 'ignore';
    if (!this.#isFuture(header.epoch)) this.#handlers.onAnnounced(header, from);
    return 'accept';
  }

  #admitProof(proof: EquivocationProof): Verdict {
    if (!this.#evict(proof)) return 'ignore';
    this.#handlers.onRecord(encodeEquivocation(proof));
    return 'accept';
  }

  /** Whether the proof was new. */
  #evict(proof: EquivocationProof): boolean {
    const fromEpoch = this.log.evict(proof);
    if (fromEpoch === null) return false;
    this.#invalidate(fromEpoch);
    this.#count(proof.author, 'equivocation');
    return true;
  }

  #invalidate(epoch: number): void {
    this.#fold.invalidate(epoch);
    this.#sha256 = null;
  }

  #isFuture(epoch: number): boolean {
    return epoch > this.#epochNow() + FUTURE_EPOCHS_MAX;
  }

  #count(peerId: string, code: RejectionCode): void {
    let counts = this.#rejected.get(peerId);
    if (counts === undefined) {
      // Strangers come and go: the oldest tally is forgotten first.
      const oldest = this.#rejected.keys().next().value;
      if (this.#rejected.size >= AUTHORS_MAX && oldest !== undefined) this.#rejected.delete(oldest);
      counts = {};
      this.#rejected.set(peerId, counts);
    }
    counts[code] = (counts[code] ?? 0) + 1;
  }
}
