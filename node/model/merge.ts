/** Writes a model with its adapter merged, W + (alpha / r) B A, as a Hugging Face directory that needs no adapter. */
import { copyFile, readdir, readFile, writeFile } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { adapterLayout } from '../../protocol/adapter.js';
import { WEIGHT_INDEX_FILE } from '../../protocol/model-files.js';
import { decodeFloats, STORAGE_BYTES, type FloatStorage } from '../engine/storage.js';
import { EXIT_USAGE, UserError } from '../errors.js';
import { errnoOf, replaceFile } from '../files.js';
import { refuseNotFinite } from './finite.js';
import type { ModelConfig } from './config.js';
import { encodeFloats } from './encode-floats.js';
import { decoderOf } from './families.js';
import type { LinearLayer } from './family.js';
import { checkAdapter, type AdapterShape } from './lora.js';
import {
  readTensorPieces,
  streamSafetensors,
  type Dtype,
  type StreamedTensor,
  type TensorEntry,
  type WeightIndex,
} from './safetensors.js';
import { writeWholeDirectory } from './whole-directory.js';

/** Formats that merged weights can be stored in. */
export const MERGED_DTYPES = { fp32: 'F32', fp16: 'F16', bf16: 'BF16' } as const;
export type MergedDtype = keyof typeof MERGED_DTYPES;
/** What Transformers calls them. */
const TORCH_NAMES = { F32: 'float32', F16: 'float16', BF16: 'bfloat16' } as const;

/** Bytes of a tensor that are in memory at one time, before they are decoded. */
const PIECE_BYTES = 16 * 1024 * 1024;

export interface MergeOptions {
  /** The base model. */
  dir: string;
  config: ModelConfig;
  weights: WeightIndex;
  adapter: AdapterShape;
  /** [adapterSize] float32. */
  theta: Float32Array;
  /** What is stored; null for the type that each weight of the base has. */
  dtype: MergedDtype | null;
  /** Told of bytes of the base that are done, and of all. */
  onProgress: (done: number, total: number) => void;
  signal: AbortSignal;
}

/**
 * Writes `target`, which must not exist: weights in the same files as the base's, and the base's config, tokenizer
 * and templates. It appears whole or not at all. Throws UserError: a directory that is there, an adapter that does
 * not fit, a value that the format cannot hold, a disk that refuses; rejects with `signal.reason`.
 */
export async function writeMergedModel(target: string, options: MergeOptions): Promise<void> {
  checkAdapter(options.config, options.adapter);
  refuseNotFinite(options.theta, 'the adapter to merge', 'train it again, or merge another');
  refuseOtherFiles(options.weights);
  const place = resolve(target);
  await refuseExisting(place);
  try {
    await writeWholeDirectory(place, async (dir) => {
      await writeWeights(dir, options);
      await copyRest(options.dir, dir, options.dtype);
    });
  } catch (cause) {
    const code = errnoOf(cause);
    if (cause instanceof UserError || code === null) throw cause;
    throw new UserError(
      `${target} cannot be written (${code}): check that the folder may be written and has room`,
      undefined,
      { cause },
    );
  }
}

/** Throws UserError for weights that cannot be written as what they are. */
function refuseOtherFiles(weights: WeightIndex): void {
  for (const { name, file, quantised } of weights.values()) {
    if (quantised === undefined && file.endsWith('.safetensors')) continue;
    const what = quantised === undefined ? 'GGUF' : quantised.what;
    throw new UserError(
      `${file}: the weight ${name} is ${what}, and an adapter is merged into plain numbers in safetensors only: merge it into the model that this was made of`,
    );
  }
}

async function refuseExisting(place: string): Promise<void> {
  try {
    await readdir(place);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return;
  }
  throw new UserError(`${place} is there already: give a directory that is not`, EXIT_USAGE);
}

/** What is added to one weight as the file holds it: scale times left [rows, r] times right [r, columns]. */
interface Delta {
  scale: number;
  left: Float32Array;
  right: Float32Array;
  rank: number;
}

async function writeWeights(dir: string, options: MergeOptions): Promise<void> {
  const { weights, dtype, onProgress, signal } = options;
  const deltas = deltasOf(options);
  const total = [...weights.values()].reduce((sum, { length }) => sum + length, 0);
  let done = 0;
  const files = new Map<string, TensorEntry[]>();
  for (const entry of weights.values()) {
    files.set(entry.file, [...(files.get(entry.file) ?? []), entry]);
  }
  const sizes = new Map<string, number>();
  for (const [file, entries] of files) {
    entries.sort((a, b) => a.offset - b.offset);
    const tensors = entries.map((entry): StreamedTensor => {
      const storage = storageOf(entry, dtype);
      sizes.set(
        entry.name,
        (entry.length / bytesOf(entry)) *
          (storage === null ? bytesOf(entry) : STORAGE_BYTES[storage]),
      );
      return {
        name: entry.name,
        shape: entry.shape,
        dtype: storage ?? plainDtype(entry),
        async *pieces() {
          for await (const { bytes, read } of mergedPieces(
            entry,
            storage,
            deltas.get(entry.name),
          )) {
            signal.throwIfAborted();
            yield bytes;
            done += read;
            onProgress(done, total);
          }
        },
      };
    });
    await streamSafetensors(join(dir, basename(file)), tensors, { format: 'pt' });
  }
  if (files.size === 1) return;
  const names = [...weights].map(([name, { file }]) => [name, basename(file)] as const);
  const size = [...sizes.values()].reduce((sum, bytes) => sum + bytes, 0);
  const index = { metadata: { total_size: size }, weight_map: Object.fromEntries(names) };
  await replaceFile(join(dir, WEIGHT_INDEX_FILE), [`${JSON.stringify(index, null, 2)}\n`]);
}

function bytesOf({ length, shape }: TensorEntry): number {
  return (
    length /
    Math.max(
      1,
      shape.reduce((product, n) => product * n, 1),
    )
  );
}

function plainDtype({ name, dtype }: TensorEntry): Dtype {
  if (dtype !== 'QUANTISED') return dtype;
  throw new RangeError(`${name} is no tensor of a file`);
}

/** What the weight becomes; null for what is copied as it is: integers and masks. */
function storageOf({ dtype }: TensorEntry, asked: MergedDtype | null): FloatStorage | null {
  if (dtype !== 'F32' && dtype !== 'F16' && dtype !== 'BF16') return null;
  return asked === null ? dtype : MERGED_DTYPES[asked];
}

/** By the name of the weight in the files. */
function deltasOf({ config, weights, adapter, theta }: MergeOptions): Map<string, Delta> {
  const layers = new Map(decoderOf(config).layers.map((layer) => [layer.name, layer]));
  const scale = adapter.alpha / adapter.rank;
  const factors = new Map<string, { A?: Float32Array; B?: Float32Array }>();
  for (const { module, factor, offset, length } of adapterLayout(adapter).tensors) {
    const values = theta.subarray(offset, offset + length);
    factors.set(module, { ...factors.get(module), [factor]: values });
  }
  const deltas = new Map<string, Delta>();
  for (const [module, { A, B }] of factors) {
    const layer = layers.get(module)!;
    const { rank } = adapter;
    const [left, right] = layer.transposed
      ? [transpose(A!, layer.inFeatures), transpose(B!, rank)]
      : [B!, A!];
    deltas.set(weightName(layer, weights), { left, right, rank, scale });
  }
  return deltas;
}

/** Name of the layer's weight in the files: published checkpoints of GPT-2 leave out a prefix. */
function weightName(
  { name, inFeatures, outFeatures, transposed }: LinearLayer,
  weights: WeightIndex,
): string {
  const names = [`${name}.weight`, `${name.replace(/^transformer\./, '')}.weight`];
  const found = names.find((candidate) => weights.has(candidate));
  const shape = transposed ? [inFeatures, outFeatures] : [outFeatures, inFeatures];
  if (found !== undefined && weights.get(found)!.shape.join() === shape.join()) return found;
  throw new UserError(
    `the model has no weight ${names[0]} of shape [${shape.join(', ')}]: config.json and the weights are of different models`,
  );
}

/** [rows, columns] -> [columns, rows]. */
function transpose(values: Float32Array, columns: number): Float32Array {
  const rows = values.length / columns;
  return values.map((_, i) => values[(i % rows) * columns + Math.floor(i / rows)]!);
}

async function* mergedPieces(
  entry: TensorEntry,
  storage: FloatStorage | null,
  delta: Delta | undefined,
): AsyncGenerator<{ bytes: Uint8Array; read: number }> {
  const { dtype, shape } = entry;
  const columns = shape.at(-1) ?? 1;
  const unit = columns * bytesOf(entry);
  let row = 0;
  for await (const bytes of readTensorPieces(entry, unit, PIECE_BYTES)) {
    const isUnchanged = delta === undefined && storage === dtype;
    if (storage === null || isUnchanged) {
      yield { bytes, read: bytes.length };
      continue;
    }
    const values = decodeFloats(bytes, dtype as FloatStorage);
    if (delta !== undefined) addDelta(values, columns, row, delta);
    row += values.length / columns;
    const encoded = encodeFloats(values, storage);
    if (encoded === null) {
      throw new UserError(
        `weight ${entry.name} has a value that ${TORCH_NAMES[storage]} cannot hold: give another --dtype, like bf16 or fp32`,
      );
    }
    yield { bytes: encoded, read: bytes.length };
  }
}

/** Adds rows `first` on of left times right to values: [any, columns]. Sums are in double precision. */
function addDelta(
  values: Float32Array,
  columns: number,
  first: number,
  { left, right, rank, scale }: Delta,
): void {
  const sums = new Float64Array(columns);
  for (let row = 0; row * columns < values.length; row++) {
    sums.fill(0);
    for (let k = 0; k < rank; k++) {
      const factor = left[(first + row) * rank + k]!;
      const start = k * columns;
      for (let i = 0; i < columns; i++) sums[i]! += factor * right[start + i]!;
    }
    for (let i = 0; i < columns; i++) values[row * columns + i]! += scale * sums[i]!;
  }
}

/** What belongs to a model beside its weights. */
const COMPANIONS = /\.(json|jinja|model|txt)$|^(LICEN[CS]E|NOTICE)/;
/**
 * What would make others look for files that are not there: with an adapter's config Transformers loads that adapter's
 * base instead, and an index names weight files.
 */
const NOT_OF_MERGED = /^adapter_.*\.json$|\.index\.json$|^trainer_state\.json$/;

async function copyRest(from: string, to: string, dtype: MergedDtype | null): Promise<void> {
  const entries = await readdir(from, { withFileTypes: true });
  for (const entry of entries) {
    const isCompanion = COMPANIONS.test(entry.name) && !NOT_OF_MERGED.test(entry.name);
    if (entry.isDirectory() || !isCompanion) continue;
    const [source, target] = [join(from, entry.name), join(to, entry.name)];
    if (entry.name === 'config.json' && dtype !== null) {
      await writeFile(target, withDtype(await readFile(source, 'utf8'), dtype));
    } else await copyFile(source, target);
  }
}

/** The config with the type of its weights named as Transformers does, in the field that its version has. */
function withDtype(text: string, dtype: MergedDtype): string {
  const config = JSON.parse(text) as Record<string, unknown>;
  const field = 'torch_dtype' in config ? 'torch_dtype' : 'dtype';
  return `${JSON.stringify({ ...config, [field]: TORCH_NAMES[MERGED_DTYPES[dtype]] }, null, 2)}\n`;
}
