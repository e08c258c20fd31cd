/**
 * What every part does with files. Replacing one is atomic: a crash or a power cut at any moment leaves
 * the old or the new content, whole.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, readFile, rename, rm, stat, type FileHandle } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';

/** What can be done to a disk. Each rejects with what the system throws. */
export interface Disk {
  /** 'r+' changes a file that is there, 'w' makes or empties one, 'wx' only makes one, 'r' is for syncing a directory. */
  open(path: string, flags: 'r' | 'r+' | 'w' | 'wx', mode?: number): Promise<FileHandle>;
  mkdir(path: string, mode: number): Promise<void>;
  rename(from: string, to: string): Promise<void>;
  /** Nothing happens when there is no such file. */
  remove(path: string): Promise<void>;
}

/** Whatever must survive a power cut is changed through this one object: tests record it and let it fail. */
export const disk: Disk = {
  open: (path, flags, mode) => open(path, flags, mode),
  mkdir: async (path, mode) => {
    await mkdir(path, { mode });
  },
  rename: (from, to) => rename(from, to),
  remove: (path) => rm(path, { force: true }),
};

/**
 * Writes `parts`, one after the other, to `path`.tmp, syncs it, renames it to `path` and syncs the
 * directory. Throws what the system throws; the old content is then still there.
 */
export async function replaceFile(
  path: string,
  parts: Iterable<Uint8Array | string> | AsyncIterable<Uint8Array | string>,
  mode = 0o644,
): Promise<void> {
  const temporary = `${path}.tmp`;
  try {
    const handle = await makeFile(temporary, mode);
    try {
      for await (const part of parts) await handle.writeFile(part);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await renameDurably(temporary, path);
  } catch (error) {
    // Half a file helps nobody and holds the space that may be missing.
    await disk.remove(temporary).catch(() => undefined);
    throw error;
  }
}

/**
 * A new file: what lies there already keeps its mode, and a link would be followed to where it leads. Throws what the
 * system throws.
 */
async function makeFile(path: string, mode: number): Promise<FileHandle> {
  try {
    return await disk.open(path, 'wx', mode);
  } catch (error) {
    if (errnoOf(error) !== 'EEXIST') throw error;
    // Left by a crash.
    await disk.remove(path);
    return disk.open(path, 'wx', mode);
  }
}

/** Renames a file within its directory, for good also where power is lost. Throws what the system throws. */
export async function renameDurably(from: string, to: string): Promise<void> {
  await disk.rename(from, to);
  await syncDirectory(dirname(to));
}

/** Removes a file for good, also where power is lost; nothing happens when there is none. Throws what the system throws. */
export async function removeDurably(path: string): Promise<void> {
  await disk.remove(path);
  await syncDirectory(dirname(path));
}

/** The content of `path`, null when there is no such file. Throws what the system throws. */
export async function readIfThere(path: string): Promise<Uint8Array | null> {
  try {
    return await readFile(path);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return null;
    throw error;
  }
}

/**
 * As readIfThere, for what others will be told of: its writer may have been killed before it was synced, so
 * that a power cut could still take it back. Throws what the system throws.
 */
export async function readDurably(path: string): Promise<Uint8Array | null> {
  const bytes = await readIfThere(path);
  if (bytes !== null) await makeDurable(path);
  return bytes;
}

/** What lies at `path` survives power loss from now on. Throws what the system throws. */
export async function makeDurable(path: string): Promise<void> {
  const handle = await disk.open(path, 'r+');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
  await syncDirectory(dirname(path));
}

/**
 * mkdir -p that survives power loss. Not Node's own: where a file system refuses new names with ENOENT (as
 * /proc does) that one tries for ever. Throws what the system throws.
 */
export async function makeDirectory(path: string, mode = 0o777): Promise<void> {
  const parent = dirname(path);
  try {
    await makeOne(path, mode);
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error;
    if (!(await exists(parent))) await makeDirectory(parent, mode);
    // Once more, and not for ever: another process may have made the parent meanwhile.
    await makeOne(path, mode);
  }
  // All the way up: whoever made one of them may have been killed before it was synced.
  for (let at = resolve(path); at !== dirname(at); at = dirname(at)) {
    await syncDirectory(dirname(at));
  }
}

/** Nothing happens when it is there: another process may make it at the same time. */
async function makeOne(path: string, mode: number): Promise<void> {
  try {
    await disk.mkdir(path, mode);
  } catch (error) {
    if (errnoOf(error) !== 'EEXIST' || !(await stat(path)).isDirectory()) throw error;
  }
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

/** The system's name of an error, e.g. "ENOSPC"; null for anything else. */
export function errnoOf(error: unknown): string | null {
  if (!(error instanceof Error) || !('code' in error)) return null;
  return typeof error.code === 'string' ? error.code : null;
}

/** Makes renames and new names in `directory` survive power loss. */
async function syncDirectory(directory: string): Promise<void> {
  try {
    const handle = await disk.open(directory, 'r');
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  } catch (error) {
    // Some systems (Windows) cannot sync a directory and need not: the rename is journalled. In one that this
    // user may not list, or that is read-only, this program has made nothing.
    const harmless = ['EPERM', 'EISDIR', 'EINVAL', 'EACCES', 'EROFS'];
    if (!harmless.includes(errnoOf(error) ?? '')) throw error;
  }
}

/** Fills `bytes` from `position` on; returns how many there were, fewer only at the end of the file. */
export async function readAt(
  handle: FileHandle,
  bytes: Uint8Array,
  position: number,
): Promise<number> {
  let done = 0;
  while (done < bytes.length) {
    const { bytesRead } = await handle.read(bytes, done, bytes.length - done, position + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return done;
}

/** Writes all of `bytes` at `position`. Throws what the system throws. */
export async function writeAt(
  handle: FileHandle,
  bytes: Uint8Array,
  position: number,
): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    const { bytesWritten } = await handle.write(bytes, done, bytes.length - done, position + done);
    done += bytesWritten;
  }
}

/** SHA-256 of a file's bytes, 64 hex digits; about 1 GB a second. Rejects with the signal's reason. */
export async function fileSha256(file: string, signal?: AbortSignal): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(file, { highWaterMark: 1 << 20 })) {
    signal?.throwIfAborted();
    hash.update(chunk as Buffer);
  }
  return hash.digest('hex');
}
