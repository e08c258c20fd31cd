/**
 * Anti-entropy (Demers et al. 1987) between two logs as a state machine: frames in, events and frames
 * out, no I/O. Both sides state the digest of their log and, where these differ, say what they have; they ask
 * for what they lack, send what was asked for, and End.
 * A missing share p of the set shrinks to about p^2 in a round of random pairs.
 */
import type { Amendment } from './amendment.js';
import { bytesEqual, toHex } from './bytes.js';
import { messageOf, SyncProtocolError } from './errors.js';
import { equivocationToWire } from './gossip.js';
import {
  encodeHave,
  encodeOpening,
  encodeWant,
  HaveVector,
  NO_SEALS,
  type SealSummary,
} from './have.js';
import * as limits from './limits.js';
import type { UpdateLog } from './log.js';
import type { Run } from './manifest.js';
import { updateBytes } from './row-format.js';
import { UPDATE_OVERHEAD_BYTES_MAX, updateOf, type UpdateHeader } from './update.js';
import * as wire from './wire/messages.js';

/** What a received frame asks of the peer. Updates and proofs are not checked yet. */
export type SyncEvent =
  | { kind: 'nothing' }
  /** The remote's log is not the same: send vectors(). */
  | { kind: 'differs' }
  /** What the remote holds is known: send want(). `sealed`: the certificate that it has adopted. */
  | {
      kind: 'have';
      clockMs: number;
      sealed: SealSummary['sealed'];
      amendment: wire.SignedAmendment | null;
    }
  /** The remote's wishes are complete: send reply(). */
  | { kind: 'want' }
  | { kind: 'admission'; admission: wire.SignedAdmission }
  | { kind: 'update'; update: wire.Update }
  | { kind: 'equivocation'; equivocation: wire.Equivocation }
  | { kind: 'sealEquivocation'; equivocation: wire.SealEquivocation }
  | { kind: 'certificate'; certificate: wire.SealCertificate }
  | { kind: 'seal'; seal: wire.SignedSeal }
  | { kind: 'end' };

/** Slots ("author/epoch") whose updates are on their way to this peer. */
export interface Reservations {
  /** Asked for each slot that the remote holds and the log lacks. */
  has(slot: string): boolean;
  add(slot: string): void;
  delete(slot: string): void;
}

/** What this side holds of seals when the session begins. */
export interface HeldSeals {
  summary: SealSummary;
  /** The newest certificate that is known here, which may not be adopted yet: who signed it can adopt it at once. */
  certificate: { epoch: number; wire: wire.SealCertificate } | null;
  seals: readonly wire.SignedSeal[];
}

const NOTHING_SEALED: HeldSeals = { summary: NO_SEALS, certificate: null, seals: [] };

/** One side of one session. Not reusable; release() when it is over, however it ended. */
export class SyncSession {
  readonly #run: Run;
  readonly #log: UpdateLog;
  readonly #inFlight: Reservations;
  readonly #wanted = new Set<string>();
  readonly #updateBytesMax: number;
  readonly #have: HaveVector;
  readonly #want: HaveVector;
  readonly #held: HeldSeals;
  #phase: 'have' | 'want' | 'updates' | 'ended' = 'have';
  #clockMs: number | null = null;
  /** Digests of this log as hello() stated them: both sides compare the same two. */
  #stated: { log: Uint8Array; admissions: Uint8Array } | null = null;
  #isSame = false;
  #hasSameAdmissions = false;
  #admissions = 0;
  #remoteSealed: SealSummary['sealed'] = null;
  #hasSameSeals = false;
  #seals = 0;
  #hasCertificate = false;
  #amendment: wire.SignedAmendment | null = null;
  #unknownFrames = 0;
  #isCut = false;
  #hasSkipped = false;
  /** Grows as pieces come: a list of them would cost far more than their bytes when they are tiny. */
  #partial = new Uint8Array();
  #partialBytes = 0;
  #wantedCount = 0;
  /** Encoded bytes of all frames, and how many may come: two vectors and what was asked for; the rest is small. */
  #received = 0;
  readonly #receivedMax: number;
  #updates = 0;
  #proofs = 0;

  /** `inFlight` is shared by all sessions of one peer, so that no update is fetched twice at a time. */
  constructor(run: Run, log: UpdateLog, inFlight: Reservations, held: HeldSeals = NOTHING_SEALED) {
    this.#run = run;
    this.#log = log;
    this.#held = held;
    this.#inFlight = inFlight;
    this.#have = new HaveVector();
    this.#want = new HaveVector();
    this.#updateBytesMax = updateBytes(run) + UPDATE_OVERHEAD_BYTES_MAX;
    this.#receivedMax =
      2 * limits.HAVE_BYTES_MAX + Math.max(limits.SYNC_SESSION_BYTES_MAX, this.#updateBytesMax);
  }

  /** Whether a bound left something out that the remote holds: another session is worth its while. */
  get isCut(): boolean {
    return this.#isCut;
  }

  /** Whether both sides opened with equal logs: then their adapters are equal. */
  get isSame(): boolean {
    return this.#isSame;
  }

  /** Whether want() left out what is on its way already. */
  get hasSkipped(): boolean {
    return this.#hasSkipped;
  }

  /** The frame to open with. `clockMs` lets the other side see its offset. */
  hello(clockMs: number, amendment: Amendment | null = null): Uint8Array {
    this.#stated = { log: this.#log.digest(), admissions: this.#log.members.digest() };
    return encodeOpening(this.#run, this.#log, clockMs, this.#held.summary, amendment);
  }

  /**
   * The frames with what the remote lacks of seals, a newer certificate and signatures, once its opening is here.
   * Where the logs differ vectors() has them.
   */
  *sealFrames(): Generator<Uint8Array> {
    const { certificate, seals } = this.#held;
    if (certificate !== null && certificate.epoch > (this.#remoteSealed?.epoch ?? 0))
      yield wire.SyncFrame.encode({ certificate: certificate.wire });
    if (this.#hasSameSeals) return;
    for (const seal of seals) yield wire.SyncFrame.encode({ seal });
  }

  /**
   * The frames that say what this log holds, for a remote whose log differs. First whom it admits, so that the
   * remote counts the votes of these and takes their updates.
   */
  *vectors(): Generator<Uint8Array> {
    const { members } = this.#log;
    const admissions = this.#hasSameAdmissions ? [] : members.admissions();
    for (const { signed } of admissions) yield wire.SyncFrame.encode({ admission: signed });
    yield* this.sealFrames();
    yield* encodeHave(this.#run, this.#log);
  }

  /** @throws SyncProtocolError when the frame is malformed, out of turn or beyond a bound. */
  receive(bytes: Uint8Array): SyncEvent {
    this.#received += bytes.length;
    if (this.#received > this.#receivedMax) {
      throw new SyncProtocolError(`more than ${this.#receivedMax} bytes in one session`);
    }
    const frame = decodeFrame(bytes);
    const { have, want, chunk, equivocation, sealEquivocation, end } = frame;
    if (have) return this.#onHave(this.#inPhase('have', have), bytes.length);
    if (frame.admission) return this.#onAdmission(this.#inPhase('have', frame.admission));
    if (want) return this.#onWant(this.#inPhase('want', want), bytes.length);
    if (equivocation) return this.#onEquivocation(this.#inPhase('updates', equivocation));
    if (sealEquivocation)
      return this.#onSealEquivocation(this.#inPhase('updates', sealEquivocation));
    if (chunk) return this.#onChunk(this.#inPhase('updates', chunk));
    if (frame.certificate) return this.#onCertificate(frame.certificate);
    if (frame.seal) return this.#onSeal(frame.seal);
    if (!end) return this.#onUnknown(bytes);
    if (this.#partialBytes > 0) throw new SyncProtocolError('the end inside an update');
    this.#phase = this.#inPhase('updates', 'ended');
    return { kind: 'end' };
  }

  /** Updates that this session asked for. */
  get wanted(): number {
    return this.#wantedCount;
  }

  /**
   * The frames that ask the remote for what it has, this log lacks and nobody is fetching. Epochs after `epochMax`
   * are left out: their updates would be deferred; and those before `epochMin`, which are or will be sealed.
   */
  want(epochMax = Infinity, epochMin = 0): Iterable<Uint8Array> {
    const slots = new Map<string, number[]>();
    let bytes = 0;
    for (const author of this.#have.authors()) {
      if (this.#isCut) break;
      const evictedFrom = this.#log.proofAgainst(author)?.epoch ?? Infinity;
      const epochs: number[] = [];
      for (const epoch of this.#lacking(author, Math.min(epochMax, evictedFrom - 1), epochMin)) {
        const slot = `${author}/${epoch}`;
        if (this.#inFlight.has(slot)) {
          this.#hasSkipped = true;
          continue;
        }
        if (bytes > 0 && bytes + this.#updateBytesMax > limits.SYNC_SESSION_BYTES_MAX) {
          this.#isCut = true;
          break;
        }
        bytes += this.#updateBytesMax;
        this.#inFlight.add(slot);
        this.#wanted.add(slot);
        epochs.push(epoch);
      }
      if (epochs.length > 0)
        slots.set(
          author,
          epochs.sort((a, b) => a - b),
        );
    }
    this.#wantedCount = this.#wanted.size;
    return encodeWant(slots);
  }

  /** The frames to send once the remote's wishes are known: proofs it lacks, what it wants, End. */
  *reply(): Generator<Uint8Array> {
    for (const proof of this.#log.proofs()) {
      // Where the logs are equal the proof changes nothing.
      const known = this.#have.evicted.get(proof.author) ?? Infinity;
      if (this.#isSame || known <= proof.epoch) continue;
      yield wire.SyncFrame.encode(equivocationToWire(proof));
    }
    let bytes = 0;
    for (const header of this.#wantedUpdates()) {
      const encoded = wire.Update.encode(updateOf(header, this.#log.read(header)));
      if (bytes > 0 && bytes + encoded.length > limits.SYNC_SESSION_BYTES_MAX) break;
      bytes += encoded.length;
      yield* chunks(encoded);
    }
    yield wire.SyncFrame.encode({ end: {} });
  }

  /** Lets other sessions fetch what this one asked for; it may still come here. */
  release(): void {
    for (const slot of this.#wanted) this.#inFlight.delete(slot);
    this.#wanted.clear();
  }

  /** The held updates that the remote wants: work goes by what is held, not by what it asks for. */
  *#wantedUpdates(): Generator<UpdateHeader> {
    for (const author of this.#want.authors()) {
      for (const epoch of this.#log.epochsOf(author)) {
        const header = this.#want.has(author, epoch) ? this.#log.get(author, epoch) : undefined;
        if (header !== undefined) yield header;
      }
    }
  }

  /** Epochs of `author` that the remote should send. */
  #lacking(author: string, epochMax: number, epochMin: number): number[] {
    const floor = Math.max(epochMin, this.#log.floor);
    const remote = this.#have.epochsOf(author, floor, epochMax);
    const lacking = remote.filter((epoch) => this.#log.get(author, epoch) === undefined);
    // Digests over different ranges say nothing.
    if ((this.#remoteSealed?.epoch ?? 0) !== this.#log.floor) return lacking;
    if (lacking.length > 0 || remote.length !== this.#log.epochsOf(author).length) return lacking;
    // The same epochs with other contents: the author signed two updates for one slot, and fetching
    // the remote's brings the proof to light.
    const isSame = this.#have.digestOf(author) === toHex(this.#log.authorDigest(author));
    if (isSame) return [];
    // Not always from the first on: a session may be cut before it comes to the slot that differs.
    const start = (this.#clockMs ?? 0) % remote.length;
    return [...remote.slice(start), ...remote.slice(0, start)];
  }

  #inPhase<T>(phase: 'have' | 'want' | 'updates', value: T): T {
    if (this.#phase === phase) return value;
    throw new SyncProtocolError(
      `a frame out of turn (in phase ${this.#phase}, it belongs to ${phase})`,
    );
  }

  #onHave(have: wire.Have, bytes: number): SyncEvent {
    if (toHex(have.runId) !== this.#run.id) throw new SyncProtocolError('another run');
    if (this.#clockMs === null) return this.#onOpening(have);
    this.#have.add(have.authors, have.evicted, bytes);
    return have.last ? this.#onHaveEnd(this.#clockMs) : partOf(have.authors);
  }

  #onOpening({ logDigest, authors, evicted, last, ...have }: wire.Have): SyncEvent {
    const { admissionsDigest } = have;
    if (logDigest.length !== 32 || authors.length > 0 || evicted.length > 0 || last) {
      throw new SyncProtocolError('a session that does not open with the digest of a log alone');
    }
    if (have.sealed) {
      const { epoch, statement } = have.sealed;
      this.#remoteSealed = { epoch, statement: toHex(statement) };
    }
    this.#hasSameSeals = bytesEqual(this.#held.summary.digest, have.sealsDigest);
    this.#clockMs = have.clockMs;
    this.#amendment = have.amendment ?? null;
    const stated = this.#stated;
    this.#isSame = stated !== null && bytesEqual(stated.log, logDigest);
    this.#hasSameAdmissions = stated !== null && bytesEqual(stated.admissions, admissionsDigest);
    return this.#isSame ? this.#onHaveEnd(have.clockMs) : { kind: 'differs' };
  }

  #onHaveEnd(clockMs: number): SyncEvent {
    this.#phase = 'want';
    return {
      kind: 'have',
      clockMs,
      sealed: this.#remoteSealed,
      amendment: this.#amendment,
    };
  }

  /** A frame of a kind that only a newer minor version knows. */
  #onUnknown(bytes: Uint8Array): SyncEvent {
    this.#unknownFrames += 1;
    if (bytes.length === 0) throw new SyncProtocolError('an empty frame');
    if (this.#unknownFrames > limits.UNKNOWN_FRAMES_MAX) {
      throw new SyncProtocolError('too many frames of unknown kinds');
    }
    return { kind: 'nothing' };
  }

  #onWant(want: wire.Want, bytes: number): SyncEvent {
    this.#want.add(want.authors, [], bytes);
    if (!want.last) return partOf(want.authors);
    this.#phase = 'updates';
    return { kind: 'want' };
  }

  #onAdmission(admission: wire.SignedAdmission): SyncEvent {
    this.#admissions += 1;
    if (this.#clockMs === null || this.#admissions > limits.ADMISSIONS_MAX) {
      throw new SyncProtocolError('too many admissions, or one before the opening');
    }
    return { kind: 'admission', admission };
  }

  #onEquivocation(equivocation: wire.Equivocation): SyncEvent {
    this.#countProof();
    return { kind: 'equivocation', equivocation };
  }

  #onSealEquivocation(equivocation: wire.SealEquivocation): SyncEvent {
    this.#countProof();
    return { kind: 'sealEquivocation', equivocation };
  }

  #countProof(): void {
    this.#proofs += 1;
    if (this.#proofs > limits.EVICTED_MAX) throw new SyncProtocolError('too many proofs');
  }

  #onCertificate(certificate: wire.SealCertificate): SyncEvent {
    this.#checkOpened('a certificate');
    if (this.#hasCertificate) throw new SyncProtocolError('a second certificate');
    this.#hasCertificate = true;
    return { kind: 'certificate', certificate };
  }

  #onSeal(seal: wire.SignedSeal): SyncEvent {
    this.#checkOpened('a seal');
    this.#seals += 1;
    if (this.#seals > limits.SEALS_MAX) throw new SyncProtocolError('too many seals');
    return { kind: 'seal', seal };
  }

  /** Seals come between the opening and the wishes. */
  #checkOpened(what: string): void {
    if (this.#clockMs === null || (this.#phase !== 'have' && this.#phase !== 'want')) {
      throw new SyncProtocolError(`${what} out of turn (in phase ${this.#phase})`);
    }
  }

  #onChunk({ bytes, last }: wire.Chunk): SyncEvent {
    const start = this.#partialBytes;
    this.#partialBytes += bytes.length;
    if (this.#partialBytes > this.#updateBytesMax) {
      throw new SyncProtocolError(`an update of more than ${this.#updateBytesMax} bytes`);
    }
    if (bytes.length === 0 && !last) throw new SyncProtocolError('an empty chunk');
    if (this.#partialBytes > this.#partial.length) {
      const larger = new Uint8Array(Math.max(this.#partialBytes, 2 * start));
      larger.set(this.#partial.subarray(0, start));
      this.#partial = larger;
    }
    this.#partial.set(bytes, start);
    if (!last) return { kind: 'nothing' };
    this.#updates += 1;
    if (this.#updates > this.#wantedCount) throw new SyncProtocolError('more than was asked for');
    const encoded = this.#partial.subarray(0, this.#partialBytes);
    this.#partial = new Uint8Array();
    this.#partialBytes = 0;
    try {
      return { kind: 'update', update: wire.Update.decode(encoded) };
    } catch (cause) {
      throw new SyncProtocolError(`an update that is not valid: ${messageOf(cause)}`, { cause });
    }
  }
}

/** A frame of a vector that goes on; an empty one would be the first of any number. */
function partOf(authors: readonly unknown[]): SyncEvent {
  if (authors.length === 0) throw new SyncProtocolError('an empty frame of a vector that goes on');
  return { kind: 'nothing' };
}

function decodeFrame(bytes: Uint8Array): wire.SyncFrame {
  let frame: wire.SyncFrame;
  try {
    frame = wire.SyncFrame.decode(bytes);
  } catch (cause) {
    throw new SyncProtocolError(`a frame that is not valid: ${messageOf(cause)}`, { cause });
  }
  const kinds = Object.keys(frame).length;
  if (kinds > 1) throw new SyncProtocolError(`a frame of ${kinds} kinds; one is allowed`);
  return frame;
}

function* chunks(encoded: Uint8Array<ArrayBuffer>): Generator<Uint8Array> {
  for (let start = 0; start < encoded.length; start += limits.SYNC_CHUNK_BYTES) {
    const bytes = encoded.subarray(start, start + limits.SYNC_CHUNK_BYTES);
    const last = start + limits.SYNC_CHUNK_BYTES >= encoded.length;
    yield wire.SyncFrame.encode({ chunk: { bytes, last } });
  }
}
