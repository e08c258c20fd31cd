/** Opens a model with its linear layers in fewer bits: from the copy in the cache, which is made where there is none. */
import { join } from 'node:path';
import { UserError } from '../../errors.js';
import { errnoOf, makeDirectory } from '../../files.js';
import { checkSpace, locked, SPARE_BYTES } from '../cache-room.js';
import type { ModelDirectory } from '../model-directory.js';
import type { WeightIndex } from '../safetensors.js';
import type { WeightFormat } from '../weight-format.js';
import { packedIndex, packedLayout, type LargestCode, type PackedLayout } from './layout.js';
import { expectedManifest } from './manifest.js';
import { packedRoot, PackedPlace } from './place.js';
import { Sources } from './sources.js';
import { writePacked, type PackingProgress } from './write.js';

export interface PackedWeightsOptions {
  readonly directory: ModelDirectory;
  readonly format: WeightFormat;
  /** The whole cache of models (node/hub/endpoint.ts), absolute. */
  readonly cacheDir: string;
  /** Of int8 and of the output table. Default: 127. */
  readonly largestCode?: LargestCode;
  /** Where the hashes of the model's files are remembered. Default: beside the copies. */
  readonly hashCacheFile?: string;
  /** Told now and then while a copy is made. */
  readonly onProgress?: (progress: PackingProgress) => void;
  /** One sentence for people: another process makes it, or a copy could not be used. */
  readonly say?: (sentence: string) => void;
  readonly signal?: AbortSignal;
}

/** Where the default hash cache lies, in the folder of the copies. */
const HASH_CACHE_FILE = 'hashes.json';

/**
 * The weights of `directory` as `format` has them: linear layers from the copy, the output table as `lm_head.weight` in
 * int8 also where it is the embeddings; all else from the model's own files. fp32, and bf16 of files with 16 bits, need
 * no copy. Two processes make a copy once. Throws UserError: a weight that is missing or not finite, a file that changed
 * meanwhile, no room on the disk, a cache that cannot be written. Rejects with the signal's reason within a second.
 */
export async function openPackedWeights(options: PackedWeightsOptions): Promise<WeightIndex> {
  const { directory, format, largestCode } = options;
  const layout = packedLayout(directory, format, largestCode);
  if (layout === null) return directory.weights;
  return packedIndex(directory.weights, layout, await fileOf(layout, options));
}

/** Path of the file of weights. */
async function fileOf(layout: PackedLayout, options: PackedWeightsOptions): Promise<string> {
  const { cacheDir, signal, say = () => undefined } = options;
  const sources = await Sources.open(layout, await hashCacheOf(options), signal);
  const place = new PackedPlace(cacheDir, expectedManifest(layout, sources.list));
  // A copy that is whole needs no lock: the cache may be read-only.
  if ((await place.flaw(false)) === null) return place.file;
  const what = `${options.directory.name} as ${layout.format}`;
  try {
    const never = new AbortController().signal;
    const waiting = `another process is packing ${what}; waiting for it`;
    await locked(place.lock, waiting, { signal: signal ?? never, say }, () =>
      makeUnlessThere(layout, sources, place, options),
    );
  } catch (error) {
    signal?.throwIfAborted();
    // A copy that was moved to where nothing can be written is read each time.
    if (errnoOf(error) !== null && (await place.flaw(true, signal)) === null) return place.file;
    throw inWords(error, what, place.root);
  }
  return place.file;
}

/** Where it cannot be made, hashes are not remembered. */
async function hashCacheOf({ hashCacheFile, cacheDir }: PackedWeightsOptions): Promise<string> {
  if (hashCacheFile !== undefined) return hashCacheFile;
  const root = packedRoot(cacheDir);
  await makeDirectory(root).catch(() => undefined);
  return join(root, HASH_CACHE_FILE);
}

async function makeUnlessThere(
  layout: PackedLayout,
  sources: Sources,
  place: PackedPlace,
  { directory, say, onProgress, signal }: PackedWeightsOptions,
): Promise<void> {
  // Another process may have had the lock, and made it.
  const flaw = await place.flaw(true, signal);
  if (flaw === null) {
    await place.trust();
    return;
  }
  if (flaw !== 'missing') say?.(`the packed copy ${place.dir} ${flaw.reason}: making it again`);
  await place.prepare();
  const what = `the ${layout.format} copy of ${directory.name}`;
  await checkSpace(what, layout.bytes + SPARE_BYTES, place.root);
  await place.make({
    model: directory.name,
    readers: await sources.readers(directory.dir),
    write: (handle) =>
      writePacked(layout, handle, { ...(signal && { signal }), ...(onProgress && { onProgress }) }),
    check: () => sources.checkUnchanged(),
  });
}

/** `error` in words where the disk refused; else itself. */
function inWords(error: unknown, what: string, root: string): unknown {
  const code = errnoOf(error);
  if (code === null || error instanceof UserError) return error;
  const remedy = ['ENOSPC', 'EDQUOT'].includes(code)
    ? 'the disk is full: free some space, or set HF_HUB_CACHE to a directory on another disk'
    : 'set HF_HUB_CACHE to a directory that can be written, or choose --weights fp32';
  return new UserError(
    `${root}, where ${what} goes, cannot be written (${code}): ${remedy}`,
    undefined,
    {
      cause: error,
    },
  );
}
