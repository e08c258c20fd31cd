/**
 * The replicated set: every update that a peer holds, proofs against authors who signed two different
 * updates for one epoch, and the admissions of invited members. A grow-only set with merge = union, so
 * peers that exchanged everything hold the same log whatever the order (a state-based CRDT: Shapiro et al. 2011).
 */
import { createHash } from 'node:crypto';
import { fromHex, toHex } from './bytes.js';
import type { Admission } from './admission.js';
import { UpdateRejectedError } from './errors.js';
import { AUTHORS_MAX } from './limits.js';
import { Members } from './members.js';
import type { Quantised } from './quantise.js';
import type { Update, UpdateHeader } from './update.js';

/** Two headers of one author for one epoch, in ascending order of id. */
export interface EquivocationProof {
  author: string;
  first: UpdateHeader;
  second: UpdateHeader;
}

interface Author {
  updates: Map<number, Update>;
  /** SHA-256 over the ids in epoch order; null when stale. */
  digest: Uint8Array | null;
  /** Their epochs, ascending; null when stale. Each sync asks for those of every author. */
  epochs: readonly number[] | null;
}

/** What insert() did. */
export type InsertResult =
  | { kind: 'added' }
  | { kind: 'duplicate' }
  | { kind: 'evicted'; proof: EquivocationProof; fromEpoch: number };

export class UpdateLog {
  /** Whose updates it takes. Only admit() may change it. */
  readonly members: Members;
  readonly #authors = new Map<string, Author>();
  readonly #proofs = new Map<string, EquivocationProof>();
  readonly #byEpoch = new Map<number, Map<string, Update>>();
  readonly #byId = new Map<string, Update>();
  /** The newest update with each body; two can have the same. */
  readonly #byBody = new Map<string, Update>();
  /** authors(); null when stale. */
  #sorted: readonly string[] | null = null;
  /** digest(); null when stale. Each sync states it. */
  #digest: Uint8Array | null = null;
  #size = 0;
  #newestEpoch = -1;
  #floor = 0;

  constructor(members = new Members()) {
    this.members = members;
  }

  /** Updates held, those of evicted authors not counted. */
  get size(): number {
    return this.#size;
  }

  /** The epoch before the floor while empty: -1 in a log that was kept whole. */
  get newestEpoch(): number {
    return Math.max(this.#newestEpoch, this.#floor - 1);
  }

  /** Updates of earlier epochs are in the checkpoint that the log goes on from, or nowhere. */
  get floor(): number {
    return this.#floor;
  }

  /** Drops the updates of epochs below `epoch` and refuses them from now on. Proofs stay. */
  setFloor(epoch: number): void {
    this.#floor = epoch;
    this.#digest = null;
    for (const [old, updates] of this.#byEpoch) {
      if (old >= epoch) continue;
      this.#byEpoch.delete(old);
      this.#size -= updates.size;
      for (const update of updates.values()) {
        this.#forget(update);
        const author = this.#author(update.author);
        author.updates.delete(old);
        [author.digest, author.epochs] = [null, null];
        if (author.updates.size > 0) continue;
        // Whoever has long left makes room for others.
        this.#authors.delete(update.author);
        this.#sorted = null;
      }
    }
  }

  /**
   * Adds a checked update (see checkUpdate).
   * @throws UpdateRejectedError when the epoch lies below the floor, or the author is no member then, is evicted
   * or is one more than AUTHORS_MAX.
   */
  insert(update: Update): InsertResult {
    const { author: id, epoch } = update;
    if (epoch < this.#floor) throw behindHorizon(epoch, this.#floor);
    this.#checkMember(id, epoch);
    if (this.#proofs.has(id)) {
      throw new UpdateRejectedError('evicted', 'ignore', `${id} was evicted for equivocation`);
    }
    const held = this.#authors.get(id)?.updates.get(epoch);
    if (held?.id === update.id) return { kind: 'duplicate' };
    if (held !== undefined) {
      const proof = equivocationProof(held, update);
      return { kind: 'evicted', proof, fromEpoch: this.evict(proof) ?? epoch };
    }
    const author = this.#author(id);
    author.updates.set(epoch, update);
    author.digest = null;
    author.epochs = null;
    this.#digest = null;
    this.#epoch(epoch).set(id, update);
    this.#byId.set(update.id, update);
    this.#byBody.set(toHex(update.bodyRoot), update);
    this.#size += 1;
    this.#newestEpoch = Math.max(this.#newestEpoch, epoch);
    return { kind: 'added' };
  }

  /**
   * Takes a checked admission. Drops what was admitted by an invitation that a second peer has used too, as if
   * it had never been there. Returns the earliest epoch that changes (Infinity for none); null when it is not new.
   * @throws UpdateRejectedError (capacity).
   */
  admit(admission: Admission): number | null {
    const concerned = this.members.add(admission);
    if (concerned === null) return null;
    this.#digest = null;
    return Math.min(Infinity, ...concerned.map((peerId) => this.#dropBefore(peerId)));
  }

  /**
   * Drops all updates of the proven equivocator and refuses further ones, as if it had never been there.
   * Returns the earliest epoch that changes (Infinity for none); null when it was evicted before.
   */
  evict(proof: EquivocationProof): number | null {
    if (this.#proofs.has(proof.author)) return null;
    this.#checkMember(proof.author, Infinity);
    if (this.#authors.size + this.#proofs.size >= AUTHORS_MAX && !this.#authors.has(proof.author)) {
      throw new UpdateRejectedError('capacity', 'ignore', `more than ${AUTHORS_MAX} authors`);
    }
    this.#proofs.set(proof.author, proof);
    this.#digest = null;
    return this.#drop(proof.author, Infinity);
  }

  get(author: string, epoch: number): Update | undefined {
    return this.#authors.get(author)?.updates.get(epoch);
  }

  /** The update with this id (SHA-256 of its header, hex). */
  withId(id: string): Update | undefined {
    return this.#byId.get(id);
  }

  /** An update whose body has this root (hex). */
  withBody(root: string): Update | undefined {
    return this.#byBody.get(root);
  }

  /** Updates of one epoch. */
  countIn(epoch: number): number {
    return this.#byEpoch.get(epoch)?.size ?? 0;
  }

  /** The updates of one epoch in ascending order of peer id: the order of the fold. */
  inEpoch(epoch: number): Update[] {
    const updates = [...(this.#byEpoch.get(epoch)?.values() ?? [])];
    return updates.sort((a, b) => (a.author < b.author ? -1 : 1));
  }

  /** The body of an update that the log gave, evicted or not. */
  read(header: UpdateHeader): Quantised {
    // What the log gives are whole updates.
    return header as Update;
  }

  /** Authors in ascending order of peer id. */
  authors(): readonly string[] {
    this.#sorted ??= [...this.#authors.keys()].sort();
    return this.#sorted;
  }

  /** Epochs for which the log holds an update of `author`, ascending. */
  epochsOf(author: string): readonly number[] {
    const entry = this.#authors.get(author);
    if (entry === undefined) return [];
    entry.epochs ??= [...entry.updates.keys()].sort((a, b) => a - b);
    return entry.epochs;
  }

  proofs(): EquivocationProof[] {
    return [...this.#proofs.values()];
  }

  proofAgainst(author: string): EquivocationProof | undefined {
    return this.#proofs.get(author);
  }

  /** SHA-256 over the ids of one author's updates in epoch order: 32 bytes. */
  authorDigest(author: string): Uint8Array {
    const entry = this.#authors.get(author);
    if (entry?.digest) return entry.digest;
    const hash = createHash('sha256');
    for (const epoch of this.epochsOf(author))
      hash.update(fromHex(this.get(author, epoch)?.id ?? ''));
    const digest = Uint8Array.from(hash.digest());
    if (entry) entry.digest = digest;
    return digest;
  }

  /** SHA-256 over the whole set, evictions included: equal exactly when two logs are equal. 32 bytes, not to be written to. */
  digest(): Uint8Array {
    if (this.#digest !== null) return this.#digest;
    const hash = createHash('sha256');
    for (const author of this.authors()) hash.update(author).update(this.authorDigest(author));
    for (const author of [...this.#proofs.keys()].sort()) hash.update(`evicted ${author}`);
    // Nothing in a run without invitations.
    hash.update(this.members.digest());
    this.#digest = Uint8Array.from(hash.digest());
    return this.#digest;
  }

  /** @throws UpdateRejectedError unless the author is a member in `epoch`, as far as admissions have come. */
  #checkMember(author: string, epoch: number): void {
    const first = this.members.firstEpochOf(author);
    if (first <= epoch && first !== Infinity) return;
    // Not its sender's fault, nor lost: the sync that brings the admission brings the update after it.
    const detail = first === Infinity ? 'is no member' : `is a member from epoch ${first} on only`;
    throw new UpdateRejectedError('not-a-member', 'defer', `${author} ${detail}`);
  }

  /** Drops what a peer sent while it was no member; returns the earliest epoch of that. */
  #dropBefore(peerId: string): number {
    const first = this.members.firstEpochOf(peerId);
    // A proof against a stranger would be one that others may not hold.
    if (first === Infinity) this.#proofs.delete(peerId);
    return this.#drop(peerId, first);
  }

  /** Drops the updates of one author before `end`; returns the earliest epoch of those, Infinity for none. */
  #drop(author: string, end: number): number {
    const entry = this.#authors.get(author);
    if (entry === undefined) return Infinity;
    const dropped = [...entry.updates].filter(([epoch]) => epoch < end);
    for (const [epoch, update] of dropped) {
      this.#forget(update);
      entry.updates.delete(epoch);
      this.#byEpoch.get(epoch)?.delete(author);
      if (this.#byEpoch.get(epoch)?.size === 0) this.#byEpoch.delete(epoch);
    }
    [entry.digest, entry.epochs, this.#digest] = [null, null, null];
    if (entry.updates.size === 0) {
      this.#authors.delete(author);
      this.#sorted = null;
    }
    this.#size -= dropped.length;
    this.#newestEpoch = Math.max(-1, ...this.#byEpoch.keys());
    return Math.min(Infinity, ...dropped.map(([epoch]) => epoch));
  }

  /** What is found by its id or its body alone. */
  #forget(update: Update): void {
    const body = toHex(update.bodyRoot);
    this.#byId.delete(update.id);
    if (this.#byBody.get(body) === update) this.#byBody.delete(body);
  }

  #author(id: string): Author {
    let author = this.#authors.get(id);
    if (author === undefined) {
      if (this.#authors.size + this.#proofs.size >= AUTHORS_MAX) {
        throw new UpdateRejectedError('capacity', 'ignore', `more than ${AUTHORS_MAX} authors`);
      }
      author = { updates: new Map(), digest: null, epochs: null };
      this.#authors.set(id, author);
      this.#sorted = null;
    }
    return author;
  }

  #epoch(epoch: number): Map<string, Update> {
    let updates = this.#byEpoch.get(epoch);
    if (updates === undefined) {
      updates = new Map();
      this.#byEpoch.set(epoch, updates);
    }
    return updates;
  }
}

/** For an update, or the announcement of one, that a checkpoint has overtaken. */
export function behindHorizon(epoch: number, floor: number): UpdateRejectedError {
  return new UpdateRejectedError(
    'behind-horizon',
    'ignore',
    `epoch ${epoch} lies behind the horizon: the log begins at epoch ${floor}`,
  );
}

/** Orders the two headers, so that the proof is the same whichever came first. */
export function equivocationProof(a: UpdateHeader, b: UpdateHeader): EquivocationProof {
  const [first, second] = a.id < b.id ? [a, b] : [b, a];
  return { author: a.author, first, second };
}
