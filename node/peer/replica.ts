/** This peer's copy of the run: what it holds (folded-log.ts), and what becomes of each message that arrives. */
import { checkAdmission, type Admission } from '../../protocol/admission.js';
import { checkAmendment, type Amendment } from '../../protocol/amendment.js';
import { sha256, toHex } from '../../protocol/bytes.js';
import {
  checkEquivocation,
  checkSealEquivocation,
  equivocationProof,
  type EquivocationProof,
} from '../../protocol/equivocation.js';
import { UpdateRejectedError, type RejectionCode, type Verdict } from '../../protocol/errors.js';
import {
  decodeGossip,
  encodeAdmission,
  encodeAmendment,
  encodeEquivocation,
  encodeSeal,
  encodeUpdateMessage,
  isHeld,
  isHeldAdmission,
} from '../../protocol/gossip.js';
import { DEFERRED_MAX, FUTURE_EPOCHS_MAX } from '../../protocol/limits.js';
import type { Run } from '../../protocol/manifest.js';
import { checkUpdate, peekAuthor, type Update, type UpdateHeader } from '../../protocol/update.js';
import type * as wire from '../../protocol/wire/messages.js';
import {
  checkCertificate,
  checkSeal,
  decodeCertificate,
  type Seal,
  type SealCertificate,
} from '../../protocol/seal.js';
import { asSentence } from './attention.js';
import { FoldedLog, type ReplicaBodies } from './folded-log.js';
import type { Compaction, LogRecord } from './journal.js';
import { RejectionTally } from './rejections.js';

export interface ReplicaHandlers {
  /** A record to append to the log on disk. */
  onRecord(record: LogRecord): void;
  /** An announced update that this peer lacks; `from` passed the announcement on. */
  onAnnounced(header: UpdateHeader, from: string): void;
  /** A proof that this peer found itself, to be told to the others. */
  onProof(proof: EquivocationProof): void;
  /** An update by this very peer that it did not make in this process. */
  onOwnFound?(header: UpdateHeader): void;
}

/** Takes seals and certificates that are valid; the first says whether it was new, or gives a proof. */
export interface SealHandlers {
  add(seal: Seal): 'added' | EquivocationProof | null;
  addCertificate(certificate: SealCertificate): boolean;
  isKnown(statement: string): boolean;
}

export interface ReplicaInit {
  run: Run;
  /** The slot of the clock, for deferring updates from the future. */
  epochNow: () => number;
  handlers: ReplicaHandlers;
  bodies: ReplicaBodies;
  /** The id of the peer whose copy this is, null for a reader of files. */
  self?: string | null;
}

export class Replica extends FoldedLog {
  readonly #handlers: ReplicaHandlers;
  readonly #self: string | null;
  readonly #epochNow: () => number;
  readonly #deferred = new Map<string, Update>();
  readonly #rejections = new RejectionTally();
  #seals: SealHandlers | null = null;
  #amendment: Amendment | null = null;
  #received = 0;

  constructor({ run, epochNow, handlers, bodies, self = null }: ReplicaInit) {
    super(run, bodies);
    this.#epochNow = epochNow;
    this.#handlers = handlers;
    this.#self = self;
  }

  /** Who takes the seals that come; without one they are ignored. */
  setSeals(seals: SealHandlers): void {
    this.#seals = seals;
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

  /** Drops updates that a certificate does not count, and refuses them until it is adopted. */
  exclude(headers: readonly UpdateHeader[]): void {
    this.changed(this.log.exclude(headers));
  }

  /**
   * What must stay in the log on disk: amendment, admissions, proofs, seals and the updates that are held, with those
   * in `kept`.
   */
  compaction(kept: readonly UpdateHeader[], seals: readonly Seal[]): Compaction {
    const { log } = this;
    const others = [
      ...(this.#amendment === null ? [] : [encodeAmendment(this.#amendment)]),
      ...log.members.admissions().map(encodeAdmission),
      ...log.proofs().map(encodeEquivocation),
      ...seals.map(encodeSeal),
    ];
    const updates = [...this.headersBefore(Infinity), ...kept].flatMap(({ id }) => {
      const place = this.bodies.placeOf(id);
      return place === undefined ? [] : [{ id, place }];
    });
    return {
      records: [...others, ...updates.map(({ place }) => place)],
      onMoved: (places) => {
        for (const [i, { id }] of updates.entries()) {
          // One that a seal dropped meanwhile stays forgotten.
          if (this.bodies.placeOf(id) === undefined) continue;
          this.bodies.saved(id, places[others.length + i] ?? -1);
        }
      },
    };
  }

  /** A certificate from this peer's own disk, which was checked when it came. */
  decodeCertificate(bytes: Uint8Array): SealCertificate {
    return decodeCertificate(this.run, bytes);
  }

  /**
   * Restores one record of the log on disk. Returns false when the record is not valid for this run. `counts`: whether
   * an update of this author for this epoch is to be restored.
   */
  restore(
    record: Uint8Array,
    place: number,
    counts: (author: string, epoch: number) => boolean = () => true,
  ): boolean {
    try {
      const message = decodeGossip(this.run, this.formats, record, 'disk');
      switch (message.kind) {
        case 'update':
          if (!counts(message.update.author, message.update.epoch)) break;
          this.#restoreUpdate(message.update, place);
          break;
        case 'equivocation':
          this.#evict(message.proof);
          break;
        case 'amendment':
          this.#extend(message.amendment);
          break;
        case 'admission':
          this.#enter(message.admission);
          break;
        case 'seal':
          this.#seals?.add(message.seal);
          break;
        default:
      }
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
      const message = decodeGossip(this.run, this.formats, record, 'disk');
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
    // An old one that comes from the state on disk: a certificate counts it, or has returned its work.
    if (update.epoch < this.log.floor) return null;
    if (held !== undefined && held.id !== update.id) {
      return (
        `Another update of this peer id for epoch ${update.epoch} came from the swarm, so this one was ` +
        'thrown away. Does a copy of the data directory run elsewhere? Stop one of the two.'
      );
    }
    try {
      if (this.#insert(update) === 'added') this.#record(update);
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
      const message = decodeGossip(this.run, this.formats, bytes, 'gossip', this.log);
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
        case 'seal':
          return this.#admitSeal(message.seal);
      }
    });
  }

  /** Judges an update that came by sync from `from`. */
  onSynced(update: wire.Update, from: string): Verdict {
    if (isHeld(this.log, update)) return 'ignore';
    return this.#judge(from, () =>
      this.#admit(checkUpdate(this.run, this.formats, update), 'drop'),
    );
  }

  onSyncedProof(proof: wire.Equivocation, from: string): Verdict {
    return this.#judge(from, () => {
      if (!this.#concerns(proof.first)) return 'ignore';
      return this.#admitProof(checkEquivocation(this.run, proof));
    });
  }

  onSyncedSealProof(proof: wire.SealEquivocation, from: string): Verdict {
    return this.#judge(from, () => this.#admitProof(checkSealEquivocation(this.run, proof)));
  }

  onSyncedSeal(seal: wire.SignedSeal, from: string): Verdict {
    return this.#judge(from, () => this.#admitSeal(checkSeal(this.run, seal)));
  }

  onSyncedCertificate(message: wire.SealCertificate, from: string): Verdict {
    return this.#judge(from, () => {
      const seals = this.#seals;
      if (seals === null || seals.isKnown(toHex(sha256(message.statement)))) return 'ignore';
      const certificate = checkCertificate(this.run, this.log.members, message);
      return seals.addCertificate(certificate) ? 'accept' : 'ignore';
    });
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
      this.#handlers.onRecord({ encode: () => encodeAdmission(admission) });
      return 'accept';
    });
  }

  /** Takes a checked amendment, which may also be this peer's own. */
  admitAmendment(amendment: Amendment): Verdict {
    if (!this.#extend(amendment)) return 'ignore';
    this.#handlers.onRecord({ encode: () => encodeAmendment(amendment) });
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
    return this.#rejections.of(peerId);
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
    if (!this.bodies.hasRoom) {
      // It comes again by sync once the disk takes what waits.
      throw new UpdateRejectedError('capacity', 'defer', 'too much waits to be written to disk');
    }
    const result = this.#insert(update);
    if (result !== 'added') return 'ignore';
    this.#received++;
    this.#record(update);
    if (update.author === this.#self) this.#handlers.onOwnFound?.(update);
    return 'accept';
  }

  #restoreUpdate(update: Update, place: number): void {
    // First, so that its body is left on disk.
    this.bodies.saved(update.id, place);
    try {
      if (this.#insert(update) === 'added') return;
    } catch (error) {
      this.bodies.forget(update.id);
      throw error;
    }
  }

  #record(update: Update): void {
    this.#handlers.onRecord({
      encode: () => encodeUpdateMessage(update),
      onSaved: (place) => this.bodies.saved(update.id, place),
    });
  }

  #insert(update: Update): 'added' | 'held' | 'evicted' {
    const result = this.log.insert(update);
    if (result.kind === 'held') return 'held';
    this.changed(result.kind === 'added' ? [...result.changed, update.epoch] : result.changed);
    if (result.kind === 'evicted') this.#onEvicted(result.proof);
    return result.kind;
  }

  #onEvicted(proof: EquivocationProof): void {
    this.#count(proof.author, 'equivocation');
    this.#handlers.onRecord({ encode: () => encodeEquivocation(proof) });
    this.#handlers.onProof(proof);
  }

  #admitSeal(seal: Seal): Verdict {
    const result = this.#seals?.add(seal) ?? null;
    if (result === null) return 'ignore';
    if (result === 'added') {
      this.#handlers.onRecord({ encode: () => encodeSeal(seal) });
      return 'accept';
    }
    if (!this.#evict(result)) return 'ignore';
    this.#onEvicted(result);
    return 'accept';
  }

  /** Whether a proof with this header can evict anybody here: looked at before its signatures, which cost more. */
  #concerns(signed: wire.SignedHeader | undefined): boolean {
    const author = signed && peekAuthor(signed);
    if (author === undefined || author === null) return true;
    return this.log.members.isOpen
      ? this.log.epochsOf(author).length > 0
      : this.log.members.has(author);
  }

  #onAnnouncement(header: UpdateHeader, from: string): Verdict {
    if (header.epoch >= (this.log.proofAgainst(header.author)?.epoch ?? Infinity)) return 'ignore';
    if (header.epoch < this.log.members.firstEpochOf(header.author)) return 'defer';
    this.log.checkOpen(header.epoch);
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
    const changed = this.log.admit(admission);
    this.changed(changed ?? []);
    return changed !== null;
  }

  #admitProof(proof: EquivocationProof): Verdict {
    if (!this.#evict(proof)) return 'ignore';
    this.#handlers.onRecord({ encode: () => encodeEquivocation(proof) });
    return 'accept';
  }

  /** Whether the proof was new. */
  #evict(proof: EquivocationProof): boolean {
    const changed = this.log.evict(proof);
    if (changed === null) return false;
    this.changed(changed);
    this.#count(proof.author, 'equivocation');
    return true;
  }

  /** The newest epoch whose updates are taken now; later ones are deferred. */
  get newestWelcome(): number {
    return Math.min(this.#epochNow() + FUTURE_EPOCHS_MAX, this.epochsMax - 1);
  }

  #count(peerId: string, code: RejectionCode): void {
    this.#rejections.count(peerId, code);
  }
}

/** For a record that was valid, but counts no more: its author was evicted or is no member, or its epoch is sealed. */
function isOutdated({ code }: UpdateRejectedError): boolean {
  return code === 'evicted' || code === 'not-a-member' || code === 'sealed';
}
