/** A peer's data directory in use: locked, with its identity and, once founded or joined, its run. */
import { loadOrCreateIdentity, type NetIdentity } from './net/identity.js';
import { UserError } from './errors.js';
import { readInitial } from './initial-adapter.js';
import { DataDirectory } from './store/directory.js';
import { lockDirectory, type DirectoryLock } from './store/lock.js';
import { InvalidManifestError } from '../protocol/errors.js';
import { decodeManifest } from '../protocol/manifest-codec.js';
import type { Run } from '../protocol/manifest.js';

export interface Home {
  directory: DataDirectory;
  identity: NetIdentity;
  /** The run that the directory holds; null before the first start or join. */
  run: Run | null;
  lock: DirectoryLock;
}

/**
 * Makes `path` where it is missing and takes it for this process. `onLost`: see lockDirectory; `say` is told of modes
 * that were changed.
 * Throws UserError (in use, damaged key or manifest), StoreUnavailableError.
 */
export async function openHome(
  path: string,
  onLost: (sentence: string) => void,
  say: (sentence: string) => void = () => undefined,
): Promise<Home> {
  const directory = new DataDirectory(path);
  for (const sentence of await directory.create()) say(sentence);
  const lock = await lockDirectory(path, onLost);
  try {
    const identity = await loadOrCreateIdentity(directory.pathOf('identity'));
    return { directory, identity, run: await readRun(directory), lock };
  } catch (error) {
    await lock.release();
    throw error;
  }
}

/** The run that `directory` holds, null when none. Throws UserError when its manifest is damaged. */
export async function readRun(directory: DataDirectory): Promise<Run | null> {
  const bytes = await directory.readManifest();
  if (bytes === null) return null;
  try {
    return await readInitial(directory.path, decodeManifest(bytes));
  } catch (cause) {
    if (!(cause instanceof InvalidManifestError)) throw cause;
    throw new UserError(
      `${directory.pathOf('manifest')} is damaged (${cause.message}); put back a copy, or join again with another --dir`,
      undefined,
      { cause },
    );
  }
}
