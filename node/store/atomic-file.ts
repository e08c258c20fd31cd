/** Atomic files of the data directory: as node/files.ts, with disk errors in words. */
import * as atomic from '../files.js';
import { MomentsLostError } from '../interfaces.js';
import { PRIVATE_FILE } from '../private-file.js';
import { storeUnavailable } from './unavailable.js';

/**
 * Replaces `path`, for its owner alone: where private text lies is private too. Throws StoreUnavailableError, and
 * MomentsLostError of its parts; the old content is then still there.
 */
export async function writeAtomically(
  path: string,
  parts: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
  mode = PRIVATE_FILE,
): Promise<void> {
  try {
    await atomic.replaceFile(path, parts, mode);
  } catch (error) {
    if (error instanceof MomentsLostError) throw error;
    throw storeUnavailable('write', path, error);
  }
}

/** Keeps a file that cannot be read as `path`.damaged, if it is there. Throws StoreUnavailableError. */
export async function setAside(path: string): Promise<void> {
  try {
    await atomic.renameDurably(path, `${path}.damaged`);
  } catch (error) {
    if (atomic.errnoOf(error) !== 'ENOENT') throw storeUnavailable('rename', path, error);
  }
}

/** The content of `path`, null when there is no such file. Throws StoreUnavailableError. */
export async function readIfThere(path: string): Promise<Uint8Array | null> {
  try {
    return await atomic.readIfThere(path);
  } catch (error) {
    throw storeUnavailable('read', path, error);
  }
}

/** As readIfThere; what was read survives power loss. Throws StoreUnavailableError. */
export async function readDurably(path: string): Promise<Uint8Array | null> {
  try {
    return await atomic.readDurably(path);
  } catch (error) {
    throw storeUnavailable('read', path, error);
  }
}
