/**
 * Files that hold a secret or private text: who else may read them, checked before they are read. On Windows, where
 * a file has no mode, nothing is checked: a profile directory is its user's alone there.
 */
import { constants, type Stats } from 'node:fs';
import { chmod, lstat, open, readdir, realpath, stat } from 'node:fs/promises';
import { dirname, join, resolve, sep } from 'node:path';
import { UserError } from './errors.js';
import { errnoOf } from './files.js';

/** Modes of a file and a directory that only their owner may use. */
export const PRIVATE_FILE = 0o600;
export const PRIVATE_DIRECTORY = 0o700;

/** Bits that must not be set: of a file of one's own, and of one that root gives to a group (a mounted secret). */
const OTHERS = 0o077;
const OTHERS_OF_ROOTS = 0o037;
const OTHERS_WRITE = 0o022;
const ROOT = 0;

/** Not to wait for the writer of a named pipe; there is no such flag on Windows. */
const NO_WAIT = process.platform === 'win32' ? 0 : constants.O_NONBLOCK;

/** Bytes of a file with a key, or with settings that hold an invite. */
const SECRET_BYTES_MAX = 1024 * 1024;

/** Who owns a file, and who else may do what with it. */
export type Access = Pick<Stats, 'uid' | 'mode'>;

/**
 * The mode, in octal, that a secret file needs whose owner and mode let others read it; null when they do not.
 * `self`: this process's uid, null where the system has none.
 */
export function tighterMode({ uid, mode }: Access, self: number | null): string | null {
  const isMounted = uid === ROOT && self !== ROOT;
  if ((mode & (isMounted ? OTHERS_OF_ROOTS : OTHERS)) === 0) return null;
  return isMounted ? '640' : '600';
}

/**
 * Why `path` is no place for a secret: somebody else's, or open to others; null when it is one. A group may read it
 * where root owns it and this process is not root: that is how systemd and Kubernetes hand a secret to a service.
 */
export function exposure(
  path: string,
  access: Access,
  self: number | null,
  held = 'a secret',
): string | null {
  if (self === null) return null;
  if (access.uid !== self && access.uid !== ROOT) {
    return `${path} belongs to another user (uid ${access.uid}, this process has ${self}), who can read and change it: copy it to a file of your own, or chown ${self} ${path}`;
  }
  const wanted = tighterMode(access, self);
  if (wanted === null) return null;
  return `${path} holds ${held} and can be read by others (mode ${octal(access)}): chmod ${wanted} ${path}`;
}

/**
 * Reads a file with a secret; null when there is none. Throws UserError when others could have read or written it,
 * when it is a link that leads out of its directory, or no regular file; and what the system throws.
 */
export async function readPrivateFile(path: string): Promise<Uint8Array | null> {
  try {
    await refuseLinkOut(path);
    const handle = await open(path, constants.O_RDONLY | NO_WAIT);
    try {
      const found = await handle.stat();
      if (!found.isFile())
        throw new UserError(`${path} is not a regular file: put the key itself there`);
      const problem = exposure(path, found, uid());
      if (problem !== null) throw new UserError(problem);
      if (found.size > SECRET_BYTES_MAX) {
        throw new UserError(
          `${path} has ${found.size} bytes, more than ${SECRET_BYTES_MAX}: it is not a key`,
        );
      }
      return await handle.readFile();
    } finally {
      await handle.close();
    }
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return null;
    throw error;
  }
}

/** A mounted secret is a link within its directory; one that leads elsewhere may have been laid by somebody else. */
async function refuseLinkOut(path: string): Promise<void> {
  if (!(await lstat(path)).isSymbolicLink()) return;
  const home = await realpath(dirname(resolve(path)));
  const target = await realpath(path).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return null;
    throw error;
  });
  if (target?.startsWith(home.endsWith(sep) ? home : `${home}${sep}`) === true) return;
  throw new UserError(
    target === null
      ? `${path} is a link to a file that does not exist: put the key itself there`
      : `${path} is a link to ${target}, outside its directory: put the key itself there`,
  );
}

/**
 * Makes a directory and `names` in it private where this user owns them. Returns a sentence for each change.
 * Throws UserError for a directory that belongs to somebody else, or that others may write to and that holds other
 * things as well; and what the system throws.
 */
export async function makePrivate(directory: string, names: readonly string[]): Promise<string[]> {
  const self = uid();
  if (self === null) return [];
  const found = await stat(directory);
  if (found.uid !== self && found.uid !== ROOT) {
    throw new UserError(
      `${directory} belongs to another user (uid ${found.uid}, this process has ${self}), who could put other files in the place of this peer's: take another --dir, or chown -R ${self} ${directory}`,
    );
  }
  const sentences: string[] = [];
  if (found.uid === self && (found.mode & OTHERS) !== 0) {
    const entries = await readdir(directory);
    if (entries.length === 0 || entries.some((entry) => names.includes(entry))) {
      await chmod(directory, PRIVATE_DIRECTORY);
      sentences.push(
        `${directory} was open to others (mode ${octal(found)}); now it is not (chmod 700)`,
      );
    } else if ((found.mode & OTHERS_WRITE) !== 0) {
      // It holds something else as well, which others may need.
      throw new UserError(
        `others may write to ${directory} (mode ${octal(found)}) and could put their own key there: take another --dir, or chmod 700 ${directory}`,
      );
    }
  } else if (found.uid !== self && (found.mode & 0o002) !== 0) {
    throw new UserError(
      `everybody may write to ${directory} (mode ${octal(found)}) and could put their own key there: take another --dir`,
    );
  }
  const opened: string[] = [];
  for (const name of names) {
    const path = join(directory, name);
    const file = await lstat(path).catch(() => null);
    if (file === null || !file.isFile() || file.uid !== self || (file.mode & OTHERS) === 0)
      continue;
    await chmod(path, PRIVATE_FILE);
    opened.push(name);
  }
  if (opened.length > 0) {
    sentences.push(
      `others could read ${opened.join(', ')} in ${directory}; now they cannot (chmod 600)`,
    );
  }
  return sentences;
}

function uid(): number | null {
  return process.getuid?.() ?? null;
}

function octal({ mode }: Access): string {
  return (mode & 0o777).toString(8).padStart(4, '0');
}
