/** Checks of the data directory: whether what a peer must keep can be kept there. */
import { readFile, rm, stat, statfs } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { errnoOf, replaceFile } from '../files.js';
import { holderOf } from '../store/lock.js';
import { size } from '../train/memory-plan.js';
import { fail, ok, warn, type Finding } from './finding.js';

/** Kinds of file systems (statfs(2)) that forget, or on which a lock and a rename may mean less. */
const KINDS: Readonly<Record<number, { name: string; lack: string }>> = {
  0x01021994: { name: 'tmpfs', lack: 'it is gone when the machine restarts' },
  0x858458f6: { name: 'ramfs', lack: 'it is gone when the machine restarts' },
  0x6969: { name: 'NFS', lack: 'two machines may use it at once' },
  0xff534d42: { name: 'CIFS', lack: 'two machines may use it at once' },
  0xfe534d42: { name: 'SMB2', lack: 'two machines may use it at once' },
  0x01021997: { name: '9P', lack: 'the machine that serves it may be slow to sync' },
  0x65735546: { name: 'FUSE', lack: 'whether it syncs depends on the program behind it' },
};

/** Bytes on disk for one coordinate of the adapter: residual and own update, two moments, each old and new; three sums. */
const BYTES_A_COORDINATE = 52;

/** Room for a log of some members; more is better, and --log-disk keeps it bounded. */
const LOG_BYTES = 256 * 2 ** 20;

/** Free bytes and kind of the file system at `path`. */
export interface FileSystem {
  freeBytes: number;
  /** Magic number of statfs(2). */
  kind: number;
}

export async function fileSystemAt(path: string): Promise<FileSystem> {
  const { bavail, bsize, type } = await statfs(path);
  return { freeBytes: bavail * bsize, kind: type >>> 0 };
}

/** Whether a file can be replaced for good in the directory, or in the nearest one that exists above it. */
export async function checkWritable(dir: string): Promise<Finding> {
  const place = await nearest(resolve(dir));
  const probe = join(place, `.murmurate-doctor-${process.pid}`);
  try {
    for (const text of ['old', 'new']) await replaceFile(probe, [text]);
    const read = await readFile(probe, 'utf8');
    if (read !== 'new') return fail(`${place} gave back something else than was written there`);
  } catch (error) {
    const code = errnoOf(error) ?? String(error);
    return fail(`${place} cannot be written (${code})`, fixFor(code, place));
  } finally {
    await rm(probe, { force: true }).catch(() => undefined);
  }
  const holder = await holderOf(dir);
  const by = holder === null ? '' : `; the peer of ${holder} runs in it`;
  const where = place === resolve(dir) ? place : `${place}, where ${dir} will be made,`;
  return ok(`${where} can be written: a file was replaced and synced${by}`);
}

function fixFor(code: string, place: string): string | null {
  if (code === 'EACCES' || code === 'EPERM') return `sudo chown -R "$USER" ${place}`;
  if (code === 'ENOSPC' || code === 'EDQUOT')
    return `free some space: du -xh ${place} | sort -h | tail`;
  return code === 'EROFS' ? 'give a --dir on a disk that can be written' : null;
}

/** `adapterSize`: coordinates; null where the model could not be read. */
export function checkSpace(
  dir: string,
  { freeBytes }: FileSystem,
  adapterSize: number | null,
): Finding {
  const state = BYTES_A_COORDINATE * (adapterSize ?? 0);
  const text = `${size(freeBytes)} free for ${dir}, of which a peer takes about ${size(state + LOG_BYTES)}`;
  const fix = 'give a --dir on a larger disk';
  if (freeBytes < state) return fail(text, fix);
  return freeBytes < state + LOG_BYTES ? warn(text, fix) : ok(text);
}

export function checkKind(dir: string, { kind }: FileSystem): Finding {
  const known = KINDS[kind];
  if (known === undefined)
    return ok(`${dir} is on a disk of this machine (file system 0x${kind.toString(16)})`);
  return warn(
    `${dir} is on ${known.name}: ${known.lack}`,
    'give a --dir on a disk of this machine',
  );
}

/** `path`, or the first above it that exists. */
export async function nearest(path: string): Promise<string> {
  const isThere = await stat(path).then(
    () => true,
    () => false,
  );
  return isThere || path === dirname(path) ? path : nearest(dirname(path));
}
