/** What a model directory holds, as others can fetch it: the catalogue of its files, each read once. */
import { basename, join } from 'node:path';
import { InvalidModelFilesError } from '../../protocol/errors.js';
import {
  catalogueName,
  encodeModelFiles,
  EXTRA_MODEL_FILES,
  isModelFile,
  NEEDED_MODEL_FILES,
  WEIGHT_INDEX_FILE,
  type ModelFile,
} from '../../protocol/model-files.js';
import type { BlobName } from '../../protocol/blob.js';
import { UserError } from '../errors.js';
import { cachedParts, readHashCache, writeHashCache } from './hash-cache.js';
import { openModelDirectory } from './model-directory.js';
import { filesOf, isFile, SINGLE_FILE } from './weight-index.js';

export interface ModelListing {
  /** Absolute. */
  dir: string;
  files: readonly ModelFile[];
  /** Canonical bytes of the catalogue, and what a manifest names it by. */
  catalogue: Uint8Array<ArrayBuffer>;
  name: BlobName;
}

/**
 * Lists the model in `dir`: its weights, config and tokenizer, and what else a peer reads of it. About 1 GB a second;
 * `cacheFile`: see fingerprintModel. Throws UserError as openModelDirectory does, and for a file that no catalogue can name.
 */
export async function listModelFiles(dir: string, cacheFile?: string): Promise<ModelListing> {
  const model = await openModelDirectory(dir);
  const cache = cacheFile === undefined ? {} : await readHashCache(cacheFile);
  const before = JSON.stringify(cache);
  const names: string[] = [...NEEDED_MODEL_FILES];
  const isSingle = await isFile(join(model.dir, SINGLE_FILE));
  for (const name of [...EXTRA_MODEL_FILES, ...(isSingle ? [] : [WEIGHT_INDEX_FILE])]) {
    if (await isFile(join(model.dir, name))) names.push(name);
  }
  names.push(...filesOf(model.weights).map((file) => basename(file)));
  const files: ModelFile[] = [];
  for (const name of names) {
    if (name.endsWith('.gguf')) {
      throw new UserError(
        `${join(model.dir, name)} is GGUF, and only models in safetensors can be shared with members: start without --share-model, and let members get the same file elsewhere`,
      );
    }
    if (!isModelFile(name)) {
      throw new UserError(
        `${join(model.dir, name)} has a name that cannot be told to others: letters, digits, ".", "_" and "-" alone, and at most 128`,
      );
    }
    const { size, parts } = await cachedParts(join(model.dir, name), cache);
    // An empty one says nothing, and is none.
    if (size > 0) files.push({ name, size, parts });
  }
  if (cacheFile !== undefined && JSON.stringify(cache) !== before) {
    await writeHashCache(cacheFile, cache);
  }
  try {
    const catalogue = encodeModelFiles(files);
    return { dir: model.dir, files, catalogue, name: catalogueName(catalogue) };
  } catch (cause) {
    if (!(cause instanceof InvalidModelFilesError)) throw cause;
    throw new UserError(`${model.dir} cannot be listed for others: ${cause.message}`, undefined, {
      cause,
    });
  }
}
