/**
 * Where packed copies lie: murmurate/packed/FORMAT-KEY in the cache of models, each with the file of weights and a
 * manifest. On its way a copy is a directory of another name, FORMAT-KEY.PID-RANDOM.partial, which says whose it is; it
 * gets its name as a whole. What dead processes left is removed by the next that makes one.
 */
import { createHash, randomBytes } from 'node:crypto';
import { chmod, readdir, rm, stat, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import {
  disk,
  errnoOf,
  fileSha256,
  makeDirectory,
  renameDurably,
  replaceFile,
} from '../../files.js';
import { readFileIfThere } from '../../json-file.js';
import { UserError } from '../../errors.js';
import { decodeOwner, encodeOwner, ownerState, thisProcess } from '../../process-owner.js';
import {
  canonicalContent,
  decodeManifest,
  encodeManifest,
  isAsExpected,
  MANIFEST_BYTES_MAX,
  PACKED_VERSION,
  versionOf,
  type Expected,
  type Manifest,
} from './manifest.js';

const FOLDER = join('murmurate', 'packed');
const WEIGHTS_FILE = 'weights.bin';
const MANIFEST_FILE = 'manifest.json';
const OWNER_FILE = 'owner.json';
const PARTIAL = '.partial';
/** Directories that are looked at. */
const COPIES_MAX = 4096;
const OWNER_BYTES_MAX = 4096;
/** What a process elsewhere (another machine, another container) left is given up after so long, in ms. */
const ABANDONED_AFTER_MS = 24 * 3600 * 1000;
/** Hexadecimal digits of the hash in a name. */
const KEY_DIGITS = 32;

/** Why a copy cannot be used; null for one that can, 'missing' for none. */
export type Flaw = null | 'missing' | { readonly reason: string };

/** What a copy is called: by the weights that it is made of, its format and what it holds. */
function keyOf(expected: Expected): string {
  const hash = createHash('sha256').update(canonicalContent(expected)).digest('hex');
  return `${expected.format}-${hash.slice(0, KEY_DIGITS)}`;
}

export class PackedPlace {
  readonly dir: string;
  readonly file: string;
  /** The file that processes agree on who makes it by. */
  readonly lock: string;
  readonly root: string;
  readonly #key: string;
  readonly #expected: Expected;

  /** `cacheDir`: the whole cache of models, absolute; nothing is made there yet. */
  constructor(cacheDir: string, expected: Expected) {
    this.#expected = expected;
    this.#key = keyOf(expected);
    this.root = packedRoot(cacheDir);
    this.dir = join(this.root, this.#key);
    this.file = join(this.dir, WEIGHTS_FILE);
    this.lock = join(cacheDir, '.locks', FOLDER, `${this.#key}.lock`);
  }

  /**
   * What is wrong with the copy. `isThorough`: a file of weights that was touched is read; else it counts as flawed.
   * Throws UserError for one that this user may not read, the signal's reason.
   */
  async flaw(isThorough: boolean, signal?: AbortSignal): Promise<Flaw> {
    const path = join(this.dir, MANIFEST_FILE);
    const bytes = await readFileIfThere(path, MANIFEST_BYTES_MAX, 'of a packed copy');
    if (bytes === null) {
      return (await isThere(this.dir)) ? { reason: 'has no manifest' } : 'missing';
    }
    const manifest = decodeManifest(bytes);
    if (manifest === null) return { reason: 'has a damaged manifest' };
    const { version } = this.#expected;
    if (manifest.version !== version) {
      return { reason: `is of version ${manifest.version} instead of ${version}` };
    }
    if (!isAsExpected(manifest, this.#expected)) return { reason: 'has the manifest of another' };
    return this.#weightsFlaw(manifest, isThorough, signal);
  }

  async #weightsFlaw(manifest: Manifest, isThorough: boolean, signal?: AbortSignal): Promise<Flaw> {
    const state = await stat(this.file, { bigint: true }).catch(() => null);
    if (state === null) return { reason: 'has lost its weights' };
    if (state.size !== BigInt(manifest.bytes)) {
      return { reason: `has ${state.size} instead of ${manifest.bytes} bytes` };
    }
    if (String(state.mtimeNs) === manifest.mtimeNs) return null;
    const touched = { reason: 'was changed' };
    if (!isThorough) return touched;
    return (await fileSha256(this.file, signal)) === manifest.sha256 ? null : touched;
  }

  /** So that a copy which was touched (moved from another disk) is read once. Throws what the system throws. */
  async trust(): Promise<void> {
    const path = join(this.dir, MANIFEST_FILE);
    const bytes = await readFileIfThere(path, MANIFEST_BYTES_MAX, 'of a packed copy');
    const manifest = bytes && decodeManifest(bytes);
    if (manifest === null) return;
    const { mtimeNs, mode } = await stat(this.file, { bigint: true });
    if (String(mtimeNs) === manifest.mtimeNs) return;
    const content = encodeManifest({ ...manifest, mtimeNs: String(mtimeNs) });
    await replaceFile(path, [content], Number(mode) & 0o777);
  }

  /**
   * Makes the copy, in place of a flawed one. `write` fills an empty file and gives its hash; `check` is asked before
   * the copy gets its name. `readers`: the bits of who may read it beside this user. Throws what `write`, `check` and the system throw.
   */
  async make(init: {
    model: string;
    readers: number;
    write: (handle: FileHandle) => Promise<string>;
    check: () => Promise<void>;
  }): Promise<void> {
    const partial = `${this.dir}.${process.pid}-${randomBytes(4).toString('hex')}${PARTIAL}`;
    await disk.mkdir(partial, 0o700);
    try {
      await replaceFile(join(partial, OWNER_FILE), [encodeOwner(await thisProcess())], 0o600);
      await this.#fill(partial, init);
      await init.check();
      await disk.remove(join(partial, OWNER_FILE));
      // Who may read a directory needs the right to search it as well.
      await chmod(partial, 0o700 | init.readers | (init.readers >> 2));
      await remove(this.dir);
      await this.#rename(partial);
    } finally {
      await remove(partial).catch(() => undefined);
    }
  }

  async #fill(
    partial: string,
    { model, readers, write }: Parameters<PackedPlace['make']>[0],
  ): Promise<void> {
    const mode = 0o400 | readers;
    const handle = await disk.open(join(partial, WEIGHTS_FILE), 'wx', 0o600);
    let made: Pick<Manifest, 'sha256' | 'mtimeNs'>;
    try {
      const sha256 = await write(handle);
      await handle.chmod(mode);
      const { mtimeNs } = await handle.stat({ bigint: true });
      made = { sha256, mtimeNs: String(mtimeNs) };
    } finally {
      await handle.close();
    }
    const content = encodeManifest({ ...this.#expected, ...made, model });
    await replaceFile(join(partial, MANIFEST_FILE), [content], mode);
  }

  async #rename(partial: string): Promise<void> {
    try {
      await renameDurably(partial, this.dir);
    } catch (error) {
      // A process that stood still for long lost the lock: another has made the same meanwhile.
      if (!['ENOTEMPTY', 'EEXIST'].includes(errnoOf(error) ?? '')) throw error;
    }
  }

  /** Makes the folder, and removes what dead processes and older versions left there. Throws what the system throws. */
  async prepare(): Promise<void> {
    await makeDirectory(this.root);
    for (const name of (await readdir(this.root)).slice(0, COPIES_MAX)) {
      const path = join(this.root, name);
      const isOver = name.endsWith(PARTIAL)
        ? await isAbandoned(path, name.startsWith(`${this.#key}.`))
        : await isOfOlderVersion(path);
      if (isOver) await remove(path);
    }
  }
}

/** The folder of all copies. */
export function packedRoot(cacheDir: string): string {
  return join(cacheDir, FOLDER);
}

/** `isOwn`: of the copy whose lock this process has, so that nobody at work can be elsewhere. */
async function isAbandoned(partial: string, isOwn: boolean): Promise<boolean> {
  const bytes = await readFileIfThere(join(partial, OWNER_FILE), OWNER_BYTES_MAX, 'an owner').catch(
    (error: unknown) => {
      if (error instanceof UserError) return null;
      throw error;
    },
  );
  const owner = bytes && decodeOwner(bytes);
  const state = owner === null ? 'unknown' : await ownerState(owner);
  if (state !== 'unknown') return state === 'dead';
  return (isOwn && owner !== null) || (await isOld(partial));
}

/** By the file that grows, or the directory before that. */
async function isOld(partial: string): Promise<boolean> {
  for (const path of [join(partial, WEIGHTS_FILE), partial]) {
    const state = await stat(path).catch(() => null);
    if (state !== null) return Date.now() - state.mtimeMs > ABANDONED_AFTER_MS;
  }
  return false;
}

async function isOfOlderVersion(dir: string): Promise<boolean> {
  const path = join(dir, MANIFEST_FILE);
  const bytes = await readFileIfThere(path, MANIFEST_BYTES_MAX, 'a manifest').catch(() => null);
  const version = bytes && versionOf(bytes);
  return version !== null && version < PACKED_VERSION;
}

async function isThere(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

/** The manifest first: without it nobody takes what is left for a copy. */
async function remove(dir: string): Promise<void> {
  await disk.remove(join(dir, MANIFEST_FILE));
  await rm(dir, { recursive: true, force: true });
}
