/**
 * Writes a model directory with the shape of a well-known model and random bf16 weights, which is enough to measure
 * memory and time. The tokenizer is the embedded base's; the rest of the vocabulary stays unused.
 *   npm run bench:make-model -- --shape qwen2.5-7b --out DIR [--layers N] [--vocabulary N] [--seed 0]
 *     [--shard-bytes 4000000000]
 */
import { copyFile, mkdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import cliProgress from 'cli-progress';
import { EXIT_USAGE, UserError } from '../node/errors.js';
import { streamSafetensors, type StreamedTensor } from '../node/model/safetensors.js';
import { EMBEDDED_MODEL_DIRECTORY } from '../node/version.js';
import { WEIGHT_INDEX_FILE } from '../protocol/model-files.js';
import {
  configJson,
  configOf,
  namedShape,
  tensorsOf,
  type ModelShape,
} from '../node/doctor/model-shapes.js';
import { randomTensors } from './random-weights.js';

const TOKENIZER_FILES = ['tokenizer.json', 'tokenizer_config.json', 'chat_template.jinja'];
const LAYERS_MAX = 1024;
/** Of the embedded base's tokenizer. */
const TOKENS = 4096;

interface Request {
  shape: ModelShape;
  name: string;
  target: string;
  seed: Uint8Array;
  /** A file ends before the tensor that would make it larger. */
  shardBytes: number;
}

function readRequest(): Request {
  const { values } = parseArgs({
    options: {
      shape: { type: 'string' },
      out: { type: 'string' },
      /** Fewer layers than the model has. */
      layers: { type: 'string' },
      /** A smaller one, at least the tokenizer's, to measure the layers alone. */
      vocabulary: { type: 'string' },
      seed: { type: 'string', default: '0' },
      'shard-bytes': { type: 'string', default: '4000000000' },
    },
  });
  if (values.shape === undefined || values.out === undefined) {
    throw new UserError('--shape NAME and --out DIR are needed', EXIT_USAGE);
  }
  const named = namedShape(values.shape);
  const layers = whole('--layers', values.layers ?? String(named.layers), LAYERS_MAX);
  const { vocabulary: most } = named;
  const vocabulary = whole('--vocabulary', values.vocabulary ?? String(most), most, TOKENS);
  const seed = new Uint8Array(32);
  new DataView(seed.buffer).setUint32(0, whole('--seed', values.seed, 0xffff_ffff, 0), true);
  const shardBytes = whole('--shard-bytes', values['shard-bytes'], Number.MAX_SAFE_INTEGER);
  const shape = { ...named, layers, vocabulary };
  return { shape, name: values.shape, target: resolve(values.out), seed, shardBytes };
}

function whole(flag: string, text: string, most: number, least = 1): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= least && value <= most) return value;
  throw new UserError(`${flag} is "${text}": give a whole number, ${least} to ${most}`, EXIT_USAGE);
}

function byteCount({ shape }: StreamedTensor): number {
  return shape.reduce((product, n) => product * n, 2);
}

function intoShards(tensors: readonly StreamedTensor[], shardBytes: number): StreamedTensor[][] {
  const shards: StreamedTensor[][] = [];
  let room = 0;
  for (const tensor of tensors) {
    const bytes = byteCount(tensor);
    if (bytes > room) {
      shards.push([]);
      room = shardBytes;
    }
    shards.at(-1)?.push(tensor);
    room -= bytes;
  }
  return shards;
}

async function writeWeights(
  dir: string,
  tensors: readonly StreamedTensor[],
  shardBytes: number,
): Promise<void> {
  const total_size = tensors.reduce((sum, tensor) => sum + byteCount(tensor), 0);
  const shards = intoShards(tensors, shardBytes);
  const weight_map: Record<string, string> = {};
  const bar = new cliProgress.SingleBar({ format: 'writing {bar} {value} of {total} MB' });
  bar.start(Math.round(total_size / 1e6), 0);
  let done = 0;
  for (const [index, shard] of shards.entries()) {
    const number = (n: number): string => String(n).padStart(5, '0');
    const file = `model-${number(index + 1)}-of-${number(shards.length)}.safetensors`;
    for (const { name } of shard) weight_map[name] = file;
    const counted = shard.map((tensor) => ({
      ...tensor,
      pieces: async function* () {
        for await (const piece of tensor.pieces()) {
          yield piece;
          done += piece.length;
          bar.update(Math.round(done / 1e6));
        }
      },
    }));
    await streamSafetensors(join(dir, file), counted, { format: 'pt' });
  }
  bar.stop();
  const index = { metadata: { total_size }, weight_map };
  await writeFile(join(dir, WEIGHT_INDEX_FILE), `${JSON.stringify(index, null, 1)}\n`);
}

async function makeModel({ shape, name, target, seed, shardBytes }: Request): Promise<void> {
  if (await stat(target).catch(() => null)) {
    throw new UserError(`${target} exists already: remove it, or choose another --out`);
  }
  const tensors = randomTensors(tensorsOf(configOf(shape, name), shape), shape, seed);
  const partial = `${target}.partial`;
  await rm(partial, { recursive: true, force: true });
  await mkdir(partial, { recursive: true });
  await writeFile(join(partial, 'config.json'), `${JSON.stringify(configJson(shape), null, 2)}\n`);
  for (const file of TOKENIZER_FILES) {
    await copyFile(join(EMBEDDED_MODEL_DIRECTORY, file), join(partial, file));
  }
  await writeWeights(partial, tensors, shardBytes);
  await rename(partial, target);
  const values = tensors.reduce((sum, tensor) => sum + byteCount(tensor) / 2, 0);
  console.log(`${target}: ${shape.layers} layers, ${(values / 1e6).toFixed(1)} M weights`);
}

try {
  await makeModel(readRequest());
} catch (error) {
  if (!(error instanceof UserError)) throw error;
  console.error(error.message);
  process.exitCode = error.exitCode;
}
