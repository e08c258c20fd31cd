/** Files of an export: there as a whole or not at all, and a disk that refuses in words. */
import { UserError } from '../errors.js';
import { errnoOf, replaceFile } from '../files.js';

/** Replaces `path`: see replaceFile. Throws UserError when the disk refuses. */
export async function writeWhole(
  path: string,
  parts: Parameters<typeof replaceFile>[1],
): Promise<void> {
  try {
    await replaceFile(path, parts);
  } catch (cause) {
    const code = errnoOf(cause);
    if (code === null) throw cause;
    throw new UserError(
      `${path} cannot be written (${code}): check that the folder exists, may be written and has room`,
      undefined,
      { cause },
    );
  }
}
