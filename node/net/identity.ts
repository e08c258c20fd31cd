/** The peer's Ed25519 key: made once, kept in a file that only its owner may read, never shown. */
import './polyfill.js';
import { createPrivateKey, sign, type KeyObject } from 'node:crypto';
import { generateKeyPair, privateKeyFromProtobuf, privateKeyToProtobuf } from '@libp2p/crypto/keys';
import type { Ed25519PrivateKey } from '@libp2p/interface';
import { peerIdFromPublicKey } from '../../protocol/identity.js';
import { UserError } from '../errors.js';
import type { Identity } from '../interfaces.js';
import { errnoOf, replaceFile } from '../files.js';
import { PRIVATE_FILE, readPrivateFile } from '../private-file.js';
import { reasonOf } from './errors.js';

/** An identity with what libp2p needs of it. */
export class NetIdentity implements Identity {
  readonly peerId: string;
  /** Private so that neither a log nor an inspection of this object shows it. */
  readonly #libp2pKey: Ed25519PrivateKey;
  readonly #signingKey: KeyObject;

  /** `isNew`: it was made just now, so that no earlier process can have signed with it. */
  constructor(
    key: Ed25519PrivateKey,
    readonly isNew = false,
  ) {
    this.peerId = peerIdFromPublicKey(key.publicKey.raw);
    this.#libp2pKey = key;
    // RFC 8037: d is the seed, the first half of libp2p's 64 raw bytes.
    const d = Buffer.from(key.raw.subarray(0, 32)).toString('base64url');
    const x = Buffer.from(key.publicKey.raw).toString('base64url');
    this.#signingKey = createPrivateKey({
      key: { kty: 'OKP', crv: 'Ed25519', d, x },
      format: 'jwk',
    });
  }

  sign(bytes: Uint8Array): Uint8Array {
    return Uint8Array.from(sign(null, bytes, this.#signingKey));
  }

  /** The same key for libp2p. */
  libp2pKey(): Ed25519PrivateKey {
    return this.#libp2pKey;
  }
}

/** A new identity that is kept nowhere. */
export async function createIdentity(): Promise<NetIdentity> {
  return new NetIdentity(await generateKeyPair('Ed25519'));
}

/**
 * Reads the key file at `path` (libp2p's protobuf of an Ed25519 private key), or makes a key and writes it.
 * @throws UserError when the file is damaged, may be read by others, or cannot be read or written.
 */
export async function loadOrCreateIdentity(path: string): Promise<NetIdentity> {
  let bytes: Uint8Array | null;
  try {
    bytes = await readPrivateFile(path);
  } catch (cause) {
    if (cause instanceof UserError) throw cause;
    throw keyFileError(path, 'read', cause);
  }
  if (bytes !== null) return decodeKey(path, bytes);
  const key = await generateKeyPair('Ed25519');
  try {
    await replaceFile(path, [privateKeyToProtobuf(key)], PRIVATE_FILE);
  } catch (cause) {
    throw keyFileError(path, 'written', cause);
  }
  return new NetIdentity(key, true);
}

function decodeKey(path: string, bytes: Uint8Array): NetIdentity {
  // The decoder's own message is left out: it may quote what it read.
  const damaged = (): UserError =>
    new UserError(
      `${path} is not an Ed25519 key file (${bytes.length} bytes): put back a copy, or delete it to start with a new peer id`,
    );
  let identity: NetIdentity;
  try {
    const key = privateKeyFromProtobuf(bytes);
    if (key.type !== 'Ed25519') throw damaged();
    // Only the canonical form: the decoder would skip over damaged framing.
    if (Buffer.compare(privateKeyToProtobuf(key), bytes) !== 0) throw damaged();
    identity = new NetIdentity(key);
  } catch {
    throw damaged();
  }
  // The file holds seed and public key: a flipped bit in either shows as a key that contradicts itself.
  const again = identity.libp2pKey();
  const probe = new TextEncoder().encode('murmurate/key-check');
  const verified = again.publicKey.verify(probe, identity.sign(probe));
  if (verified !== true) throw damaged();
  return identity;
}

function keyFileError(path: string, verb: 'read' | 'written', cause: unknown): UserError {
  const reason = errnoOf(cause) ?? reasonOf(cause);
  return new UserError(
    `the key file ${path} cannot be ${verb} (${reason}): check the directory's permissions and free space`,
    undefined,
    { cause },
  );
}
