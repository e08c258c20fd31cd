/**
 * The invite: one line of text that brings a peer into a closed run. It says where the run is and carries the
 * founder's invitation with its one-time private key, and the swarm key where there is one: a secret.
 */
import { base58btc } from 'multiformats/bases/base58';
import { bytesEqual, copyOf, fromHex, sha256, toHex } from './bytes.js';
import { InvalidInviteError } from './errors.js';
import { peerIdFromPublicKey, publicKeyFromPeerId } from './identity.js';
import {
  ADDRESS_BYTES_MAX,
  ADMISSION_BYTES_MAX,
  INVITE_ADDRESSES_MAX,
  INVITE_LENGTH_MAX,
} from './limits.js';
import * as wire from './wire/messages.js';

export interface Invite {
  /** 64 hex digits. */
  runId: string;
  /** Peer id of the founder. */
  founder: string;
  /** Multiaddrs; one that does not end in /p2p/<peer id> is the founder's. INVITE_ADDRESSES_MAX at most. */
  addresses: readonly string[];
  /** An encoded Invitation, and the founder's signature over it. */
  invitation: Uint8Array;
  signature: Uint8Array;
  /** Seed of the one-time key, 32 bytes. */
  secret: Uint8Array;
  /** 32 bytes; null where the network is open. */
  swarmKey: Uint8Array | null;
}

/** What every invite begins with; the digit is the version. */
export const INVITE_PREFIX = 'murmurate1';

/** Bytes of the checksum, enough to notice a character that was lost or changed. */
const CHECKSUM_BYTES = 4;

const CHECKSUM_DOMAIN = new TextEncoder().encode('murmurate/invite/1\n');

/** Whether `text` is meant to be an invite; errors must never quote it then. */
export function looksLikeInvite(text: string): boolean {
  return text.trim().toLowerCase().startsWith('murmurate');
}

export function encodeInvite(invite: Invite): string {
  const bytes = wire.Invite.encode({
    runId: fromHex(invite.runId),
    founder: publicKeyFromPeerId(invite.founder),
    addresses: invite.addresses.slice(0, INVITE_ADDRESSES_MAX),
    invitation: copyOf(invite.invitation),
    signature: copyOf(invite.signature),
    secret: copyOf(invite.secret),
    swarmKey: invite.swarmKey === null ? new Uint8Array() : copyOf(invite.swarmKey),
  });
  return INVITE_PREFIX + base58btc.baseEncode(Buffer.concat([bytes, checksum(bytes)]));
}

/**
 * Reads an invite; the invitation in it is checked once the run is known (checkInvitation).
 * @throws InvalidInviteError, whose sentence quotes nothing of it.
 */
export function decodeInvite(text: string): Invite {
  const line = text.trim();
  if (!line.startsWith(INVITE_PREFIX)) {
    throw new InvalidInviteError('this is an invite of another version; install a newer murmurate');
  }
  if (line.length > INVITE_LENGTH_MAX) throw broken(`it has ${line.length} characters`);
  let whole: Uint8Array;
  try {
    whole = base58btc.baseDecode(line.slice(INVITE_PREFIX.length));
  } catch {
    // The cause would quote it.
    throw broken('a character of it is none of base58');
  }
  const bytes = whole.subarray(0, -CHECKSUM_BYTES);
  if (!bytesEqual(checksum(bytes), whole.subarray(-CHECKSUM_BYTES))) {
    throw broken('its checksum does not match');
  }
  let message: wire.Invite;
  try {
    message = wire.Invite.decode(bytes);
  } catch {
    throw broken('a field of it cannot be read, or is out of its bounds');
  }
  return fromWire(message);
}

function fromWire(message: wire.Invite): Invite {
  const { runId, founder, addresses, invitation, signature, secret, swarmKey } = message;
  const hasLengths = [runId, founder, secret].every(({ length }) => length === 32);
  const isBounded =
    addresses.length > 0 &&
    addresses.length <= INVITE_ADDRESSES_MAX &&
    addresses.every((address) => Buffer.byteLength(address) <= ADDRESS_BYTES_MAX) &&
    invitation.length <= ADMISSION_BYTES_MAX &&
    signature.length === 64 &&
    (swarmKey.length === 0 || swarmKey.length === 32);
  if (!hasLengths || !isBounded) throw broken('a field of it is missing or out of its bounds');
  return {
    runId: toHex(runId),
    founder: peerIdFromPublicKey(founder),
    addresses,
    invitation: copyOf(invitation),
    signature: copyOf(signature),
    secret: copyOf(secret),
    swarmKey: swarmKey.length === 0 ? null : copyOf(swarmKey),
  };
}

function checksum(bytes: Uint8Array): Uint8Array {
  return sha256(CHECKSUM_DOMAIN, bytes).subarray(0, CHECKSUM_BYTES);
}

function broken(detail: string): InvalidInviteError {
  return new InvalidInviteError(
    `the invite is damaged (${detail}); copy all of it, or ask the founder for another`,
  );
}
