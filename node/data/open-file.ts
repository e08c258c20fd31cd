/** Opens a data file, and nothing that is not one: reading a pipe or a device could wait for ever. */
import { constants } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { UserError } from '../errors.js';
import { unreadable } from '../json-file.js';

/** What a clone without Git LFS has in place of a large file. */
const LFS_POINTER = 'version https://git-lfs.github.com/spec/';

/**
 * Throws UserError where the file cannot be opened, is not a regular one or stands for one that was not downloaded. The
 * caller closes it.
 */
export async function openDataFile(file: string): Promise<FileHandle> {
  let handle: FileHandle;
  try {
    // Without O_NONBLOCK, which Windows lacks, opening a pipe waits for its writer.
    handle = await open(
      file,
      constants.O_RDONLY | ((constants.O_NONBLOCK as number | undefined) ?? 0),
    );
  } catch (cause) {
    throw unreadable(file, 'a data file', cause);
  }
  const isFile = await handle.stat().then(
    (status) => status.isFile(),
    () => false,
  );
  const isPointer = isFile && (await beginsWith(handle, LFS_POINTER));
  if (isFile && !isPointer) return handle;
  await handle.close();
  if (isPointer) {
    throw new UserError(
      `${file} (a data file) is a Git LFS pointer, not the file itself: run "git lfs pull" in its folder`,
    );
  }
  throw new UserError(
    `${file} (a data file) is not a regular file: give a file or a folder, not a pipe or a device`,
  );
}

async function beginsWith(handle: FileHandle, text: string): Promise<boolean> {
  const wanted = Buffer.from(text);
  const read = await handle
    .read(Buffer.alloc(wanted.length), 0, wanted.length, 0)
    .catch(() => null);
  return read !== null && read.buffer.subarray(0, read.bytesRead).equals(wanted);
}
