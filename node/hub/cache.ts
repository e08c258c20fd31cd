/**
 * Hugging Face's cache on disk, as its own library lays it out: blobs/HASH holds the bytes of a file,
 * snapshots/COMMIT/NAME links to them, refs/REVISION names a commit. What is here, Transformers finds as well.
 */
import { createHash } from 'node:crypto';
import { link, readdir, readFile, readlink, stat, symlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { disk, errnoOf, makeDirectory, replaceFile } from '../files.js';
import { cacheFolderOf, hubNameOfDirectory, isCommit, type PinnedName } from '../model/hub-name.js';

/** Models, and snapshots of one model, that are looked at. */
const MODELS_MAX = 4096;
const SNAPSHOTS_MAX = 256;

/** A model in the cache, whole or in part. */
export interface CachedModel extends PinnedName {
  /** The snapshot; absolute. */
  dir: string;
  /** Of all its files. */
  bytes: number;
  /**
   * As in a model's fingerprint, by the names of the blobs: what they hold is not read. Null where there
   * are no weights, or blobs with other names.
   */
  weightsSha256: string | null;
}

/** One model's part of the cache. */
export class ModelCache {
  readonly root: string;
  readonly name: string;

  /** `directory`: of the whole cache, absolute; nothing is made there yet. */
  constructor(
    readonly directory: string,
    name: string,
  ) {
    this.name = name;
    this.root = join(directory, cacheFolderOf(name));
  }

  snapshot(commit: string): string {
    return join(this.root, 'snapshots', commit);
  }

  /** `hash`: 40 or 64 hex digits. */
  blob(hash: string): string {
    return join(this.root, 'blobs', hash);
  }

  /** The file that processes agree on who writes here by. */
  get lock(): string {
    return join(this.directory, '.locks', cacheFolderOf(this.name), 'murmurate.lock');
  }

  /** The commit that `revision` was the last time somebody asked; null when nobody did. */
  async commitOf(revision: string): Promise<string | null> {
    if (isCommit(revision)) return revision;
    try {
      const commit = (await readFile(this.#ref(revision), 'utf8')).trim();
      return isCommit(commit) ? commit : null;
    } catch {
      return null;
    }
  }

  /** Throws what the system throws. */
  async remember(revision: string, commit: string): Promise<void> {
    if (isCommit(revision) || (await this.commitOf(revision)) === commit) return;
    await makeDirectory(dirname(this.#ref(revision)));
    await replaceFile(this.#ref(revision), [commit]);
  }

  /** Whether the snapshot has `file` with so many bytes. */
  async has(commit: string, file: string, bytes: number): Promise<boolean> {
    return (await sizeOf(join(this.snapshot(commit), file))) === bytes;
  }

  /** Enters the blob `hash` as `file` into the snapshot, whose directory is there. Throws what the system throws. */
  async enter(commit: string, file: string, hash: string): Promise<void> {
    const path = join(this.snapshot(commit), file);
    const temporary = `${path}.tmp`;
    await disk.remove(temporary);
    try {
      await symlink(join('..', '..', 'blobs', hash), temporary);
    } catch (error) {
      // Windows lets only some users make links; a second name for the same bytes anybody.
      if (errnoOf(error) !== 'EPERM') throw error;
      await link(this.blob(hash), temporary);
    }
    await disk.rename(temporary, path);
  }

  #ref(revision: string): string {
    return join(this.root, 'refs', ...revision.split('/'));
  }
}

/** Every snapshot of a model in the cache at `directory`; none where there is no cache. */
export async function cachedModels(directory: string): Promise<CachedModel[]> {
  const models: CachedModel[] = [];
  const folders = (await list(directory)).filter((name) => name.startsWith('models--'));
  for (const folder of folders.slice(0, MODELS_MAX)) {
    const snapshots = join(directory, folder, 'snapshots');
    for (const commit of (await list(snapshots)).slice(0, SNAPSHOTS_MAX)) {
      const dir = join(snapshots, commit);
      const pinned = hubNameOfDirectory(dir);
      if (pinned !== null) models.push({ ...pinned, dir, ...(await contentOf(dir)) });
    }
  }
  return models;
}

async function contentOf(dir: string): Promise<Pick<CachedModel, 'bytes' | 'weightsSha256'>> {
  const files = await list(dir);
  const sizes = await Promise.all(files.map((file) => sizeOf(join(dir, file))));
  const bytes = sizes.reduce<number>((sum, size) => sum + (size ?? 0), 0);
  const shards = files.filter((file) => /^model-\d+-of-\d+\.safetensors$/.test(file));
  const weights = files.includes('model.safetensors') ? ['model.safetensors'] : shards;
  const hashes = await Promise.all(weights.map((file) => blobNameOf(join(dir, file))));
  const named = weights.map((name, i) => ({ name, sha256: hashes[i] ?? '' }));
  return { bytes, weightsSha256: weightsSha256Of(named) };
}

/**
 * The hash of weights in a model's fingerprint, from the SHA-256 of each file; null where one is no
 * SHA-256, or there is none at all.
 */
export function weightsSha256Of(files: readonly { name: string; sha256: string }[]): string | null {
  const isKnown = files.every(({ sha256 }) => /^[0-9a-f]{64}$/.test(sha256));
  if (files.length === 0 || !isKnown) return null;
  const hash = createHash('sha256');
  const sorted = [...files].sort((a, b) => (a.name < b.name ? -1 : 1));
  for (const { name, sha256 } of sorted) hash.update(`${sha256}  ${name}\n`);
  return hash.digest('hex');
}

async function blobNameOf(path: string): Promise<string> {
  return readlink(path).then(
    (target) => basename(target),
    () => '',
  );
}

/** Null when there is no such file. */
export async function sizeOf(path: string): Promise<number | null> {
  return stat(path).then(
    (status) => (status.isFile() ? status.size : null),
    () => null,
  );
}

async function list(directory: string): Promise<string[]> {
  return readdir(directory).then(
    (names) => names.sort(),
    () => [],
  );
}
