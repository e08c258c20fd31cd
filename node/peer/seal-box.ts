/** The seals that a peer has heard of and that no certificate has overtaken yet: one of each member for each epoch. */
import { createHash } from 'node:crypto';
import { sealEquivocationProof, type EquivocationProof } from '../../protocol/equivocation.js';
import { UpdateRejectedError } from '../../protocol/errors.js';
import { SEALS_OPEN_MAX } from '../../protocol/limits.js';
import type { Members } from '../../protocol/members.js';
import {
  assembleCertificate,
  hasQuorum,
  type Seal,
  type SealCertificate,
} from '../../protocol/seal.js';

export interface SealWindow {
  /** Seals up to this epoch are overtaken. */
  floor: number;
  /** The newest epoch that is due, or will be in a moment. */
  newest: number;
  /** Epochs between two seals. */
  every: number;
}

/** How far an epoch is from its certificate. */
export interface SealCount {
  epoch: number;
  /** Members who signed the statement with the most weight, and those who signed nothing. */
  signed: string[];
  silent: string[];
}

export class SealBox {
  readonly #members: Members;
  /** Epoch -> member -> seal. */
  readonly #seals = new Map<number, Map<string, Seal>>();
  #digest: Uint8Array | null = null;

  constructor(members: Members) {
    this.#members = members;
  }

  /**
   * Takes a checked seal: null when it is held already, or a proof when its member signed another statement.
   * @throws UpdateRejectedError for a member that may not vote, or an epoch out of the window.
   */
  add(seal: Seal, window: SealWindow): 'added' | EquivocationProof | null {
    const { epoch } = seal.statement;
    if (epoch > window.newest) {
      throw new UpdateRejectedError('future-epoch', 'defer', `a seal of epoch ${epoch}`);
    }
    if (epoch <= window.floor || epoch <= window.newest - SEALS_OPEN_MAX * window.every) {
      throw new UpdateRejectedError('sealed', 'ignore', `a seal of epoch ${epoch} comes too late`);
    }
    if (!this.#members.voters(epoch).has(seal.member)) {
      throw new UpdateRejectedError('not-a-member', 'defer', `${seal.member} has no vote`);
    }
    const seals = this.#seals.get(epoch) ?? new Map<string, Seal>();
    const held = seals.get(seal.member);
    if (held?.statement.id === seal.statement.id) return null;
    if (held !== undefined) return sealEquivocationProof(held, seal);
    this.#seals.set(epoch, seals.set(seal.member, seal));
    this.#digest = null;
    this.#forgetBefore(Math.max(window.floor, window.newest - SEALS_OPEN_MAX * window.every));
    return 'added';
  }

  get(epoch: number, member: string): Seal | undefined {
    return this.#seals.get(epoch)?.get(member);
  }

  /** Drops what a certificate of `epoch` has overtaken. */
  overtake(epoch: number): void {
    this.#forgetBefore(epoch);
  }

  /** The newest certificate that the seals held amount to; null for none. */
  certificate(): SealCertificate | null {
    for (const epoch of [...this.#seals.keys()].sort((a, b) => b - a)) {
      const voters = this.#members.voters(epoch);
      for (const [first, ...others] of this.#groups(epoch)) {
        const seals: [Seal, ...Seal[]] = [first, ...others];
        const signers = seals.map(({ member }) => member);
        if (hasQuorum(voters, signers)) return assembleCertificate(seals);
      }
    }
    return null;
  }

  /** Who has signed and who has not for `epoch`. */
  count(epoch: number): SealCount {
    const voters = this.#members.voters(epoch);
    const weightOf = (seals: readonly Seal[]): number =>
      seals.reduce((sum, { member }) => sum + (voters.get(member) ?? 0), 0);
    const [best] = this.#groups(epoch).sort((a, b) => weightOf(b) - weightOf(a));
    const heard = this.#seals.get(epoch);
    return {
      epoch,
      signed: best?.map(({ member }) => member) ?? [],
      silent: [...voters.keys()].filter((member) => heard?.has(member) !== true),
    };
  }

  /** All seals held. */
  all(): Seal[] {
    return [...this.#seals.values()].flatMap((seals) => [...seals.values()]);
  }

  /** SHA-256 over the seals held: 32 bytes; none without a seal. */
  digest(): Uint8Array {
    if (this.#digest !== null) return this.#digest;
    const names = this.all().map(({ statement, member }) => `${statement.id} ${member}`);
    const hash = createHash('sha256');
    for (const name of names.sort()) hash.update(`${name}\n`);
    this.#digest = names.length === 0 ? new Uint8Array() : Uint8Array.from(hash.digest());
    return this.#digest;
  }

  /** Seals for one epoch, together where they are for one statement. */
  #groups(epoch: number): [Seal, ...Seal[]][] {
    const groups = new Map<string, [Seal, ...Seal[]]>();
    for (const seal of this.#seals.get(epoch)?.values() ?? []) {
      const group = groups.get(seal.statement.id);
      if (group === undefined) groups.set(seal.statement.id, [seal]);
      else group.push(seal);
    }
    return [...groups.values()];
  }

  /** Forgets seals of `epoch` and earlier ones. */
  #forgetBefore(epoch: number): void {
    for (const old of this.#seals.keys()) {
      if (old > epoch) continue;
      this.#seals.delete(old);
      this.#digest = null;
    }
  }
}
