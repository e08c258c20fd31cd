/** Invites as people hand them on: made at the founder's peer, used by the peer that they bring in. */
import { randomBytes } from 'node:crypto';
import {
  checkInvitation,
  createAdmission,
  createInvitation,
  oneTimeSigner,
  type Admission,
} from '../protocol/admission.js';
import { InvalidInviteError, UpdateRejectedError } from '../protocol/errors.js';
import { decodeInvite, encodeInvite, type Invite } from '../protocol/invite.js';
import { EPOCHS_MAX, INVITE_ADDRESSES_MAX } from '../protocol/limits.js';
import type { Run } from '../protocol/manifest.js';
import { isListed } from '../protocol/members.js';
import { EXIT_USAGE, UserError } from './errors.js';
import type { Identity } from './interfaces.js';
import { cleanAddresses, parseAddress, peerIdOf } from './net/addresses.js';
import type { SwarmKey } from './net/swarm-key.js';

/** Addresses of bootstrap nodes in an invite; the founder's own come before them. */
const CONTACTS_MAX = 2;

export interface InviteContext {
  run: Run;
  identity: Identity;
  /** Multiaddrs of this peer. */
  addresses: readonly string[];
  /** Multiaddrs of bootstrap nodes and peers that this one was given. */
  contacts: readonly string[];
  swarmKey: SwarmKey | null;
  /** Slot of the clock. */
  epoch: number;
}

/** An invite for one peer that may be used for `epochs` more epochs. Throws UserError where there can be none. */
export function makeInvite(context: InviteContext, epochs: number): string {
  const { run, identity, swarmKey } = context;
  const { founder, membership } = run.manifest;
  if (identity.peerId !== founder) {
    throw new UserError(`only the founder of this run can invite: ${founder}`);
  }
  if (membership.mode !== 'invite') {
    throw new UserError(
      membership.mode === 'open'
        ? 'this run is open: whoever has an address of it can join without an invite (found one with --invite-only to change that)'
        : 'this run admits the peers that it lists only; found one with --invite-only to invite others',
    );
  }
  const secret = randomBytes(32);
  const lastEpoch = Math.min(Math.max(0, context.epoch) + epochs, EPOCHS_MAX - 1);
  const invitation = createInvitation(run, identity, oneTimeSigner(secret), lastEpoch);
  const own = cleanAddresses(founder, context.addresses);
  // What only this machine reaches is of use to nobody else, but in a trial on one machine it is all there is.
  const isLocal = (address: string): boolean => /^\/(ip4\/127\.|ip6\/::1\/)/.test(address);
  const sorted = [...own.filter((each) => !isLocal(each)), ...own.filter(isLocal)];
  const contacts = context.contacts.slice(0, CONTACTS_MAX);
  return encodeInvite({
    runId: run.id,
    founder,
    addresses: [...sorted.slice(0, INVITE_ADDRESSES_MAX - contacts.length), ...contacts],
    invitation: invitation.bytes,
    signature: invitation.signature,
    secret,
    swarmKey: swarmKey?.reveal() ?? null,
  });
}

/** What `text` says. Throws UserError (wrong usage), which quotes nothing of it. */
export function readInvite(text: string): Invite {
  try {
    return decodeInvite(text);
  } catch (error) {
    if (!(error instanceof InvalidInviteError)) throw error;
    throw new UserError(error.message, EXIT_USAGE);
  }
}

/** Full multiaddrs at which the run of an invite is found. Throws UserError. */
export function addressesOf({ addresses, founder }: Invite): string[] {
  return addresses.map((address) =>
    peerIdOf(parseAddress(address)) === null ? `${address}/p2p/${founder}` : address,
  );
}

/**
 * How `identity` comes into `run`: null where the manifest lists it, or where an invite that has expired is given
 * again for a run that this peer is in. Throws UserError where the invite does not let it in.
 */
export function useInvite(
  invite: Invite,
  run: Run,
  identity: Identity,
  { epoch, isResuming }: { epoch: number; isResuming: boolean },
): Admission | null {
  const { founder, membership } = run.manifest;
  if (membership.mode === 'open' || isListed(membership, identity.peerId)) return null;
  const oneTime = oneTimeSigner(invite.secret);
  let invitation;
  try {
    invitation = checkInvitation(run, invite.invitation, invite.signature);
  } catch (error) {
    if (!(error instanceof UpdateRejectedError)) throw error;
    throw new UserError(
      `the invite is not valid for the run "${run.manifest.name}"; ask the founder ${founder} for another`,
    );
  }
  const firstEpoch = Math.max(0, epoch);
  if (firstEpoch <= invitation.lastEpoch)
    return createAdmission(invitation, oneTime, identity, firstEpoch);
  if (isResuming) return null;
  throw new UserError(
    `the invite has expired: it could be used until epoch ${invitation.lastEpoch + 1}, and this is epoch ` +
      `${firstEpoch + 1}; ask the founder ${founder} for another`,
  );
}
