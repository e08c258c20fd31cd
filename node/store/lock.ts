/**
 * One process a data directory. proper-lockfile's directory lock/ is kept fresh while the peer runs;
 * owner.json names the process, so that a peer that was killed does not keep itself out for 10 seconds.
 */
import { readFile, readlink, rm } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { lock } from 'proper-lockfile';
import { z } from 'zod';
import { UserError } from '../errors.js';
import { readIfThere, writeAtomically } from './atomic-file.js';
import { disk, errnoOf } from '../files.js';
import { storeUnavailable } from './unavailable.js';

/** A lock that was not refreshed for so long belongs to nobody, when its owner cannot be asked. */
const STALE_MS = 10_000;
/** Looking at the owner and taking the lock takes milliseconds; a guard this old was left by a crash. */
const GUARD_STALE_MS = 3_000;

const ownerSchema = z.object({
  pid: z.number().int().positive(),
  host: z.string(),
  /** Tells a process from a later one with the same pid; null where the system does not say. */
  processToken: z.string().nullable(),
});
type Owner = z.infer<typeof ownerSchema>;

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
    const me = await describeProcess(process.pid);
    const lost = (): void => void reportLoss(path, ownerPath, me, onLost);
    const release = await take(lockPath, path, STALE_MS, waitMs, lost);
    if (release === null) throw refused(path, owner);
    try {
      await writeAtomically(ownerPath, [new TextEncoder().encode(`${JSON.stringify(me)}\n`)]);
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
  return owner.host === hostname()
    ? `process ${owner.pid}`
    : `process ${owner.pid} on ${owner.host}`;
}

async function readOwner(ownerPath: string): Promise<Owner | null> {
  const bytes = await readIfThere(ownerPath);
  if (bytes === null) return null;
  try {
    return ownerSchema.parse(JSON.parse(new TextDecoder().decode(bytes)));
  } catch {
    // Not ours or cut off: the lock's age decides.
    return null;
  }
}

async function ownerState(owner: Owner): Promise<'alive' | 'dead' | 'unknown'> {
  if (owner.host !== hostname()) return 'unknown';
  if (owner.processToken !== null) {
    // Of another boot or container (two can have one host name): its pid says nothing here.
    const here = await processToken(process.pid);
    if (here === null || placeOf(here) !== placeOf(owner.processToken)) return 'unknown';
  }
  if (!processExists(owner.pid)) return 'dead';
  if (owner.processToken === null) return 'alive';
  return (await processToken(owner.pid)) === owner.processToken ? 'alive' : 'dead';
}

/** Boot and pid namespace of a token. */
function placeOf(token: string): string {
  return token.slice(0, token.lastIndexOf(' '));
}

function processExists(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return errnoOf(error) === 'EPERM';
  }
}

async function describeProcess(pid: number): Promise<Owner> {
  return { pid, host: hostname(), processToken: await processToken(pid) };
}

/** Linux: boot, pid namespace and start time of a process (proc(5), /proc/pid/stat field 22). */
async function processToken(pid: number): Promise<string | null> {
  try {
    const boot = await readFile('/proc/sys/kernel/random/boot_id', 'utf8');
    const namespace = await readlink('/proc/self/ns/pid');
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
    // Field 2 is the command in brackets, which may hold spaces and brackets itself.
    const startTime = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
    return `${boot.trim()} ${namespace} ${startTime ?? ''}`;
  } catch {
    return null;
  }
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
  const holder =
    owner === null
      ? 'another process'
      : owner.host === hostname()
        ? `process ${owner.pid}`
        : `process ${owner.pid} on ${owner.host}`;
  return new DirectoryInUseError(
    `${path} is in use by ${holder}; stop that process or give this peer its own directory with --dir`,
  );
}
