/**
 * Membership by invitation. The founder signs an invitation over a one-time public key; who holds the private
 * half admits one peer with it: itself. The admission is a record that peers replicate like updates, so it is
 * judged by its content alone, and nobody needs to be online for it but whoever hands it on.
 */
import { createPrivateKey, createPublicKey, sign } from 'node:crypto';
import { copyOf, fromHex, sha256, toHex } from './bytes.js';
import { PROTOCOL_VERSION } from './ids.js';
import { peerIdFromPublicKey, publicKeyFromPeerId, verifySignature } from './identity.js';
import { ADMISSION_BYTES_MAX, EPOCHS_MAX } from './limits.js';
import type { Run } from './manifest.js';
import { decodeCanonical, rejectionOf, type Codec } from './signed-message.js';
import type { Signer } from './update.js';
import * as wire from './wire/messages.js';

export interface Invitation {
  /** The one-time public key, 64 hex digits: names the invitation. */
  key: string;
  /** The last epoch in which it may be used. */
  lastEpoch: number;
  /** An encoded Invitation, and the founder's signature over it. */
  bytes: Uint8Array;
  signature: Uint8Array;
}

export interface Admission {
  /** SHA-256 of the encoded admission, 64 hex digits. */
  id: string;
  /** The invitation that it uses: its `key`. */
  invitation: string;
  lastEpoch: number;
  /** Peer id of who is admitted. */
  member: string;
  /** Its updates count from this epoch on. */
  firstEpoch: number;
  signed: wire.SignedAdmission;
}

/** Why a peer is not let in; the place in this list, from 1, is its number on the wire. */
export const REFUSALS = ['not-a-member', 'bad-admission', 'expired', 'used'] as const;
export type Refusal = (typeof REFUSALS)[number];

/** Prefixes of the signed bytes, so that a signature made for this cannot serve for anything else. */
const INVITATION_DOMAIN = new TextEncoder().encode('murmurate/invitation/1\n');
const ADMISSION_DOMAIN = new TextEncoder().encode('murmurate/admission/1\n');

const rejected = rejectionOf('admission');

/** PKCS #8 wrapping of a raw Ed25519 seed (RFC 8410). */
const PKCS8_PREFIX = fromHex('302e020100300506032b657004220420');

/** The Ed25519 key pair with this seed of 32 bytes, as a signer. */
export function oneTimeSigner(secret: Uint8Array): Signer {
  const key = Buffer.concat([PKCS8_PREFIX, secret]);
  const privateKey = createPrivateKey({ key, format: 'der', type: 'pkcs8' });
  const { x = '' } = createPublicKey(privateKey).export({ format: 'jwk' });
  return {
    peerId: peerIdFromPublicKey(Uint8Array.from(Buffer.from(x, 'base64url'))),
    sign: (bytes) => Uint8Array.from(sign(null, bytes, privateKey)),
  };
}

/** Signs an invitation; `founder` is the run's, `oneTime` the key that the invited gets, `lastEpoch` below EPOCHS_MAX. */
export function createInvitation(
  run: Run,
  founder: Signer,
  oneTime: Signer,
  lastEpoch: number,
): Invitation {
  const key = publicKeyFromPeerId(oneTime.peerId);
  const bytes = wire.Invitation.encode({
    version: PROTOCOL_VERSION,
    runId: fromHex(run.id),
    key,
    lastEpoch,
  });
  const signature = Uint8Array.from(founder.sign(Buffer.concat([INVITATION_DOMAIN, bytes])));
  return { key: toHex(key), lastEpoch, bytes, signature };
}

/** @throws UpdateRejectedError unless this is a well-formed invitation to `run`, signed by its founder. */
export function checkInvitation(run: Run, bytes: Uint8Array, signature: Uint8Array): Invitation {
  const { version, runId, key, lastEpoch } = decode(wire.Invitation, bytes);
  if (version !== PROTOCOL_VERSION) throw rejected('wrong-version', `version ${version}`);
  if (toHex(runId) !== run.id) throw rejected('wrong-run', 'it is that of another run');
  if (key.length !== 32) throw rejected('malformed', `a key of ${key.length} bytes`);
  if (lastEpoch >= EPOCHS_MAX) throw rejected('bad-epoch', `it may be used until ${lastEpoch}`);
  const isSigned = verifySignature(
    run.manifest.founder,
    Buffer.concat([INVITATION_DOMAIN, bytes]),
    signature,
  );
  if (!isSigned) throw rejected('bad-signature', "the invitation is not the founder's");
  return { key: toHex(key), lastEpoch, bytes: copyOf(bytes), signature: copyOf(signature) };
}

/** Uses an invitation for `member`; `firstEpoch` is at most its lastEpoch. */
export function createAdmission(
  { key, lastEpoch, bytes, signature }: Invitation,
  oneTime: Signer,
  member: Signer,
  firstEpoch: number,
): Admission {
  const admission = wire.Admission.encode({
    invitation: copyOf(bytes),
    signature: copyOf(signature),
    member: publicKeyFromPeerId(member.peerId),
    firstEpoch,
  });
  const signed = Buffer.concat([ADMISSION_DOMAIN, admission]);
  return {
    id: toHex(sha256(admission)),
    ...{ invitation: key, lastEpoch, member: member.peerId, firstEpoch },
    signed: {
      admission,
      keySignature: Uint8Array.from(oneTime.sign(signed)),
      memberSignature: Uint8Array.from(member.sign(signed)),
    },
  };
}

/** @throws UpdateRejectedError unless this is a well-formed admission to `run` that all three have signed. */
export function checkAdmission(run: Run, message: wire.SignedAdmission): Admission {
  if (run.manifest.membership.mode !== 'invite') {
    throw rejected('not-a-member', 'nobody is invited to this run');
  }
  const {
    invitation: bytes,
    signature,
    member,
    firstEpoch,
  } = decode(wire.Admission, message.admission);
  if (member.length !== 32) throw rejected('malformed', `a member key of ${member.length} bytes`);
  const invitation = checkInvitation(run, bytes, signature);
  if (firstEpoch > invitation.lastEpoch) {
    throw rejected(
      'bad-epoch',
      `from epoch ${firstEpoch}, where it ends with ${invitation.lastEpoch}`,
    );
  }
  const peerId = peerIdFromPublicKey(member);
  const signed = Buffer.concat([ADMISSION_DOMAIN, message.admission]);
  const oneTime = peerIdFromPublicKey(fromHex(invitation.key));
  if (!verifySignature(oneTime, signed, message.keySignature)) {
    throw rejected('bad-signature', 'it is not signed with the key of its invitation');
  }
  if (!verifySignature(peerId, signed, message.memberSignature)) {
    throw rejected('bad-signature', `it is not signed by ${peerId}`);
  }
  return {
    id: toHex(sha256(message.admission)),
    ...{ invitation: invitation.key, lastEpoch: invitation.lastEpoch, member: peerId, firstEpoch },
    signed: {
      admission: copyOf(message.admission),
      keySignature: copyOf(message.keySignature),
      memberSignature: copyOf(message.memberSignature),
    },
  };
}

function decode<T>(codec: Codec<T>, bytes: Uint8Array): T {
  if (bytes.length > ADMISSION_BYTES_MAX) throw rejected('oversize', `${bytes.length} bytes`);
  return decodeCanonical(codec, bytes, rejected);
}
