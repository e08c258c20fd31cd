/**
 * Who belongs to a run: whom its manifest lists, and whom admissions brought in. Like the log it is a
 * function of a set, not of an order: **an invitation that two peers have used admits neither** (docs/PROTOCOL.md,
 * "Membership").
 */
import { createHash } from 'node:crypto';
import type { Admission } from './admission.js';
import { UpdateRejectedError } from './errors.js';
import { AUTHORS_MAX } from './limits.js';
import type { Membership } from './manifest.js';

/** Whether the manifest itself names `peerId`, or lets everybody in. */
export function isListed(membership: Membership, peerId: string): boolean {
  return (
    membership.mode === 'open' || membership.members.some((member) => member.peerId === peerId)
  );
}

export class Members {
  readonly #membership: Membership;
  /** Invitation -> peer id -> admission: one that counts, or two that cancel each other. */
  readonly #used = new Map<string, Map<string, Admission>>();
  /** Ids of the admissions held. */
  readonly #ids = new Set<string>();
  /** digest(); null when stale. */
  #digest: Uint8Array<ArrayBuffer> | null = null;

  constructor(membership: Membership = { mode: 'open' }) {
    this.#membership = membership;
  }

  get isOpen(): boolean {
    return this.#membership.mode === 'open';
  }

  /** Members that came by invitation. */
  get admitted(): number {
    return [...this.#used.values()].filter(({ size }) => size === 1).length;
  }

  has(peerId: string): boolean {
    return this.firstEpochOf(peerId) !== Infinity;
  }

  /** From this epoch on the updates of `peerId` count; Infinity for a stranger. */
  firstEpochOf(peerId: string): number {
    if (isListed(this.#membership, peerId)) return 0;
    return this.admissionOf(peerId)?.firstEpoch ?? Infinity;
  }

  /**
   * Who may vote on the epochs before `epoch`, with the weight of each: all that the manifest lists, and all that
   * were admitted until then, present or not.
   */
  voters(epoch: number): Map<string, number> {
    const membership = this.#membership;
    if (membership.mode === 'open') return new Map();
    const voters = new Map(membership.members.map(({ peerId, weight }) => [peerId, weight]));
    if (membership.mode === 'allowlist') return voters;
    for (const users of this.#used.values()) {
      const [admission] = users.values();
      if (users.size !== 1 || admission === undefined || admission.firstEpoch > epoch) continue;
      if (!voters.has(admission.member)) voters.set(admission.member, membership.inviteWeight);
    }
    return voters;
  }

  /** The admission by which `peerId` is a member, the earliest if there are several. */
  admissionOf(peerId: string): Admission | null {
    let first: Admission | null = null;
    for (const users of this.#used.values()) {
      const admission = users.size === 1 ? users.get(peerId) : undefined;
      if (admission && admission.firstEpoch < (first?.firstEpoch ?? Infinity)) first = admission;
    }
    return first;
  }

  /** Peer ids that have used an invitation (its key in hex). */
  usersOf(invitation: string): string[] {
    return [...(this.#used.get(invitation)?.keys() ?? [])];
  }

  /** Whether this very admission is held: it was checked when it came. */
  holds(id: string): boolean {
    return this.#ids.has(id);
  }

  /** Everything that others need to come to the same members. */
  admissions(): Admission[] {
    return [...this.#used.values()].flatMap((users) => [...users.values()]);
  }

  /**
   * Adds a checked admission. Returns the peers whose membership it may change; null when nothing is new.
   * @throws UpdateRejectedError when it uses one more invitation than AUTHORS_MAX.
   */
  add(admission: Admission): string[] | null {
    const { invitation, member, firstEpoch } = admission;
    const users = this.#used.get(invitation) ?? new Map<string, Admission>();
    const held = users.get(member);
    // A third user changes nothing, nor does a later beginning of the same one.
    if (held === undefined ? users.size > 1 : held.firstEpoch <= firstEpoch) return null;
    if (users.size === 0 && this.#used.size >= AUTHORS_MAX) {
      throw new UpdateRejectedError('capacity', 'ignore', `more than ${AUTHORS_MAX} invitations`);
    }
    if (held !== undefined) this.#ids.delete(held.id);
    users.set(member, admission);
    this.#used.set(invitation, users);
    this.#ids.add(admission.id);
    this.#digest = null;
    return [...users.keys()];
  }

  /**
   * SHA-256 over what the admissions come to: equal exactly when they make the same peers members from the
   * same epochs on. 32 bytes, none without an admission; not to be written to.
   */
  digest(): Uint8Array<ArrayBuffer> {
    if (this.#used.size === 0) return new Uint8Array();
    if (this.#digest !== null) return this.#digest;
    const hash = createHash('sha256');
    for (const [invitation, users] of [...this.#used].sort(([a], [b]) => (a < b ? -1 : 1))) {
      const [admission] = users.values();
      if (users.size > 1 || admission === undefined) hash.update(`void ${invitation}`);
      else hash.update(`${invitation} ${admission.member} ${admission.firstEpoch}`);
    }
    this.#digest = Uint8Array.from(hash.digest());
    return this.#digest;
  }
}
