/** Opens a data file, and nothing that is not one: reading a pipe or a device could wait for ever. */
import { constants } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { UserError } from '../errors.js';
import { unreadable } from '../json-file.js';

/** Throws UserError where the file cannot be opened or is not a regular one. The caller closes it. */
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
  if (isFile) return handle;
  await handle.close();
  throw new UserError(
    `${file} (a data file) is not a regular file: give a file or a folder, not a pipe or a device`,
  );
}
