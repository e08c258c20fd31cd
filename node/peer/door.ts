/**
 * The door of a run: whom this peer serves, and why it does not serve others. The set of admissions is judged by its
 * content alone (protocol/members.ts); the door also looks at the clock and at what is known here, because it
 * decides who may add to that set.
 */
import { checkAdmission, type Admission, type Refusal } from '../../protocol/admission.js';
import { UpdateRejectedError } from '../../protocol/errors.js';
import { encodeAdmission } from '../../protocol/gossip.js';
import { FUTURE_EPOCHS_MAX } from '../../protocol/limits.js';
import type * as wire from '../../protocol/wire/messages.js';
import type { Replica } from './replica.js';

export interface DoorComponents {
  replica: Replica;
  /** Slot of the own clock. */
  epochNow: () => number;
  /** Peer id of this peer. */
  self: string;
  /** Tells the members of a new one. */
  tell: (message: Uint8Array) => void;
}

export class Door {
  readonly #c: DoorComponents;
  #refused = 0;

  constructor(components: DoorComponents) {
    this.#c = components;
  }

  /** What strangers asked for in vain: streams, messages and announcements. */
  get refused(): number {
    return this.#refused;
  }

  /** By which this peer is a member; null when the manifest lists it, or it is none. */
  get admission(): wire.SignedAdmission | null {
    return this.#c.replica.log.members.admissionOf(this.#c.self)?.signed ?? null;
  }

  isMember(peerId: string): boolean {
    return this.#c.replica.log.members.has(peerId);
  }

  /** Counts a stranger that was turned away. */
  turnAway(): void {
    this.#refused += 1;
  }

  /** `peerId`, as its connection proved it, asks to be let in. Null when it is a member now, else why not. */
  knock(peerId: string, message: wire.SignedAdmission | null): Refusal | null {
    const refusal = this.isMember(peerId) ? null : this.#judge(peerId, message);
    if (refusal !== null) this.turnAway();
    return refusal;
  }

  /**
   * The admission of a member that this peer dialled. A newcomer takes it whatever the clock says: whoever has
   * been in the run for long came by an invitation that has ended since.
   */
  meet(message: wire.SignedAdmission): void {
    const { log } = this.#c.replica;
    const isNewcomer = log.size === 0 && log.floor === 0;
    const admission = this.#read(message);
    if (admission === null || this.isMember(admission.member)) return;
    if (isNewcomer || !this.#isOver(admission)) this.#admit(admission);
  }

  #judge(peerId: string, message: wire.SignedAdmission | null): Refusal | null {
    if (message === null) return 'not-a-member';
    const admission = this.#read(message);
    if (admission === null || admission.member !== peerId) return 'bad-admission';
    if (this.#isOver(admission)) return 'expired';
    // Kept out here it harms nobody; in the set it would cost the first user its place as well.
    const users = this.#c.replica.log.members.usersOf(admission.invitation);
    if (users.some((user) => user !== peerId)) return 'used';
    return this.#admit(admission) ? null : 'bad-admission';
  }

  #read(message: wire.SignedAdmission): Admission | null {
    try {
      return checkAdmission(this.#c.replica.run, message);
    } catch (error) {
      if (error instanceof UpdateRejectedError) return null;
      throw error;
    }
  }

  #isOver({ lastEpoch }: Admission): boolean {
    return this.#c.epochNow() > lastEpoch + FUTURE_EPOCHS_MAX;
  }

  #admit(admission: Admission): boolean {
    if (this.#c.replica.admit(admission, admission.member) !== 'accept') return false;
    this.#c.tell(encodeAdmission(admission));
    return true;
  }
}
