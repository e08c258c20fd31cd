/** Disk errors in words: what failed, where, why, and what to do about it. */
import { errnoOf } from '../files.js';
import { StoreUnavailableError } from '../interfaces.js';

/** errno -> what it means and what mends it. */
const CAUSES: Readonly<Record<string, string>> = {
  ENOSPC: 'the disk is full; free some space',
  EDQUOT: 'the disk quota is used up; free some space',
  EROFS: 'the file system is read-only; mount it writable or choose another --dir',
  EACCES: 'this user may not write there; mend the permissions or choose another --dir',
  EPERM: 'this user may not write there; mend the permissions or choose another --dir',
  ENOENT: 'it is not there any more; put the directory back or choose another --dir',
  ENOTDIR: 'a part of the path is a file; choose another --dir',
  EISDIR: 'it is a directory where a file belongs; move it away',
  EEXIST: 'a file is in the way; move it away or choose another --dir',
  EIO: 'the disk reports an input/output error; check the disk',
  EFBIG: 'the file would grow beyond the allowed size; raise the limit (ulimit -f)',
  EMFILE: 'too many files are open; raise the limit (ulimit -n)',
  ENFILE: 'too many files are open on this machine; close some programs',
};

/** One sentence for a failed file operation: "cannot <action> <path>: <why>; <what to do>". */
export function storeUnavailable(
  action: string,
  path: string,
  cause: unknown,
): StoreUnavailableError {
  if (cause instanceof StoreUnavailableError) return cause;
  const code = errnoOf(cause);
  const words = code === null ? undefined : CAUSES[code];
  const reason = words ?? (cause instanceof Error ? cause.message : String(cause));
  const suffix = words === undefined || code === null ? '' : ` (${code})`;
  return new StoreUnavailableError(`cannot ${action} ${path}: ${reason}${suffix}`, { cause });
}
