/** Replaces a small file so that a crash at any moment leaves the old or the new content, whole. */
import { open, readFile, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';

/** Writes to `path`.tmp, syncs, renames over `path` and syncs the directory. Throws what the system throws. */
export async function replaceFile(path: string, bytes: Uint8Array, mode: number): Promise<void> {
  const temporary = `${path}.tmp`;
  try {
    const file = await open(temporary, 'w', mode);
    try {
      await file.writeFile(bytes);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => undefined);
    throw error;
  }
  // The new name is durable once the directory is; systems that cannot sync one (Windows) need not.
  const directory = await open(dirname(path), 'r');
  try {
    await directory.sync();
  } catch {
    return;
  } finally {
    await directory.close();
  }
}

/** The content of `path`, null when there is no such file. */
export async function readIfThere(path: string): Promise<Uint8Array | null> {
  try {
    return await readFile(path);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return null;
    throw error;
  }
}

/** The system's name of an error ("ENOSPC"), null when it has none. */
export function errnoOf(error: unknown): string | null {
  return error instanceof Error && 'code' in error && typeof error.code === 'string'
    ? error.code
    : null;
}
