/** Replaces a file so that a crash at any moment leaves the old or the new content, whole. */
import { open, readFile, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { errnoCode, storeUnavailable } from './unavailable.js';

/** Makes renames and new names in `directory` survive power loss. */
export async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, 'r');
  try {
    await handle.sync();
  } catch (error) {
    // Some systems (Windows) cannot sync a directory and need not: the rename is journalled.
    const code = errnoCode(error);
    if (code !== 'EPERM' && code !== 'EISDIR' && code !== 'EINVAL') throw error;
  } finally {
    await handle.close();
  }
}

/**
 * Writes `parts`, one after the other, to `path`.tmp, syncs, renames to `path` and syncs the directory.
 * Throws StoreUnavailableError; the old content is then still there.
 */
export async function writeAtomically(
  path: string,
  parts: readonly Uint8Array[],
  mode = 0o644,
): Promise<void> {
  const temporary = `${path}.tmp`;
  try {
    const handle = await open(temporary, 'w', mode);
    try {
      for (const part of parts) await handle.writeFile(part);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, path);
    await syncDirectory(dirname(path));
  } catch (error) {
    // Half a file helps nobody and holds the space that may be missing.
    await rm(temporary, { force: true }).catch(() => undefined);
    throw storeUnavailable('write', path, error);
  }
}

/** The content of `path`, null when there is no such file. Throws StoreUnavailableError. */
export async function readIfThere(path: string): Promise<Uint8Array | null> {
  try {
    return await readFile(path);
  } catch (error) {
    if (errnoCode(error) === 'ENOENT') return null;
    throw storeUnavailable('read', path, error);
  }
}
