/** A model by name: from the cache, or from a hub into the cache; always one commit, whole and checked. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { UserError } from '../errors.js';
import type { ModelFingerprint } from '../../protocol/manifest.js';
import { WEIGHT_INDEX_FILE } from '../../protocol/model-files.js';
import { disk, makeDirectory } from '../files.js';
import { checkSpace, locked, SPARE_BYTES } from '../model/cache-room.js';
import { readModelConfig } from '../model/config.js';
import { configSha256, fingerprintModel } from '../model/fingerprint.js';
import { formatHubName, type HubName } from '../model/hub-name.js';
import { isModelDirectory, openModelDirectory } from '../model/model-directory.js';
import { readWeightMap } from '../model/weight-index.js';
import { cachedModels, ModelCache, sizeOf, weightsSha256Of } from './cache.js';
import { HubClient, HubUnreachableError } from './client.js';
import { cacheDirectoryOf, endpointOf, tokenOf, type Environment } from './endpoint.js';
import { askListing, smallFiles, weightFiles, type HubFile, type Listing } from './listing.js';
import { findFromMembers } from './member-model.js';
import { partOf, transfer } from './transfer.js';
import { inWords, waitingFor, type Asked } from './words.js';

export interface FetchOptions {
  env: Environment;
  signal: AbortSignal;
  /** One sentence for people. */
  say: (sentence: string) => void;
  onProgress: (done: number, total: number) => void;
  /** The commit that this peer used before: where it is here, nobody is asked. */
  pinned?: string | null;
  /** Of the run's model: others are refused before they are fetched, as far as the hub tells. */
  weightsSha256?: string | null;
  /** For tests: after the first failed attempt, in ms. */
  pauseMs?: number;
}

/** Where a model lies now. */
export interface FetchedModel {
  /** The snapshot; absolute. */
  dir: string;
  commit: string;
}

/** Throws UserError for everything that a person can mend, the signal's reason. */
export async function fetchModel(asked: HubName, options: FetchOptions): Promise<FetchedModel> {
  const { env, signal, pinned = null } = options;
  const wanted = { name: asked.name, revision: pinned ?? asked.revision };
  const directory = cacheDirectoryOf(env);
  const cache = new ModelCache(directory, wanted.name);
  const { url, isOffline } = endpointOf(env);
  const revision = wanted.revision ?? 'main';
  if (pinned !== null && (await isModelDirectory(cache.snapshot(pinned)))) {
    return { dir: cache.snapshot(pinned), commit: pinned };
  }
  if (isOffline) return fromCache(cache, wanted, 'HF_HUB_OFFLINE is set', options.say);
  const token = await tokenOf(env);
  const context: Asked = { wanted, url, hasToken: token !== null, directory };
  const client = new HubClient({ url, token, signal });
  try {
    const listing = await askListing(client, wanted.name, revision);
    const dir = await new Fetch(client, cache, listing, options).run(revision);
    return { dir, commit: listing.commit };
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof HubUnreachableError) {
      const commit = await cache.commitOf(revision);
      if (commit !== null && (await isModelDirectory(cache.snapshot(commit)))) {
        return fromCache(cache, wanted, `${url} cannot be reached (${error.message})`, options.say);
      }
    }
    throw inWords(error, context);
  }
}

async function fromCache(
  cache: ModelCache,
  wanted: HubName,
  why: string,
  say: (sentence: string) => void,
): Promise<FetchedModel> {
  const commit = await cache.commitOf(wanted.revision ?? 'main');
  const name = formatHubName(wanted);
  if (commit === null || (await sizeOf(join(cache.snapshot(commit), 'config.json'))) === null) {
    throw new UserError(
      `${why}, and the cache ${cache.directory} does not have ${name}: fetch it once with a connection, or name a cache that has it with HF_HUB_CACHE`,
    );
  }
  const dir = cache.snapshot(commit);
  // Says itself what is missing of a snapshot that is not whole.
  await openModelDirectory(dir);
  say(`${why}: using ${name} as it is in the cache, commit ${commit.slice(0, 12)}`);
  return { dir, commit };
}

/**
 * Where in the cache `wanted` lies, or as it came from members; null where there is none. The links of the cache have
 * the hash of a file in their name. Where it has plain files instead, as on Windows, those of a model with the same
 * config are read; `cacheFile`: see fingerprintModel.
 */
export async function findCached(
  wanted: Pick<ModelFingerprint, 'weightsSha256' | 'configSha256'>,
  env: Environment,
  cacheFile?: string,
): Promise<string | null> {
  const directory = cacheDirectoryOf(env);
  const models = await cachedModels(directory);
  const { weightsSha256 } = wanted;
  for (const { dir, ...model } of models) {
    if (model.weightsSha256 === weightsSha256 && (await isModelDirectory(dir))) return dir;
  }
  for (const { dir, ...model } of models) {
    if (model.weightsSha256 !== null || !(await hasConfig(dir, wanted.configSha256))) continue;
    const own = await fingerprintModel(dir, cacheFile).catch(() => null);
    if (own?.weightsSha256 === weightsSha256) return dir;
  }
  return findFromMembers(directory, weightsSha256);
}

/** Whether the snapshot has a config of that hash; one that cannot be read is another model's. */
async function hasConfig(dir: string, sha256: string): Promise<boolean> {
  try {
    const path = join(dir, 'config.json');
    return configSha256(readModelConfig(await readFile(path), path)) === sha256;
  } catch {
    return false;
  }
}

/** One model on its way into the cache. */
class Fetch {
  readonly #client: HubClient;
  readonly #cache: ModelCache;
  readonly #listing: Listing;
  readonly #options: FetchOptions;

  constructor(client: HubClient, cache: ModelCache, listing: Listing, options: FetchOptions) {
    this.#client = client;
    this.#cache = cache;
    this.#listing = listing;
    this.#options = options;
  }

  /** The snapshot's directory, whole. */
  async run(revision: string): Promise<string> {
    const { commit } = this.#listing;
    const dir = this.#cache.snapshot(commit);
    const small = smallFiles(this.#listing, this.#cache.name);
    // What is here already needs no lock: the cache may be read-only.
    if ((await this.#missing(small)).length > 0) {
      // Too little to watch.
      await this.#locked(() => this.#get(small, 0, () => undefined));
    }
    const source = `config.json of ${this.#cache.name}`;
    readModelConfig(await readFile(join(dir, 'config.json')), source);
    const isSharded = small.some(({ name }) => name === WEIGHT_INDEX_FILE);
    const map = isSharded ? await readWeightMap(join(dir, WEIGHT_INDEX_FILE)) : null;
    const shards = map === null ? null : [...new Set(map.map(([, file]) => file))];
    const weights = weightFiles(this.#listing, this.#cache.name, shards);
    this.#checkWeights(weights);
    if ((await this.#missing(weights)).length > 0) {
      await this.#locked(() => this.#get(weights, SPARE_BYTES, this.#options.onProgress));
    }
    // A cache that cannot be written has its own idea of what the branch is.
    await this.#cache.remember(revision, commit).catch(() => undefined);
    return dir;
  }

  async #missing(files: readonly HubFile[]): Promise<HubFile[]> {
    const { commit } = this.#listing;
    const have = await Promise.all(
      files.map(({ name, bytes }) => this.#cache.has(commit, name, bytes)),
    );
    return files.filter((_, i) => !have[i]);
  }

  /** `spareBytes` must be left on the disk. */
  async #get(
    files: readonly HubFile[],
    spareBytes: number,
    onProgress: FetchOptions['onProgress'],
  ): Promise<void> {
    const { commit } = this.#listing;
    // Another process may have had the lock, and brought them.
    const missing = await this.#missing(files);
    await makeDirectory(join(this.#cache.root, 'blobs'));
    await makeDirectory(this.#cache.snapshot(commit));
    await this.#checkSpace(missing, spareBytes);
    const total = missing.reduce((sum, { bytes }) => sum + bytes, 0);
    let done = 0;
    for (const file of missing) {
      const path = this.#cache.blob(file.hash);
      if ((await sizeOf(path)) !== file.bytes) {
        await disk.remove(path);
        const url = `${this.#client.url}/${this.#cache.name}/resolve/${commit}/${file.name}`;
        const { pauseMs } = this.#options;
        await transfer({
          ...{ client: this.#client, url, file, path },
          ...(pauseMs === undefined ? {} : { pauseMs }),
          onProgress: (bytes) => onProgress(done + bytes, total),
        });
      }
      await this.#cache.enter(commit, file.name, file.hash);
      done += file.bytes;
    }
  }

  async #checkSpace(files: readonly HubFile[], spareBytes: number): Promise<void> {
    let needed = spareBytes;
    for (const { hash, bytes } of files) {
      const path = this.#cache.blob(hash);
      needed += bytes - ((await sizeOf(path)) ?? (await sizeOf(partOf(path))) ?? 0);
    }
    await checkSpace(this.#cache.name, needed, this.#cache.directory);
  }

  #checkWeights(files: readonly HubFile[]): void {
    const { weightsSha256 = null } = this.#options;
    const found = weightsSha256Of(files.map(({ name, hash }) => ({ name, sha256: hash })));
    if (weightsSha256 === null || found === null || found === weightsSha256) return;
    throw new UserError(
      `${this.#cache.name} at commit ${this.#listing.commit} has other weights than the run's model, so it was not fetched: ` +
        `the run has ${weightsSha256.slice(0, 12)}..., the hub ${found.slice(0, 12)}...`,
    );
  }

  #locked(work: () => Promise<void>): Promise<void> {
    const { signal, say } = this.#options;
    const { lock, name } = this.#cache;
    return locked(lock, waitingFor(name), { signal, say }, work);
  }
}
