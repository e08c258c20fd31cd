/**
 * The replicated set: the header of every update that a peer holds, proofs against authors who signed two different
 * things for one epoch, and the admissions of invited members. What it holds is a function of what came, not of
 * the order in which it came, so peers that exchanged everything hold the same log (a state-based CRDT: Shapiro
 * et al. 2011). Bodies are elsewhere (bodies.ts).
 */
import { createHash } from 'node:crypto';
import type { Admission } from './admission.js';
import { MemoryBodies, type Bodies } from './bodies.js';
import { fromHex, toHex } from './bytes.js';
import { memberHash } from './cohorts.js';
import { equivocationProof, type EquivocationProof } from './equivocation.js';
import { UpdateRejectedError } from './errors.js';
import { AUTHORS_MAX, PROOFS_MAX } from './limits.js';
import { Members } from './members.js';
import type { Quantised } from './quantise.js';
import { headerOf, type Update, type UpdateHeader } from './update.js';

interface Author {
  updates: Map<number, UpdateHeader>;
  /** SHA-256 over the ids in epoch order; null when stale. */
  digest: Uint8Array | null;
  /** Their epochs, ascending; null when stale. Each sync asks for those of every author. */
  epochs: readonly number[] | null;
}

/** What insert() did. */
export type InsertResult =
  /** `changed`: other epochs that lost updates, of an author that had to make room. */
  | { kind: 'added'; changed: readonly number[] }
  | { kind: 'held' }
  | { kind: 'evicted'; proof: EquivocationProof; changed: readonly number[] };

export interface UpdateLogInit {
  /** Whose updates it takes; only admit() may change it. By default anybody's. */
  members?: Members;
  /** By default they are kept in memory. */
  bodies?: Bodies;
  /** Ranks authors where there are too many; 64 hex digits. */
  runId?: string;
  /** Authors of whom updates are held at one time. */
  authorsMax?: number;
}

export class UpdateLog {
  readonly members: Members;
  readonly bodies: Bodies;
  readonly #runId: string;
  readonly #authorsMax: number;
  readonly #authors = new Map<string, Author>();
  /** The proof with the earliest epoch for each evicted author. */
  readonly #proofs = new Map<string, EquivocationProof>();
  readonly #byEpoch = new Map<number, Map<string, UpdateHeader>>();
  readonly #byId = new Map<string, UpdateHeader>();
  /** The newest update with each body; two can have the same. */
  readonly #byBody = new Map<string, UpdateHeader>();
  /** authors(); null when stale. */
  #sorted: readonly string[] | null = null;
  /** digest(); null when stale. Each sync states it. */
  #digest: Uint8Array | null = null;
  #size = 0;
  #newestEpoch = -1;
  #floor = 0;
  #sealed = '';
  /** Ids of updates that a certificate which is to be adopted does not count. */
  readonly #excluded = new Set<string>();

  constructor(init: UpdateLogInit = {}) {
    this.members = init.members ?? new Members();
    this.bodies = init.bodies ?? new MemoryBodies();
    this.#runId = init.runId ?? '';
    this.#authorsMax = init.authorsMax ?? AUTHORS_MAX;
  }

  /** Updates held; those before the floor are not counted. */
  get size(): number {
    return this.#size;
  }

  /** The epoch before the floor while empty: -1 in a log without a seal. */
  get newestEpoch(): number {
    return Math.max(this.#newestEpoch, this.#floor - 1);
  }

  /** Updates of earlier epochs are sealed: no other counts any more. 0 without a seal. */
  get floor(): number {
    return this.#floor;
  }

  /** Drops all updates before `epoch`, which the seal with the statement `id` counts, and refuses others from now on. */
  seal(epoch: number, id: string): void {
    this.#floor = epoch;
    this.#sealed = id;
    this.#digest = null;
    this.#excluded.clear();
    for (const author of [...this.#authors.keys()]) this.#drop(author, (e) => e < epoch);
  }

  /**
   * Adds a checked update (see checkUpdate) and hands its body to `bodies`.
   * @throws UpdateRejectedError when its epoch is sealed, or the author is no member then, is evicted, or ranks
   * behind as many others as there may be.
   */
  insert(update: Update): InsertResult {
    const { author: id, epoch } = update;
    this.checkOpen(epoch);
    if (this.#excluded.has(update.id)) throw sealed(epoch, 'a certificate does not count it');
    this.#checkMember(id, epoch);
    if (epoch >= (this.#proofs.get(id)?.epoch ?? Infinity)) {
      throw new UpdateRejectedError('evicted', 'ignore', `${id} was evicted for equivocation`);
    }
    const held = this.#authors.get(id)?.updates.get(epoch);
    if (held?.id === update.id) return { kind: 'held' };
    if (held !== undefined) {
      const proof = equivocationProof(held, headerOf(update));
      return { kind: 'evicted', proof, changed: this.evict(proof) ?? [] };
    }
    const changed = this.#makeRoom(id, epoch);
    const header = headerOf(update);
    const author = this.#author(id);
    author.updates.set(epoch, header);
    [author.digest, author.epochs, this.#digest] = [null, null, null];
    this.#epoch(epoch).set(id, header);
    this.#byId.set(header.id, header);
    this.#byBody.set(toHex(header.bodyRoot), header);
    this.#size += 1;
    this.#newestEpoch = Math.max(this.#newestEpoch, epoch);
    this.bodies.put(update);
    return { kind: 'added', changed };
  }

  /** @throws UpdateRejectedError for an epoch that is sealed. */
  checkOpen(epoch: number): void {
    if (epoch >= this.#floor) return;
    throw sealed(epoch, `the members have agreed on all updates before ${this.#floor}`);
  }

  /**
   * Takes a checked admission. Drops what was admitted by an invitation that a second peer has used too, as if
   * it had never been there. Returns the epochs that change; null when it is not new.
   * @throws UpdateRejectedError (capacity).
   */
  admit(admission: Admission): readonly number[] | null {
    const concerned = this.members.add(admission);
    if (concerned === null) return null;
    this.#digest = null;
    return concerned.flatMap((peerId) => this.#dropBefore(peerId));
  }

  /**
   * Drops the updates of the proven equivocator from the proof's epoch on and refuses further ones. Returns the
   * epochs that change; null when an earlier proof is held, or the proof concerns nobody here: of an open run
   * those alone who have sent something, so that made-up names cost nothing.
   */
  evict(proof: EquivocationProof): readonly number[] | null {
    const { author, epoch } = proof;
    if (epoch >= (this.#proofs.get(author)?.epoch ?? Infinity)) return null;
    const isKnown = this.#proofs.has(author) || this.#authors.has(author);
    if (this.members.isOpen ? !isKnown : !this.members.has(author)) return null;
    this.#proofs.set(author, proof);
    this.#forgetProofs();
    return this.#drop(author, (e) => e >= epoch);
  }

  /** Drops updates and refuses them until the next seal. Returns their epochs. */
  exclude(headers: Iterable<UpdateHeader>): number[] {
    return [...headers].flatMap(({ author, epoch, id }) => {
      this.#excluded.add(id);
      return this.get(author, epoch)?.id === id ? this.#drop(author, (e) => e === epoch) : [];
    });
  }

  get(author: string, epoch: number): UpdateHeader | undefined {
    return this.#authors.get(author)?.updates.get(epoch);
  }

  /** The body of an update that this log holds, or held a moment ago. */
  read(header: UpdateHeader): Quantised {
    return this.bodies.read(header);
  }

  /** The update with this id (SHA-256 of its header, hex). */
  withId(id: string): UpdateHeader | undefined {
    return this.#byId.get(id);
  }

  /** An update whose body has this root (hex). */
  withBody(root: string): UpdateHeader | undefined {
    return this.#byBody.get(root);
  }

  /** Updates of one epoch. */
  countIn(epoch: number): number {
    return this.#byEpoch.get(epoch)?.size ?? 0;
  }

  /** The updates of one epoch in ascending order of peer id: the order of the fold. */
  inEpoch(epoch: number): UpdateHeader[] {
    const updates = [...(this.#byEpoch.get(epoch)?.values() ?? [])];
    return updates.sort((a, b) => (a.author < b.author ? -1 : 1));
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

  /**
   * SHA-256 over what is folded: the seal that the log goes on from, and every update since. Equal exactly when two
   * logs fold to the same adapter. Proofs are not in it: what they took away is missing already. 32 bytes, not to
   * be written to.
   */
  digest(): Uint8Array {
    if (this.#digest !== null) return this.#digest;
    const hash = createHash('sha256').update(this.#sealed);
    for (const author of this.authors()) hash.update(author).update(this.authorDigest(author));
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

  /**
   * Of more authors than there may be those count whose first update is for the earliest epoch, of equal ones those
   * with the smaller hash: the same at every peer, whoever came first. Returns the epochs that lose updates.
   * @throws UpdateRejectedError when the newcomer ranks last.
   */
  #makeRoom(newcomer: string, epoch: number): readonly number[] {
    if (this.#authors.has(newcomer) || this.#authors.size < this.#authorsMax) return [];
    let last = { author: newcomer, epoch };
    for (const author of this.#authors.keys()) {
      const other = { author, epoch: this.epochsOf(author)[0] ?? 0 };
      if (this.#ranksBehind(other, last)) last = other;
    }
    if (last.author === newcomer) {
      const detail = `more than ${this.#authorsMax} authors, and ${newcomer} ranks behind them`;
      throw new UpdateRejectedError('capacity', 'ignore', detail);
    }
    return this.#drop(last.author, () => true);
  }

  #ranksBehind(
    a: { author: string; epoch: number },
    b: { author: string; epoch: number },
  ): boolean {
    if (a.epoch !== b.epoch) return a.epoch > b.epoch;
    return this.#rankOf(a.author) > this.#rankOf(b.author);
  }

  #rankOf(author: string): string {
    return memberHash(this.#runId, author);
  }

  /** In an open run keeps the newest proofs; those against who holds no update any more go first. */
  #forgetProofs(): void {
    for (const author of this.#proofs.keys()) {
      if (this.#proofs.size <= PROOFS_MAX) return;
      if (!this.#authors.has(author)) this.#proofs.delete(author);
    }
  }

  /** Drops what a peer sent while it was no member; returns the epochs of that. */
  #dropBefore(peerId: string): readonly number[] {
    const first = this.members.firstEpochOf(peerId);
    // A proof against a stranger would be one that others may not hold.
    if (first === Infinity) this.#proofs.delete(peerId);
    return this.#drop(peerId, (epoch) => epoch < first);
  }

  /** Drops the updates of one author for epochs of which `isGone` says so; returns these epochs. */
  #drop(author: string, isGone: (epoch: number) => boolean): number[] {
    const entry = this.#authors.get(author);
    if (entry === undefined) return [];
    const dropped = [...entry.updates].filter(([epoch]) => isGone(epoch));
    if (dropped.length === 0) return [];
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
    this.#newestEpoch = newest(this.#byEpoch.keys());
    return dropped.map(([epoch]) => epoch);
  }

  /** What is found by its id or its body alone. */
  #forget(update: UpdateHeader): void {
    const body = toHex(update.bodyRoot);
    this.#byId.delete(update.id);
    if (this.#byBody.get(body) === update) this.#byBody.delete(body);
  }

  #author(id: string): Author {
    let author = this.#authors.get(id);
    if (author === undefined) {
      author = { updates: new Map(), digest: null, epochs: null };
      this.#authors.set(id, author);
      this.#sorted = null;
    }
    return author;
  }

  #epoch(epoch: number): Map<string, UpdateHeader> {
    let updates = this.#byEpoch.get(epoch);
    if (updates === undefined) {
      updates = new Map();
      this.#byEpoch.set(epoch, updates);
    }
    return updates;
  }
}

function sealed(epoch: number, why: string): UpdateRejectedError {
  return new UpdateRejectedError('sealed', 'ignore', `an update of epoch ${epoch}: ${why}`);
}

function newest(epochs: Iterable<number>): number {
  let last = -1;
  for (const epoch of epochs) last = Math.max(last, epoch);
  return last;
}
