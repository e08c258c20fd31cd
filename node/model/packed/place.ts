/**
 * Where packed copies lie: murmurate/packed/FORMAT-KEY in the cache of models, a directory with the file of weights and a
 * manifest. It is there as a whole or not at all (whole-directory.ts).
 */
import { createHash } from 'node:crypto';
import { chmod, readdir, rm, stat, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { UserError } from '../../errors.js';
import { disk, errnoOf, fileSha256, makeDirectory, replaceFile } from '../../files.js';
import { readFileIfThere } from '../../json-file.js';
import { removeAbandoned, writeWholeDirectory } from '../whole-directory.js';
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
/** Directories that are looked at. */
const COPIES_MAX = 4096;
/** Hexadecimal digits of the hash in a name. */
const KEY_DIGITS = 32;

/** What a copy is made of. */
export interface CopyInit {
  readonly model: string;
  readonly readers: number;
  readonly write: (handle: FileHandle) => Promise<string>;
  readonly check: () => Promise<void>;
}

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
    const bytes = await this.#manifest();
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

  async #manifest(): Promise<Uint8Array | null> {
    const path = join(this.dir, MANIFEST_FILE);
    try {
      return await readFileIfThere(path, MANIFEST_BYTES_MAX, 'the manifest of a packed copy');
    } catch (error) {
      // A file where the cache should be: whoever writes there is told.
      if (error instanceof UserError && errnoOf(error.cause) === 'ENOTDIR') return null;
      throw error;
    }
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
    const bytes = await this.#manifest();
    const manifest = bytes && decodeManifest(bytes);
    if (manifest === null) return;
    const { mtimeNs, mode } = await stat(this.file, { bigint: true });
    if (String(mtimeNs) === manifest.mtimeNs) return;
    const content = encodeManifest({ ...manifest, mtimeNs: String(mtimeNs) });
    await replaceFile(join(this.dir, MANIFEST_FILE), [content], Number(mode) & 0o777);
  }

  /**
   * Makes the copy, in place of a flawed one. `write` fills an empty file and gives its hash; `check` is asked before
   * the copy gets its name. `readers`: the bits of who may read it beside this user. Throws what `write`, `check` and the
   * system throw.
   */
  async make(init: CopyInit): Promise<void> {
    try {
      await writeWholeDirectory(this.dir, async (content) => {
        await this.#fill(content, init);
        await init.check();
        // Who may read a directory needs the right to search it as well.
        await chmod(content, 0o700 | init.readers | (init.readers >> 2));
        await remove(this.dir);
      });
    } catch (error) {
      // A process that stood still for long lost the lock: another has made the same meanwhile.
      if (!['ENOTEMPTY', 'EEXIST'].includes(errnoOf(error) ?? '')) throw error;
    }
  }

  async #fill(content: string, { model, readers, write }: CopyInit): Promise<void> {
    const mode = 0o400 | readers;
    const handle = await disk.open(join(content, WEIGHTS_FILE), 'wx', 0o600);
    let made: Pick<Manifest, 'sha256' | 'mtimeNs'>;
    try {
      const sha256 = await write(handle);
      await handle.chmod(mode);
      const { mtimeNs } = await handle.stat({ bigint: true });
      made = { sha256, mtimeNs: String(mtimeNs) };
    } finally {
      await handle.close();
    }
    const manifest = encodeManifest({ ...this.#expected, ...made, model });
    await replaceFile(join(content, MANIFEST_FILE), [manifest], mode);
  }

  /** Makes the folder, and removes what killed processes and older versions left there. Throws what the system throws. */
  async prepare(): Promise<void> {
    await makeDirectory(this.root);
    await removeAbandoned(this.root);
    for (const name of (await readdir(this.root)).slice(0, COPIES_MAX)) {
      const path = join(this.root, name);
      if (await isOfOlderVersion(path)) await remove(path);
    }
  }
}

/** The folder of all copies. */
export function packedRoot(cacheDir: string): string {
  return join(cacheDir, FOLDER);
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
