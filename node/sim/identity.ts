/** Keys of simulated peers: a function of a label and a number, so that a run can be repeated. */
import { createPrivateKey, createPublicKey, sign } from 'node:crypto';
import { sha256 } from '../../protocol/bytes.js';
import { peerIdFromPublicKey } from '../../protocol/identity.js';
import type { Identity } from '../interfaces.js';

/** PKCS #8 wrapping of a raw Ed25519 seed (RFC 8410). */
const PKCS8_PREFIX = Buffer.from('302e020100300506032b657004220420', 'hex');

/** The identity number `index` of a family named by `label`: the same key each time, so never a secret. */
export function simIdentity(index: number, label: string): Identity {
  const seed = sha256(new TextEncoder().encode(`${label}/${index}`));
  const privateKey = createPrivateKey({
    key: Buffer.concat([PKCS8_PREFIX, seed]),
    format: 'der',
    type: 'pkcs8',
  });
  const { x = '' } = createPublicKey(privateKey).export({ format: 'jwk' });
  return {
    peerId: peerIdFromPublicKey(Uint8Array.from(Buffer.from(x, 'base64url'))),
    sign: (bytes) => Uint8Array.from(sign(null, bytes, privateKey)),
  };
}
