/**
 * Peer ids and signatures. A peer id is libp2p's: base58btc of the identity multihash of the protobuf
 * of an Ed25519 public key (libp2p specs, peer-ids), so 32 bytes of key and "12D3KooW..." name the same peer.
 */
import { createPublicKey, verify, type KeyObject } from 'node:crypto';
import { base58btc } from 'multiformats/bases/base58';
import { toHex } from './bytes.js';
import { InvalidPeerIdError } from './errors.js';
import { AUTHORS_MAX } from './limits.js';

/** Identity multihash (0x00) of 36 bytes: key type Ed25519 (08 01), 32 bytes of data (12 20). */
const PREFIX = Uint8Array.of(0x00, 0x24, 0x08, 0x01, 0x12, 0x20);
const KEY_BYTES = 32;

/** Base58 text of a 52-character Ed25519 peer id; longer text is refused before it is decoded. */
const PEER_ID_LENGTH_MAX = 64;

/** Base58 is quadratic arithmetic, and a sync names every author: the last ids are remembered. */
const peerIds = new Map<string, string>();
const publicKeys = new Map<string, Uint8Array<ArrayBuffer>>();
const REMEMBERED_MAX = 2 * AUTHORS_MAX;

/** @throws InvalidPeerIdError unless `publicKey` has 32 bytes. */
export function peerIdFromPublicKey(publicKey: Uint8Array): string {
  return remember(peerIds, toHex(publicKey), () => encodePeerId(publicKey));
}

/** @throws InvalidPeerIdError unless `peerId` is the base58 text of an Ed25519 peer id. */
export function publicKeyFromPeerId(peerId: string): Uint8Array<ArrayBuffer> {
  return remember(publicKeys, peerId, () => decodePeerId(peerId));
}

function remember<T>(known: Map<string, T>, key: string, make: () => T): T {
  const found = known.get(key);
  if (found !== undefined) return found;
  const made = make();
  const oldest = known.size >= REMEMBERED_MAX ? known.keys().next().value : undefined;
  if (oldest !== undefined) known.delete(oldest);
  known.set(key, made);
  return made;
}

function encodePeerId(publicKey: Uint8Array): string {
  if (publicKey.length !== KEY_BYTES) {
    throw new InvalidPeerIdError(`an Ed25519 public key has 32 bytes, not ${publicKey.length}`);
  }
  const bytes = new Uint8Array(PREFIX.length + KEY_BYTES);
  bytes.set(PREFIX);
  bytes.set(publicKey, PREFIX.length);
  return base58btc.baseEncode(bytes);
}

function decodePeerId(peerId: string): Uint8Array<ArrayBuffer> {
  if (peerId.length > PEER_ID_LENGTH_MAX) {
    throw new InvalidPeerIdError(`a peer id of ${peerId.length} characters is too long`);
  }
  let bytes: Uint8Array;
  try {
    bytes = base58btc.baseDecode(peerId);
  } catch (cause) {
    throw new InvalidPeerIdError(`"${peerId}" is not base58`, { cause });
  }
  const known = bytes.length === PREFIX.length + KEY_BYTES;
  if (!known || PREFIX.some((byte, i) => bytes[i] !== byte)) {
    throw new InvalidPeerIdError(`"${peerId}" is not an Ed25519 peer id (12D3KooW...)`);
  }
  return bytes.slice(PREFIX.length);
}

/** Building a KeyObject costs as much as verifying with it. */
const keys = new Map<string, KeyObject>();

/** Whether `signature` is `peerId`'s Ed25519 signature over `bytes`. */
export function verifySignature(peerId: string, bytes: Uint8Array, signature: Uint8Array): boolean {
  const key = remember(keys, peerId, () => {
    const x = Buffer.from(publicKeyFromPeerId(peerId)).toString('base64url');
    return createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' });
  });
  return verify(null, bytes, key, signature);
}
