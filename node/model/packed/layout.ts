/** What a packed copy of a model holds, and where in its file: it follows from the config and the headers alone. */
import type { WeightScales } from '../../engine/graph.js';
import type { ModelConfig } from '../config.js';
import { UserError } from '../../errors.js';
import { decoderOf } from '../families.js';
import type { LinearLayer } from '../family.js';
import type { ModelDirectory } from '../model-directory.js';
import { findWeight } from '../parameters.js';
import { asPlain } from '../quantised/open.js';
import { DTYPE_BYTES, type TensorEntry, type WeightIndex } from '../safetensors.js';
import { EMBEDDINGS, HEAD } from '../unread-weights.js';
import type { WeightFormat } from '../weight-format.js';

/** A multiple of the pages of most systems, so that no page is mapped for two tensors. */
const ALIGNMENT = 16_384;
/** Values that share a scale of 4 bits: fewer in small models, which lose more by coarse ones. */
const BLOCK = 64;
const BLOCK_OF_SMALL = 32;
const SMALL_HIDDEN_SIZE = 2048;

/** The largest 8-bit code: 127, or 63 for processors whose sums of 8-bit products saturate. */
export type LargestCode = 127 | 63;

export type PackedFormat = Exclude<WeightFormat, 'fp32'>;

/** One tensor of a copy. */
export interface PackedTensor {
  /** In the index of weights. */
  readonly name: string;
  readonly dtype: 'I8' | 'I4' | 'BF16';
  /** Codes: [out, in]; bfloat16: as the source. */
  readonly shape: readonly [rows: number, width: number];
  readonly source: TensorEntry;
  /** The source is [in, out], and the codes are not. */
  readonly isTurned: boolean;
  /** Bytes from the start of the file. */
  readonly offset: number;
  readonly length: number;
  readonly scales?: Omit<WeightScales, 'file'>;
}

export interface PackedLayout {
  readonly format: PackedFormat;
  readonly largestCode: LargestCode;
  /** In the order of the file. */
  readonly tensors: readonly PackedTensor[];
  /** Of the whole file. */
  readonly bytes: number;
}

/** What decides a layout. */
export type PackedModel = Pick<ModelDirectory, 'config' | 'weights'>;

/**
 * The copy that `format` needs; null where the model's files are enough: for fp32, and for bf16 where all of them have 16
 * bits. Throws UserError for a weight that is missing, of another shape or of another type than F32, F16 and BF16, and for
 * fp32 of weights that others have quantised.
 */
export function packedLayout(
  model: PackedModel,
  format: WeightFormat,
  largestCode: LargestCode = 127,
): PackedLayout | null {
  if (format === 'fp32') {
    const method = quantisationIn(model.weights);
    if (method === null) return null;
    throw new UserError(
      `the model's weights are quantised (${method}), and are computed with as a copy only: choose --weights int8, int4 or bf16`,
    );
  }
  const file = new FileLayout();
  if (format === 'bf16') layOutHalves(model, file);
  else layOutCodes(model, format, file);
  const { tensors, bytes } = file;
  return tensors.length === 0 ? null : { format, largestCode, tensors, bytes };
}

/** How others have quantised the weights, for people; null for plain numbers, for which any format will do. */
export function quantisationIn(weights: WeightIndex): string | null {
  for (const { quantised } of weights.values()) if (quantised !== undefined) return quantised.what;
  return null;
}

/** `weights` with the tensors of a copy that lies at `file` instead of those that it was made of. */
export function packedIndex(
  weights: WeightIndex,
  { tensors }: PackedLayout,
  file: string,
): WeightIndex {
  const index = new Map(weights);
  for (const { name, dtype, shape, offset, length, scales } of tensors) {
    const entry = { name, dtype, shape, file, offset, length };
    index.set(name, scales === undefined ? entry : { ...entry, scales: { file, ...scales } });
  }
  return index;
}

class FileLayout {
  readonly tensors: PackedTensor[] = [];
  bytes = 0;

  add(
    tensor: Pick<PackedTensor, 'name' | 'dtype' | 'shape' | 'source' | 'isTurned'>,
    block = 0,
  ): void {
    const [rows, width] = tensor.shape;
    const length = rows * width * DTYPE_BYTES[tensor.dtype];
    const offset = this.#place(length);
    if (block === 0) {
      this.tensors.push({ ...tensor, offset, length });
      return;
    }
    const scalesLength = 4 * rows * Math.ceil(width / block);
    const scales = { offset: this.#place(scalesLength), length: scalesLength, block };
    this.tensors.push({ ...tensor, offset, length, scales });
  }

  #place(length: number): number {
    const offset = Math.ceil(this.bytes / ALIGNMENT) * ALIGNMENT;
    this.bytes = offset + length;
    return offset;
  }
}

/** Linear layers, and the output table as int8 whatever the format: its errors reach the logits as they are. */
function layOutCodes(
  { config, weights }: PackedModel,
  format: 'int8' | 'int4',
  file: FileLayout,
): void {
  const most = config.hiddenSize < SMALL_HIDDEN_SIZE ? BLOCK_OF_SMALL : BLOCK;
  for (const layer of decoderOf(config).layers) {
    const { outFeatures: rows, inFeatures: width, transposed: isTurned } = layer;
    const source = sourceOf(weights, layer);
    const tensor = { name: source.name, shape: [rows, width] as const, source, isTurned };
    // A row of an odd number of half bytes would end within a byte.
    const isHalf = format === 'int4' && width % 2 === 0 && `${layer.name}.weight` !== HEAD;
    if (isHalf) file.add({ ...tensor, dtype: 'I4' }, Math.min(most, width));
    else file.add({ ...tensor, dtype: 'I8' }, width);
  }
  if (config.tieWordEmbeddings) file.add(tiedHead(config, weights), config.hiddenSize);
  for (const source of embeddings(weights)) {
    if (source.quantised !== undefined) addHalves(file, source);
  }
}

/** The embeddings as the output layer reads them. */
function tiedHead(
  { vocabSize, hiddenSize }: ModelConfig,
  weights: WeightIndex,
): Parameters<FileLayout['add']>[0] {
  const name = EMBEDDINGS.find((one) => weights.has(one)) ?? EMBEDDINGS[0]!;
  const shape = [vocabSize, hiddenSize] as const;
  checkWeight(weights, name, shape);
  return { name: HEAD, dtype: 'I8', shape, source: weights.get(name)!, isTurned: false };
}

/** What has more than 16 bits of linear layers and embeddings. */
function layOutHalves({ config, weights }: PackedModel, file: FileLayout): void {
  const sources = decoderOf(config).layers.map((layer) => sourceOf(weights, layer));
  for (const source of [...sources, ...embeddings(weights)]) {
    const isWide = source.dtype === 'F32' || source.quantised !== undefined;
    if (isWide) addHalves(file, source);
  }
}

function embeddings(weights: WeightIndex): TensorEntry[] {
  return EMBEDDINGS.flatMap((name) => weights.get(name) ?? []);
}

function addHalves(file: FileLayout, source: TensorEntry): void {
  const shape = source.shape as [number, number];
  file.add({ name: source.name, dtype: 'BF16', shape, source, isTurned: false });
}

/** Throws UserError as findWeight, but for a quantised weight. */
function checkWeight(weights: WeightIndex, name: string, shape: readonly number[]): void {
  const entry = weights.get(name);
  findWeight(new Map(entry && [[name, asPlain(entry)]]), name, shape);
}

function sourceOf(
  weights: WeightIndex,
  { name, inFeatures, outFeatures, transposed }: LinearLayer,
): TensorEntry {
  const shape = transposed ? [inFeatures, outFeatures] : [outFeatures, inFeatures];
  const full = `${name}.weight`;
  // Checkpoints of GPT-2 without its output layer have no prefix.
  const short = full.replace(/^transformer\./, '');
  const found = weights.has(full) ? full : weights.has(short) ? short : full;
  checkWeight(weights, found, shape);
  return weights.get(found)!;
}
