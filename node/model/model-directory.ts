/** Opens a Hugging Face model directory and says in one sentence what is missing or inconsistent. */
import { readdir } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { WEIGHT_INDEX_FILE } from '../../protocol/model-files.js';
import { UserError } from '../errors.js';
import { readBoundedFile, unreadable } from '../json-file.js';
import { CONFIG_BYTES_MAX, quantisationOf, readModelConfig, type ModelConfig } from './config.js';
import { formatHubName, hubNameOfDirectory } from './hub-name.js';
import { openGguf } from './quantised/gguf.js';
import type { Quantisation } from './quantised/method.js';
import { joinQuantised } from './quantised/open.js';
import type { WeightIndex } from './safetensors.js';
import { checkEveryWeight } from './unread-weights.js';
import { openWeights, SINGLE_FILE } from './weight-index.js';

export interface ModelDirectory {
  /** Absolute path. */
  dir: string;
  /** As modelName says. */
  name: string;
  config: ModelConfig;
  /** Where each tensor lies. */
  weights: WeightIndex;
  /** Path of tokenizer.json, which exists. */
  tokenizerFile: string;
}

const CONFIG_FILE = 'config.json';
const TOKENIZER_FILE = 'tokenizer.json';

const NAME_CHARACTERS_MAX = 128;
const CONVERT =
  'convert it with Transformers: AutoModelForCausalLM.from_pretrained(dir).save_pretrained(dir), which writes safetensors';

/**
 * Reads the config and the headers of the weight files; of tensors at most an output layer that should be the
 * embeddings. Throws UserError: no such directory, a file missing, damaged, cut short or of another model, weights in
 * another format than safetensors, a kind of model that is not supported, or as checkEveryWeight.
 */
export async function openModelDirectory(path: string): Promise<ModelDirectory> {
  const directory = await readModelDirectory(path);
  await checkEveryWeight(directory.config, directory.weights);
  return directory;
}

/** The same without a look at what the weights are for. */
async function readModelDirectory(path: string): Promise<ModelDirectory> {
  const dir = resolve(path);
  const files = await listFiles(dir);
  if (!files.has(CONFIG_FILE)) {
    const gguf = [...files].find((file) => file.endsWith('.gguf'));
    if (gguf !== undefined) {
      throw new UserError(
        `${dir} has ${gguf} but no ${CONFIG_FILE}, from which the model and its tokenizer are read: put ${CONFIG_FILE} and ${TOKENIZER_FILE} of the model that it was made of there`,
      );
    }
    throw new UserError(
      `${dir} has no ${CONFIG_FILE}: give the directory of a Hugging Face model (config.json, model.safetensors, tokenizer.json)`,
    );
  }
  const configPath = join(dir, CONFIG_FILE);
  const bytes = await readBoundedFile(configPath, CONFIG_BYTES_MAX, "the model's config");
  const config = readModelConfig(bytes, configPath);
  const weights = await findWeights(dir, files, config, quantisationOf(bytes, configPath));
  if (!files.has(TOKENIZER_FILE)) throw noTokenizer(dir, files);
  return { dir, name: modelName(dir), config, weights, tokenizerFile: join(dir, TOKENIZER_FILE) };
}

/** Of safetensors, quantised or not, and else of a GGUF file. */
async function findWeights(
  dir: string,
  files: ReadonlySet<string>,
  config: ModelConfig,
  quantisation: Quantisation | null,
): Promise<WeightIndex> {
  if (files.has(SINGLE_FILE) || files.has(WEIGHT_INDEX_FILE)) {
    const weights = await openWeights(dir);
    return quantisation === null ? weights : joinQuantised(config, weights, quantisation);
  }
  const [gguf, ...more] = [...files].filter((file) => file.endsWith('.gguf')).sort();
  if (gguf === undefined) throw noWeights(dir, files);
  if (more.length === 0) return openGguf(join(dir, gguf), config);
  throw new UserError(
    `${dir} has ${more.length + 1} GGUF files (${gguf}, ${more[0]}${more.length > 1 ? ', ...' : ''}): leave the one there that is to be used`,
  );
}

async function listFiles(dir: string): Promise<Set<string>> {
  try {
    return new Set(await readdir(dir));
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && cause.code === 'ENOTDIR') {
      throw new UserError(
        `${dir} is a file, not a model directory: give the directory that holds config.json`,
        undefined,
        { cause },
      );
    }
    throw unreadable(dir, 'the model directory', cause);
  }
}

function noWeights(dir: string, files: ReadonlySet<string>): UserError {
  const other = [...files].find((file) => /\.(bin|pt|pth|ckpt|h5|msgpack)$/.test(file));
  if (other !== undefined) {
    return new UserError(
      `${dir} has its weights as ${other}, but only safetensors and GGUF are read: ${CONVERT}`,
    );
  }
  const shard = [...files].find((file) => file.endsWith('.safetensors'));
  if (shard !== undefined) {
    return new UserError(
      `${dir} has ${shard} but no ${WEIGHT_INDEX_FILE}, which says where each tensor is: get the rest of the model's files`,
    );
  }
  return new UserError(
    `${dir} has neither ${SINGLE_FILE} nor ${WEIGHT_INDEX_FILE}: get the rest of the model's files`,
  );
}

function noTokenizer(dir: string, files: ReadonlySet<string>): UserError {
  const old = ['tokenizer.model', 'vocab.json', 'vocab.txt'].find((file) => files.has(file));
  if (old !== undefined) {
    return new UserError(
      `${dir} has ${old} but no ${TOKENIZER_FILE}: make one with Transformers: AutoTokenizer.from_pretrained(dir).save_pretrained(dir)`,
    );
  }
  return new UserError(`${dir} has no ${TOKENIZER_FILE}: get the rest of the model's files`);
}

/**
 * What people call the model: OWNER/NAME@COMMIT where it lies in Hugging Face's cache, so that others can
 * fetch the same; else the directory's base name. Cut to what a manifest may hold: 1 to 128 printable characters.
 */
export function modelName(dir: string): string {
  const cached = hubNameOfDirectory(dir);
  if (cached !== null) {
    const full = formatHubName({ name: cached.name, revision: cached.commit });
    return full.length <= NAME_CHARACTERS_MAX ? full : cached.name;
  }
  const printable = basename(resolve(dir)).replace(/\p{C}/gu, '');
  return Array.from(printable).slice(0, NAME_CHARACTERS_MAX).join('').trim() || 'model';
}

/** Whether all is in `path` that a peer cannot do without. */
export async function isModelDirectory(path: string): Promise<boolean> {
  return readModelDirectory(path).then(
    () => true,
    () => false,
  );
}
