/**
 * One process a data directory. proper-lockfile's directory lock/ is kept fresh while the peer runs;
 * owner.json names the process, so that a peer that was killed does not keep itself out for 10 seconds.
 */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { lock } from 'proper-lockfile';
import { UserError } from '../errors.js';
import { readIfThere, writeAtomically } from './atomic-file.js';
import { disk, errnoOf } from '../files.js';
import {
  decodeOwner,
  describeOwner,
  encodeOwner,
  ownerState,
  thisProcess,
  type Owner,
} from '../process-owner.js';
import { storeUnavailable } from './unavailable.js';

/** A lock that was not refreshed for so long belongs to nobody, when its owner cannot be asked. */
const STALE_MS = 10_000;
/** Looking at the owner and taking the lock takes milliseconds; a guard this old was left by a crash. */
const GUARD_STALE_MS = 3_000;

/** Thrown for a directory that another process holds: the message names it. */
export class DirectoryInUseError extends UserError {}

export interface DirectoryLock {
  /** Gives the directory back. May be called twice. */
  release(): Promise<void>;
}

/**
 * Takes the directory for this process, at once also after a kill -9 of its last owner.
 * `onLost` is called when another process has taken it (only after this one stood still for long).
 * Throws DirectoryInUseError naming the holder, StoreUnavailableError.
 */
export async function lockDirectory(
  path: string,
  onLost: (sentence: string) => void = () => undefined,
): Promise<DirectoryLock> {
  const ownerPath = join(path, 'owner.json');
  const lockPath = join(path, 'lock');
  const guard = await take(join(path, 'guard'), path, GUARD_STALE_MS, GUARD_STALE_MS + 2_000);
  if (guard === null) throw refused(path, await readOwner(ownerPath));
  try {
    const owner = await readOwner(ownerPath);
    const state = owner === null ? 'unknown' : await ownerState(owner);
    if (state === 'alive') throw refused(path, owner);
    if (state === 'dead') await rm(lockPath, { recursive: true, force: true });
    // An owner on another machine, or one that was killed before it left its name, cannot be asked: it is
    // gone when the lock stays untouched.
    const waitMs = state === 'unknown' ? STALE_MS + 1_000 : 0;
    const me = await thisProcess();
    const lost = (): void => void reportLoss(path, ownerPath, me, onLost);
    const release = await take(lockPath, path, STALE_MS, waitMs, lost);
    if (release === null) throw refused(path, owner);
    try {
      await writeAtomically(ownerPath, [encodeOwner(me)]);
    } catch (error) {
      // A lock without a name would keep everybody out, this process too.
      await release().catch(() => undefined);
      throw error;
    }
    return {
      release: async () => {
        // A directory that vanished meanwhile has nothing to give back.
        await disk.remove(ownerPath).catch(() => undefined);
        await release().catch(() => undefined);
      },
    };
  } finally {
    await guard().catch(() => undefined);
  }
}

/** Null when somebody else holds it for all of `waitMs`. */
async function take(
  lockPath: string,
  directory: string,
  staleMs: number,
  waitMs: number,
  onCompromised: () => void = () => undefined,
): Promise<(() => Promise<void>) | null> {
  const stepMs = 200;
  try {
    return await lock(lockPath, {
      lockfilePath: lockPath,
      realpath: false,
      stale: staleMs,
      retries: { retries: Math.ceil(waitMs / stepMs), factor: 1, minTimeout: stepMs },
      onCompromised,
    });
  } catch (error) {
    if (errnoOf(error) === 'ELOCKED') return null;
    throw storeUnavailable('lock', directory, error);
  }
}

/** Who holds the directory, e.g. "process 4711"; null when nobody is known to. Changes nothing. */
export async function holderOf(path: string): Promise<string | null> {
  const owner = await readOwner(join(path, 'owner.json'));
  if (owner === null || (await ownerState(owner)) === 'dead') return null;
  return describeOwner(owner);
}

async function readOwner(ownerPath: string): Promise<Owner | null> {
  const bytes = await readIfThere(ownerPath);
  // Not ours or cut off: the lock's age decides.
  return bytes && decodeOwner(bytes);
}

async function reportLoss(
  path: string,
  ownerPath: string,
  me: Owner,
  onLost: (sentence: string) => void,
): Promise<void> {
  const owner = await readOwner(ownerPath).catch(() => null);
  // A disk that refuses to touch the lock is reported by the store; only a new owner is a loss.
  if (owner === null || JSON.stringify(owner) === JSON.stringify(me)) return;
  onLost(`process ${owner.pid} on ${owner.host} has taken over ${path}; this peer stops`);
}

function refused(path: string, owner: Owner | null): DirectoryInUseError {
  const holder = owner === null ? 'another process' : describeOwner(owner);
  return new DirectoryInUseError(
    `${path} is in use by ${holder}; stop that process or give this peer its own directory with --dir`,
  );
}
