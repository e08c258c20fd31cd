/**
 * The swarm key (libp2p specs, pnet/Private-Networks-PSK-V1): 32 bytes that every peer of a private network
 * has. Who does not have them cannot finish a handshake. Kept in a file that only its owner may read, never shown.
 */
import { randomBytes } from 'node:crypto';
import { lstat } from 'node:fs/promises';
import type { ConnectionProtector } from '@libp2p/interface';
import { preSharedKey } from '@libp2p/pnet';
import { EXIT_USAGE, UserError } from '../errors.js';
import { errnoOf, replaceFile } from '../files.js';
import { PRIVATE_FILE, readPrivateFile } from '../private-file.js';
import { reasonOf } from './errors.js';

const KEY_BYTES = 32;

/** The first lines of the file, as other libp2p programs write and read it. */
const HEADER = '/key/swarm/psk/1.0.0/\n/base16/\n';

/** The 32 bytes, wrapped so that neither a log nor an inspection shows them. */
export class SwarmKey {
  readonly #bytes: Uint8Array<ArrayBuffer>;

  /** `bytes`: 32 of them. */
  constructor(bytes: Uint8Array) {
    this.#bytes = Uint8Array.from(bytes);
  }

  /** For an invite, and nothing else. */
  reveal(): Uint8Array<ArrayBuffer> {
    return this.#bytes.slice();
  }

  /** For libp2p: what it puts around every connection. */
  protector(): () => ConnectionProtector {
    return preSharedKey({ psk: encode(this.#bytes) });
  }

  /** Writes the file at `path`, in the place of an older one. @throws UserError. */
  async keep(path: string): Promise<void> {
    try {
      await replaceFile(path, [encode(this.#bytes)], PRIVATE_FILE);
    } catch (cause) {
      throw fileError(path, 'written', cause);
    }
  }
}

/** Makes a key in a new file. @throws UserError when there is a file already, or it cannot be written. */
export async function makeSwarmKey(path: string): Promise<SwarmKey> {
  const key = new SwarmKey(randomBytes(KEY_BYTES));
  if (await isThere(path)) {
    throw new UserError(
      `${path} exists already; name another file, or delete it if no peer needs that key any more`,
      EXIT_USAGE,
    );
  }
  await key.keep(path);
  return key;
}

/**
 * Reads a key file; null when there is none. Throws UserError as readPrivateFile does, and when it is no key. Nothing
 * of it is quoted.
 */
export async function readSwarmKey(path: string): Promise<SwarmKey | null> {
  let bytes: Uint8Array | null;
  try {
    bytes = await readPrivateFile(path);
  } catch (cause) {
    if (cause instanceof UserError) throw cause;
    throw fileError(path, 'read', cause);
  }
  if (bytes === null) return null;
  const [, hex] = /^\/key\/swarm\/psk\/1\.0\.0\/\r?\n\/base16\/\r?\n([0-9a-f]{64})\s*$/i.exec(
    new TextDecoder().decode(bytes),
  ) ?? [null, null];
  if (!hex) {
    throw new UserError(
      `${path} is not a swarm key (${bytes.length} bytes): copy the file of another peer again, or make one with murmurate swarm-key`,
    );
  }
  return new SwarmKey(Buffer.from(hex, 'hex'));
}

function encode(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(Buffer.from(`${HEADER}${Buffer.from(bytes).toString('hex')}\n`));
}

/** Whether there is anything at `path`, a link that leads nowhere too. */
async function isThere(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    (cause: unknown) => {
      if (errnoOf(cause) === 'ENOENT') return false;
      throw fileError(path, 'read', cause);
    },
  );
}

function fileError(path: string, verb: 'read' | 'written', cause: unknown): UserError {
  const reason = errnoOf(cause) ?? reasonOf(cause);
  return new UserError(
    `the swarm key ${path} cannot be ${verb} (${reason}): check the path, its permissions and free space`,
    undefined,
    { cause },
  );
}
