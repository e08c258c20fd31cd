/** The weights of a model in another format, as a packer would write them, and in the numbers that those stand for. */
import type { WeightStorage } from '../../node/engine/storage.js';
import type { ModelConfig } from '../../node/model/config.js';
import { decoderOf } from '../../node/model/families.js';
import { readTensorF32, type TensorEntry, type WeightIndex } from '../../node/model/safetensors.js';
import type { WeightFormat } from '../../node/model/weight-format.js';
import { storeMatrix, type CodeOptions, type StoredMatrix } from './stored-weights.js';

/** A model twice: as a graph reads it in a format, and as float32 that is equal to it. */
export interface PackedModel {
  readonly weights: WeightIndex;
  /** Of `floatConfig`, whose output layer is a weight of its own where the packed one is. */
  readonly floats: WeightIndex;
  readonly floatConfig: ModelConfig;
}

/** All matrices rounded to 16 bits; for int8 and int4 those of linear layers and the output table are codes. */
export async function packModel(
  dir: string,
  config: ModelConfig,
  weights: WeightIndex,
  format: Exclude<WeightFormat, 'fp32'>,
  options: CodeOptions = {},
): Promise<PackedModel> {
  const packed = new Map<string, TensorEntry>();
  const floats = new Map<string, TensorEntry>();
  const put = async (
    name: string,
    from: TensorEntry,
    storage: WeightStorage,
    isTurned: boolean,
  ) => {
    const data = await readTensorF32(from);
    const [rows, columns] = from.shape as [number, number];
    const matrix = isTurned
      ? storeMatrix(dir, storage, [columns, rows], turned(data, rows, columns), options)
      : storeMatrix(dir, storage, [rows, columns], data, options);
    packed.set(name, entryOf(name, matrix));
    const known = isTurned ? turned(matrix.known, columns, rows) : matrix.known;
    floats.set(name, entryOf(name, storeMatrix(dir, 'F32', [rows, columns], known)));
  };
  const layers = new Map(decoderOf(config).layers.map((layer) => [`${layer.name}.weight`, layer]));
  const bare = (name: string): string => name.replace(/^transformer\./, '');
  const layerOf = new Map([...layers].map(([name, layer]) => [bare(name), layer]));
  for (const [name, entry] of weights) {
    if (entry.shape.length !== 2) {
      packed.set(name, entry);
      floats.set(name, entry);
      continue;
    }
    const layer = layerOf.get(bare(name));
    if (format === 'bf16' || layer === undefined) await put(name, entry, 'BF16', false);
    else if (layer.name === 'lm_head') await put(name, entry, 'INT8', false);
    else await put(name, entry, format === 'int8' ? 'INT8' : 'INT4', layer.transposed);
  }
  if (format === 'bf16' || !config.tieWordEmbeddings) {
    return { weights: packed, floats, floatConfig: config };
  }
  const embedding = ['model.embed_tokens.weight', 'wte.weight', 'transformer.wte.weight']
    .map((name) => packed.get(name))
    .find((entry) => entry !== undefined)!;
  await put('lm_head.weight', embedding, 'INT8', false);
  return { weights: packed, floats, floatConfig: { ...config, tieWordEmbeddings: false } };
}

function entryOf(name: string, { source }: StoredMatrix): TensorEntry {
  const { storage, shape, file, offset, length, scales } = source;
  const dtype = storage === 'INT8' ? 'I8' : storage === 'INT4' ? 'I4' : storage;
  return { name, dtype, shape, file, offset, length, ...(scales && { scales }) };
}

/** [rows, columns] -> [columns, rows]. */
function turned(data: Float32Array, rows: number, columns: number): Float32Array {
  return Float32Array.from(data, (_, i) => data[(i % rows) * columns + Math.floor(i / rows)]!);
}
