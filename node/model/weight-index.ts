/** Finds every tensor of a model directory, over one safetensors file or many shards. */
import { stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { z } from 'zod';
import { WEIGHT_INDEX_FILE } from '../../protocol/model-files.js';
import { UserError } from '../errors.js';
import { readJsonFile } from '../json-file.js';
import { readSafetensorsHeader, type TensorEntry, type WeightIndex } from './safetensors.js';

export const SINGLE_FILE = 'model.safetensors';

/** Bytes of a model.safetensors.index.json: 100 bytes a tensor, 100,000 tensors. */
const INDEX_BYTES_MAX = 32 * 1024 * 1024;

const indexSchema = z.looseObject({
  weight_map: z.record(z.string(), z.string(), {
    error: 'but must be an object of tensor name -> file name',
  }),
});

/**
 * The tensors of a model directory: model.safetensors, or else the shards that
 * model.safetensors.index.json names. Throws UserError as readSafetensorsHeader does, and when the index
 * names a file or a tensor that is not there.
 */
export async function openWeights(dir: string): Promise<WeightIndex> {
  const single = join(dir, SINGLE_FILE);
  if (await isFile(single)) {
    const { tensors } = await readSafetensorsHeader(single);
    return new Map(tensors.map((tensor) => [tensor.name, tensor]));
  }
  const indexPath = join(dir, WEIGHT_INDEX_FILE);
  const shards = new Map<string, Map<string, TensorEntry>>();
  const weights = new Map<string, TensorEntry>();
  for (const [name, shard] of await readWeightMap(indexPath)) {
    const entry = (await openShard(shards, dir, indexPath, shard)).get(name);
    if (entry === undefined) {
      throw new UserError(
        `${indexPath} says that ${shard} holds the tensor ${name}, but it does not: the files belong to different models, get them all again`,
      );
    }
    weights.set(name, entry);
  }
  // What a shard holds beside that is there as well, and is not to go unnoticed.
  for (const entry of [...shards.values()].flatMap((shard) => [...shard.values()])) {
    if (!weights.has(entry.name)) weights.set(entry.name, entry);
  }
  return weights;
}

/** Pairs of a tensor's and a file's name, as a model.safetensors.index.json has them. Throws UserError. */
export async function readWeightMap(indexPath: string): Promise<[string, string][]> {
  const what = 'the index of the weight files';
  const index = await readJsonFile(indexPath, INDEX_BYTES_MAX, what, indexSchema);
  return Object.entries(index.weight_map);
}

async function openShard(
  shards: Map<string, Map<string, TensorEntry>>,
  dir: string,
  indexPath: string,
  shard: string,
): Promise<Map<string, TensorEntry>> {
  const known = shards.get(shard);
  if (known !== undefined) return known;
  // A name with a path in it could read files outside the model directory.
  if (shard !== basename(shard) || shard.includes('\\') || !shard.endsWith('.safetensors')) {
    throw new UserError(
      `${indexPath} names the weight file "${shard}", which is not the plain name of a .safetensors file: get the index again`,
    );
  }
  const path = join(dir, shard);
  if (!(await isFile(path))) {
    throw new UserError(
      `${indexPath} names the weight file ${shard}, which is missing from ${dir}: get the rest of the model's files`,
    );
  }
  const { tensors } = await readSafetensorsHeader(path);
  const byName = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  shards.set(shard, byName);
  return byName;
}

/** Every file that the weights are in. */
export function filesOf(weights: WeightIndex): string[] {
  const entries = [...weights.values()].flatMap((entry) => [
    entry,
    ...(entry.quantised?.parts ?? []),
  ]);
  return [...new Set(entries.map(({ file }) => file))];
}

/** True for a regular file (or a link to one). */
export async function isFile(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isFile();
  } catch {
    return false;
  }
}
