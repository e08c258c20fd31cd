/** The cache of models, shared by processes: room on its disk, and who may write what. */
import { statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { lock } from 'proper-lockfile';
import { UserError } from '../errors.js';
import { errnoOf, makeDirectory } from '../files.js';

/** Left free on the disk, in bytes: a full disk hurts more than a model helps. */
export const SPARE_BYTES = 64 * 1024 * 1024;

/** Another process that writes the same is gone when it gave no sign of life for so long, in ms. */
const LOCK_STALE_MS = 10_000;
const LOCK_STEP_MS = 500;

/** Throws UserError unless the disk of `directory`, which must be there, has `neededBytes` left for `name`. */
export async function checkSpace(
  name: string,
  neededBytes: number,
  directory: string,
): Promise<void> {
  const { bavail, bsize } = await statfs(directory);
  const free = bavail * bsize;
  if (neededBytes <= free) return;
  throw new UserError(
    `${name} needs ${inGb(neededBytes)} on the disk of ${directory}, which has ${inGb(free)} left: ` +
      'free some space, or set HF_HUB_CACHE to a directory on another disk',
  );
}

/**
 * Does `work` while no other process has the lock file `path`: two that write one file would spoil it. `waiting` is said
 * once where another has it. Throws what `work` throws, the signal's reason, what the system throws.
 */
export async function locked<T>(
  path: string,
  waiting: string,
  { signal, say }: { signal: AbortSignal; say: (sentence: string) => void },
  work: () => Promise<T>,
): Promise<T> {
  await makeDirectory(dirname(path));
  let release = await take(path);
  if (release === null) say(waiting);
  while (release === null) {
    await delay(LOCK_STEP_MS, undefined, { signal });
    release = await take(path);
  }
  try {
    return await work();
  } finally {
    await release().catch(() => undefined);
  }
}

/** Null while another process has it. Throws what the system throws. */
async function take(path: string): Promise<(() => Promise<void>) | null> {
  try {
    return await lock(path, {
      lockfilePath: path,
      realpath: false,
      stale: LOCK_STALE_MS,
      // Only after this process stood still for long: the hash then tells a file that two have written.
      onCompromised: () => undefined,
    });
  } catch (error) {
    if (errnoOf(error) === 'ELOCKED') return null;
    throw error;
  }
}

function inGb(bytes: number): string {
  return `${(bytes / 1e9).toFixed(2)} GB`;
}
