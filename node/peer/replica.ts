/** This peer's copy of the run: log, fold and the decision what becomes of each message that arrives. */
import { checkAdmission, type Admission } from '../../protocol/admission.js';
import { checkAmendment, type Amendment } from '../../protocol/amendment.js';
import { adapterLayout, adapterSha256, initialAdapter } from '../../protocol/adapter.js';
import { UpdateRejectedError, type RejectionCode, type Verdict } from '../../protocol/errors.js';
import { EpochFold } from '../../protocol/epoch-fold.js';
import { Fold } from '../../protocol/fold.js';
import {
  checkEquivocation,
  decodeGossip,
  encodeAdmission,
  encodeAmendment,
  encodeEquivocation,
  encodeUpdateMessage,
  isHeld,
  isHeldAdmission,
} from '../../protocol/gossip.js';
import { AUTHORS_MAX, DEFERRED_MAX, FUTURE_EPOCHS_MAX } from '../../protocol/limits.js';
import {
  behindHorizon,
  equivocationProof,
  UpdateLog,
  type EquivocationProof,
} from '../../protocol/log.js';
import type { Run } from '../../protocol/manifest.js';
import { Members } from '../../protocol/members.js';
import { Slicer } from '../../protocol/slice.js';
import { checkUpdate, type Update, type UpdateHeader } from '../../protocol/update.js';
import type * as wire from '../../protocol/wire/messages.js';
import type { StoredCheckpoint } from '../interfaces.js';
import { asSentence } from './attention.js';
import { Horizon } from './horizon.js';
import { inPieces } from './pieces.js';
import type { AdapterSnapshot } from './snapshot.js';

/** `status` waits for the fold of so many coordinates: 20 ms at 5 ns. */
const QUICK_COORDINATES = 1 << 22;

export interface ReplicaHandlers {
  /** A record to append to the log on disk. */
  onRecord(record: Uint8Array): void;
  /** An announced update that this peer lacks; `from` passed the announcement on. */
  onAnnounced(header: UpdateHeader, from: string): void;
  /** A proof that this peer found itself, to be told to the others. */
  onProof(proof: EquivocationProof): void;
  /** The log goes on from another checkpoint, which is to be kept; not called for the one on disk. */
  onCheckpoint?(): void;
}

export class Replica {
  readonly run: Run;
  readonly slicer: Slicer;
  readonly log: UpdateLog;
  /** What the log goes on from. */
  readonly horizon: Horizon;
  readonly #fold: Fold;
  readonly #handlers: ReplicaHandlers;
  /** The slot of the clock, for deferring updates from the future. */
  readonly #epochNow: () => number;
  readonly #deferred = new Map<string, Update>();
  readonly #rejected = new Map<string, Partial<Record<RejectionCode, number>>>();
  readonly #size: number;
  #amendment: Amendment | null = null;
  #sha256: string | null = null;
  #adapter: AdapterSnapshot | null = null;
  #received = 0;
  #isSettling = false;
  #isRestoring = false;

  /** `self`: the id of the peer whose copy this is, null for a reader of files. */
  constructor(
    run: Run,
    epochNow: () => number,
    handlers: ReplicaHandlers,
    self: string | null = null,
  ) {
    this.run = run;
    this.slicer = new Slicer(run);
    this.log = new UpdateLog(new Members(run.manifest.membership));
    const rows = new EpochFold(run, this.slicer);
    this.horizon = new Horizon({
      run,
      rows,
      log: this.log,
      epochNow,
      epochsMax: () => this.epochsMax,
      self,
      onCheckpoint: (checkpoint, change) => {
        this.#fold.rebase({ epoch: checkpoint.epoch, sum: checkpoint.theta }, change);
        this.#sha256 = null;
        if (!this.#isRestoring) this.#handlers.onCheckpoint?.();
      },
    });
    this.#fold = new Fold(run, rows);
    this.#size = adapterLayout(run.manifest.adapter).size;
    this.#epochNow = epochNow;
    this.#handlers = handlers;
  }

  /** The amendment that holds: the one with the most epochs; null while the manifest's own number does. */
  get amendment(): Amendment | null {
    return this.#amendment;
  }

  /** Epochs of the run, as far as this peer knows. */
  get epochsMax(): number {
    return this.#amendment?.epochsMax ?? this.run.manifest.schedule.epochsMax;
  }

  /** Updates that came from others since the process started, by gossip or sync, and were new. */
  get received(): number {
    return this.#received;
  }

  /** theta0, the adapter of an empty log: [adapterSize] float32. */
  initialTheta(): Float32Array {
    return initialAdapter(this.run.manifest.adapter);
  }

  /** The fold of the whole log as the trainer takes it: a new [adapterSize] float32. */
  theta(): Float32Array {
    this.#fold.compute(this.log);
    return this.#fold.theta();
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
    if (this.#fold.pendingRows(this.log) * this.#size <= QUICK_COORDINATES) return this.#describe();
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
    const { newestEpoch, size } = this.log;
    const { epoch: checkpointEpoch, contributions } = this.horizon.folded;
    this.#sha256 = adapterSha256(this.theta());
    const updates = contributions + size;
    this.#adapter = { sha256: this.#sha256, epoch: newestEpoch, updates, checkpointEpoch };
    return this.#adapter;
  }

  /** SHA-256 of theta(), 64 hex digits. */
  sha256(): string {
    return this.#describe().sha256;
  }

  /** Goes on from the checkpoint on disk; before any record is restored. `settledDebt`: see PeerState. */
  restoreCheckpoint(stored: StoredCheckpoint, settledDebt: string | null): void {
    this.#isRestoring = true;
    this.horizon.restore(stored, settledDebt);
    this.#isRestoring = false;
  }

  /** All that the log on disk must hold now: amendment, admissions, proofs and updates, in no order, encoded as they are taken. */
  records(): Generator<Uint8Array> {
    const { log } = this;
    const updates = log.authors().flatMap((author) => {
      return log.epochsOf(author).flatMap((epoch) => log.get(author, epoch) ?? []);
    });
    return encodeRecords(this.#amendment, log.members.admissions(), log.proofs(), updates);
  }

  /** Restores one record of the log on disk. Returns false when the record is not valid for this run. */
  restore(record: Uint8Array): boolean {
    try {
      const message = decodeGossip(this.run, this.slicer, record, 'disk');
      if (message.kind === 'update') this.#insert(message.update);
      if (message.kind === 'equivocation') this.#evict(message.proof);
      if (message.kind === 'amendment') this.#extend(message.amendment);
      if (message.kind === 'admission') this.#enter(message.admission);
      return true;
    } catch (error) {
      if (error instanceof UpdateRejectedError) return isOutdated(error);
      throw error;
    }
  }

  /**
   * Enters this peer's last update again, which a crash may have kept out of the log on disk. One that was
   * never published, because another for its slot came first, is left alone: together they look like fraud.
   */
  restoreOwn(record: Uint8Array): void {
    try {
      const message = decodeGossip(this.run, this.slicer, record, 'disk');
      if (message.kind === 'update') this.addOwn(message.update);
    } catch (error) {
      if (!(error instanceof UpdateRejectedError)) throw error;
    }
  }

  /**
   * Adds this peer's own update, which must be on disk already. Returns null, or why it must not be
   * published, in a sentence; the log is then as before.
   */
  addOwn(update: Update): string | null {
    const held = this.log.get(update.author, update.epoch);
    // An old one that comes from the state on disk: it is in the checkpoint.
    if (this.horizon.isPast(update.epoch)) return null;
    if (held !== undefined && held.id !== update.id) {
      return (
        `Another update of this peer id for epoch ${update.epoch} came from the swarm, so this one was ` +
        'thrown away. Does a copy of the data directory run elsewhere? Stop one of the two.'
      );
    }
    try {
      if (this.#insert(update) === 'added') this.#handlers.onRecord(encodeUpdateMessage(update));
      return null;
    } catch (error) {
      if (!(error instanceof UpdateRejectedError)) throw error;
      return asSentence(
        `this peer's update for epoch ${update.epoch} was not used: ${error.message}`,
      );
    }
  }

  /** Judges a gossip message passed on by `from`; never throws for what it holds. */
  onGossip(bytes: Uint8Array, from: string): Verdict {
    return this.#judge(from, () => {
      const message = decodeGossip(this.run, this.slicer, bytes, 'gossip', this.log);
      switch (message.kind) {
        case 'held':
          return 'ignore';
        case 'update':
          return this.#admit(message.update, 'keep');
        case 'announcement':
          return this.#onAnnouncement(message.header, from);
        case 'equivocation':
          return this.#admitProof(message.proof);
        case 'amendment':
          return this.admitAmendment(message.amendment);
        case 'admission':
          return this.admit(message.admission, from);
      }
    });
  }

  /** Judges an update that came by sync from `from`. */
  onSynced(update: wire.Update, from: string): Verdict {
    if (isHeld(this.log, update)) return 'ignore';
    return this.#judge(from, () => this.#admit(checkUpdate(this.run, this.slicer, update), 'drop'));
  }

  onSyncedProof(proof: wire.Equivocation, from: string): Verdict {
    return this.#judge(from, () => this.#admitProof(checkEquivocation(this.run, proof)));
  }

  /** Takes a proof that was found here, and has it told to the others. */
  onProofFound(proof: EquivocationProof): void {
    this.#judge(proof.author, () => {
      const verdict = this.#admitProof(proof);
      if (verdict === 'accept') this.#handlers.onProof(proof);
      return verdict;
    });
  }

  /** Counts what `peerId` did wrong outside of messages. */
  blame(peerId: string, code: RejectionCode): void {
    this.#count(peerId, code);
  }

  onSyncedAmendment(amendment: wire.SignedAmendment, from: string): Verdict {
    return this.#judge(from, () => this.admitAmendment(checkAmendment(this.run, amendment)));
  }

  onSyncedAdmission(admission: wire.SignedAdmission, from: string): Verdict {
    if (isHeldAdmission(this.log, admission)) return 'ignore';
    return this.#judge(from, () => this.admit(checkAdmission(this.run, admission), from));
  }

  /** Takes a checked admission from `from`, which may also be this peer's own. */
  admit(admission: Admission, from: string): Verdict {
    return this.#judge(from, () => {
      if (!this.#enter(admission)) return 'ignore';
      this.#handlers.onRecord(encodeAdmission(admission));
      return 'accept';
    });
  }

  /** Takes a checked amendment, which may also be this peer's own. */
  admitAmendment(amendment: Amendment): Verdict {
    if (!this.#extend(amendment)) return 'ignore';
    this.#handlers.onRecord(encodeAmendment(amendment));
    return 'accept';
  }

  /** Looks again at updates that came too early. */
  retryDeferred(): void {
    for (const [id, update] of this.#deferred) {
      if (update.epoch > this.newestWelcome) continue;
      this.#deferred.delete(id);
      this.#judge(update.author, () => this.#admit(update, 'keep'));
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

  /**
   * `future`: what becomes of an update from the future. Small ones from gossip are kept for later; those
   * from a sync can be large, and come again.
   */
  #admit(update: Update, future: 'keep' | 'drop'): Verdict {
    if (update.epoch >= this.epochsMax) {
      // Not kept: the amendment that allows it brings it along in a sync.
      throw new UpdateRejectedError(
        'past-end',
        'defer',
        `epoch ${update.epoch}; the run has ${this.epochsMax} epochs as far as this peer knows`,
      );
    }
    if (update.epoch > this.newestWelcome) {
      // Dropped when there are too many: sync brings them again once their time has come.
      if (future === 'keep' && this.#deferred.size < DEFERRED_MAX)
        this.#deferred.set(update.id, update);
      throw new UpdateRejectedError(
        'future-epoch',
        'defer',
        `epoch ${update.epoch} has not begun; this machine's clock says ${this.#epochNow()}`,
      );
    }
    const result = this.#insert(update);
    if (result !== 'added') return 'ignore';
    this.#received++;
    this.#handlers.onRecord(encodeUpdateMessage(update));
    return 'accept';
  }

  #insert(update: Update): 'added' | 'duplicate' | 'evicted' {
    const result = this.log.insert(update);
    if (result.kind === 'added') this.#invalidate(update.epoch);
    if (result.kind === 'evicted') {
      this.#invalidateAll(result.fromEpoch);
      this.#count(update.author, 'equivocation');
      this.#handlers.onRecord(encodeEquivocation(result.proof));
      this.#handlers.onProof(result.proof);
    }
    return result.kind;
  }

  #onAnnouncement(header: UpdateHeader, from: string): Verdict {
    if (this.log.proofAgainst(header.author)) return 'ignore';
    if (header.epoch < this.log.members.firstEpochOf(header.author)) return 'defer';
    if (this.horizon.isPast(header.epoch)) throw behindHorizon(header.epoch, this.log.floor);
    const held = this.log.get(header.author, header.epoch);
    if (held?.id === header.id) return 'ignore';
    if (held !== undefined) {
      // Two signed headers are a proof: no need to fetch the other update.
      this.onProofFound(equivocationProof(held, header));
      return 'ignore';
    }
    if (header.epoch <= this.newestWelcome) this.#handlers.onAnnounced(header, from);
    return 'accept';
  }

  /** Whether the amendment makes the run longer than it was. */
  #extend(amendment: Amendment): boolean {
    if (amendment.epochsMax <= this.epochsMax) return false;
    this.#amendment = amendment;
    return true;
  }

  /** Whether the admission was new. */
  #enter(admission: Admission): boolean {
    const fromEpoch = this.log.admit(admission);
    if (fromEpoch === null) return false;
    this.#invalidateAll(fromEpoch);
    return true;
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
    this.#invalidateAll(fromEpoch);
    this.#count(proof.author, 'equivocation');
    return true;
  }

  #invalidate(epoch: number): void {
    this.#fold.invalidate(epoch);
    this.#sha256 = null;
  }

  /** The updates of `fromEpoch` and any later epoch may have changed. */
  #invalidateAll(fromEpoch: number): void {
    this.#fold.invalidateAll(fromEpoch);
    this.#sha256 = null;
  }

  /** The newest epoch whose updates are taken now; later ones are deferred. */
  get newestWelcome(): number {
    return Math.min(this.#epochNow() + FUTURE_EPOCHS_MAX, this.epochsMax - 1);
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

function* encodeRecords(
  amendment: Amendment | null,
  admissions: readonly Admission[],
  proofs: readonly EquivocationProof[],
  updates: readonly Update[],
): Generator<Uint8Array> {
  if (amendment !== null) yield encodeAmendment(amendment);
  for (const admission of admissions) yield encodeAdmission(admission);
  for (const proof of proofs) yield encodeEquivocation(proof);
  for (const update of updates) yield encodeUpdateMessage(update);
}

/** For a record that was valid, but counts no more: its author was evicted or is no member, or it is in the checkpoint. */
function isOutdated({ code }: UpdateRejectedError): boolean {
  return code === 'evicted' || code === 'not-a-member' || code === 'behind-horizon';
}
