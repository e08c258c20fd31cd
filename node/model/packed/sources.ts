/** The files that a copy is made of: what they hold, who may read them, and whether they stayed the same meanwhile. */
import { stat } from 'node:fs/promises';
import { UserError } from '../../errors.js';
import { unreadable } from '../../json-file.js';
import { cachedSha256, readHashCache, writeHashCache } from '../hash-cache.js';
import { filesOf } from '../weight-index.js';
import type { PackedLayout } from './layout.js';

export interface Source {
  readonly file: string;
  readonly bytes: number;
  readonly sha256: string;
}

/** Who may read it: the bits of others and of the group. */
const READABLE = 0o044;

export class Sources {
  /** In the order of the tensors. */
  readonly list: readonly Source[];
  readonly #states: ReadonlyMap<string, string>;

  private constructor(list: readonly Source[], states: ReadonlyMap<string, string>) {
    this.list = list;
    this.#states = states;
  }

  /** Hashes what `hashCacheFile` does not know. Throws UserError, the signal's reason. */
  static async open(
    { tensors }: PackedLayout,
    hashCacheFile: string,
    signal?: AbortSignal,
  ): Promise<Sources> {
    const files = filesOf(new Map(tensors.map(({ name, source }) => [name, source])));
    const cache = await readHashCache(hashCacheFile);
    const before = JSON.stringify(cache);
    const list: Source[] = [];
    const states = new Map<string, string>();
    for (const file of files) {
      const { size, state } = await stateOf(file);
      states.set(file, state);
      list.push({ file, bytes: size, sha256: await cachedSha256(file, cache, signal) });
    }
    if (JSON.stringify(cache) !== before) await writeHashCache(hashCacheFile, cache);
    return new Sources(list, states);
  }

  /** Throws UserError that names a file which is not the one that was hashed. */
  async checkUnchanged(): Promise<void> {
    for (const { file } of this.list) {
      if ((await stateOf(file)).state === this.#states.get(file)) continue;
      throw new UserError(
        `${file} changed while its weights were packed: leave it alone, and start again`,
      );
    }
  }

  /** The bits of READABLE that `directory` and all files have. Throws UserError. */
  async readers(directory: string): Promise<number> {
    let bits = READABLE;
    for (const path of [directory, ...this.list.map(({ file }) => file)]) {
      bits &= (await stateOf(path)).mode;
    }
    return bits;
  }
}

async function stateOf(path: string): Promise<{ size: number; mode: number; state: string }> {
  try {
    const { size, mtimeNs, ctimeNs, ino, dev, mode } = await stat(path, { bigint: true });
    const state = [dev, ino, size, mtimeNs, ctimeNs].join(' ');
    return { size: Number(size), mode: Number(mode), state };
  } catch (cause) {
    throw unreadable(path, 'a file of the model', cause);
  }
}
