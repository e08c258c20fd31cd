/**
 * The swarm key (libp2p specs, pnet/Private-Networks-PSK-V1): 32 bytes that every peer of a private network
 * has. Who does not have them cannot finish a handshake. Kept in a file that only its owner may read, never shown.
 */
import { randomBytes } from 'node:crypto';
import { stat } from 'node:fs/promises';
import type { ConnectionProtector } from '@libp2p/interface';
import { preSharedKey } from '@libp2p/pnet';
import { EXIT_USAGE, UserError } from '../errors.js';
import { errnoOf, readIfThere, replaceFile } from '../files.js';
import { reasonOf } from './errors.js';

/** Read and write for the owner, nothing for anyone else. */
const KEY_FILE_MODE = 0o600;
/** Bits that must not be set: of a file of one's own, and of one that root gives to a group (a mounted secret). */
const OTHERS = 0o077;
const OTHERS_OF_ROOTS = 0o037;
const ROOT = 0;

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
      await replaceFile(path, [encode(this.#bytes)], KEY_FILE_MODE);
    } catch (cause) {
      throw fileError(path, 'written', cause);
    }
  }
}

/** Makes a key in a new file. @throws UserError when there is a file already, or it cannot be written. */
export async function makeSwarmKey(path: string): Promise<SwarmKey> {
  const key = new SwarmKey(randomBytes(KEY_BYTES));
  if ((await statOf(path)) !== null) {
    throw new UserError(
      `${path} exists already; name another file, or delete it if no peer needs that key any more`,
      EXIT_USAGE,
    );
  }
  await key.keep(path);
  return key;
}

/**
 * Reads a key file; null when there is none. A group may read it where root owns it and this process is not root:
 * that is how systemd and Kubernetes hand a secret to a service, which could not read one of mode 0400.
 * @throws UserError when others may read it, or it is no key. Nothing of it is quoted.
 */
export async function readSwarmKey(path: string): Promise<SwarmKey | null> {
  const file = await statOf(path);
  if (file === null) return null;
  const wanted = tighterMode(file, process.getuid?.() ?? null);
  if (wanted !== null) {
    throw new UserError(
      `${path} can be read by others (mode ${(file.mode & 0o777).toString(8).padStart(4, '0')}); it holds a secret: chmod ${wanted} ${path}`,
    );
  }
  let bytes: Uint8Array | null;
  try {
    bytes = await readIfThere(path);
  } catch (cause) {
    throw fileError(path, 'read', cause);
  }
  const [, hex] = /^\/key\/swarm\/psk\/1\.0\.0\/\r?\n\/base16\/\r?\n([0-9a-f]{64})\s*$/i.exec(
    new TextDecoder().decode(bytes ?? new Uint8Array()),
  ) ?? [null, null];
  if (!hex) {
    throw new UserError(
      `${path} is not a swarm key (${bytes?.length ?? 0} bytes): copy the file of another peer again, or make one with murmurate swarm-key`,
    );
  }
  return new SwarmKey(Buffer.from(hex, 'hex'));
}

function encode(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(Buffer.from(`${HEADER}${Buffer.from(bytes).toString('hex')}\n`));
}

/**
 * The mode, in octal, that a key file needs whose owner and mode let others read it; null when they do not.
 * `self`: this process's uid, null where the system has none.
 */
export function tighterMode(
  { uid, mode }: { uid: number; mode: number },
  self: number | null,
): string | null {
  const isMounted = uid === ROOT && self !== ROOT;
  if ((mode & (isMounted ? OTHERS_OF_ROOTS : OTHERS)) === 0) return null;
  return isMounted ? '640' : '600';
}

/** Owner and permission bits; null when there is no such file. */
async function statOf(path: string): Promise<{ uid: number; mode: number } | null> {
  try {
    return await stat(path);
  } catch (cause) {
    if (errnoOf(cause) === 'ENOENT') return null;
    throw fileError(path, 'read', cause);
  }
}

function fileError(path: string, verb: 'read' | 'written', cause: unknown): UserError {
  const reason = errnoOf(cause) ?? reasonOf(cause);
  return new UserError(
    `the swarm key ${path} cannot be ${verb} (${reason}): check the path, its permissions and free space`,
    undefined,
    { cause },
  );
}
