/**
 * Weights in 4 bits as bitsandbytes saves them: NF4 or FP4 (Dettmers et al. 2023), each code an entry of a table of 16,
 * times the largest size of its block; these may be 8-bit codes themselves (double quantisation). What is computed is
 * bitsandbytes' functional.dequantize_4bit in float32, without its last rounding to 16 bits.
 */
import { z } from 'zod';
import { UserError } from '../../errors.js';
import { parseJson } from '../../json-file.js';
import { decodedRows, type RowSource } from '../row-source.js';
import type { TensorEntry } from '../safetensors.js';
import {
  openFile,
  partOf,
  readFloats,
  readFully,
  readPart,
  takeParts,
  type LayerShape,
  type PartIndex,
} from './parts.js';

/** Bytes of a quant_state: real ones have 200. */
const STATE_BYTES_MAX = 64 * 1024;

const blockSize = z
  .int()
  .min(1)
  .max(1 << 20);
const stateSchema = z.looseObject({
  quant_type: z.enum(['nf4', 'fp4'], { error: 'but must be nf4 or fp4' }),
  blocksize: blockSize,
  shape: z.array(z.int()).length(2),
  nested_blocksize: blockSize.optional(),
  nested_offset: z.number().optional(),
});
type State = z.infer<typeof stateSchema>;

interface Parts {
  readonly state: State;
  readonly codes: TensorEntry;
  readonly table: TensorEntry;
  readonly largest: TensorEntry;
  readonly nested: { readonly table: TensorEntry; readonly largest: TensorEntry } | null;
}

/** Replaces the parts of the layers that are quantised by their weights. Throws UserError. */
export async function findBitsandbytes(
  index: PartIndex,
  layers: readonly LayerShape[],
): Promise<void> {
  for (const layer of layers) {
    const weight = `${layer.name}.weight`;
    const states = ['nf4', 'fp4'].map((type) => `${weight}.quant_state.bitsandbytes__${type}`);
    const stateName = states.find((name) => index.has(name));
    if (stateName === undefined) continue;
    const stateEntry = partOf(index, stateName, ['U8']);
    const parts = await findParts(index, layer, stateEntry);
    const { codes, table, largest, nested, state } = parts;
    const all = [
      codes,
      table,
      largest,
      stateEntry,
      ...(nested ? [nested.table, nested.largest] : []),
    ];
    const what = `bitsandbytes ${state.quant_type.toUpperCase()}`;
    takeParts(index, layer, what, all, () => openRows(layer, parts));
  }
}

async function findParts(
  index: PartIndex,
  { name, inFeatures, outFeatures }: LayerShape,
  stateEntry: TensorEntry,
): Promise<Parts> {
  const weight = `${name}.weight`;
  if (stateEntry.length > STATE_BYTES_MAX) {
    throw new UserError(
      `${stateEntry.file}: tensor ${stateEntry.name} has ${stateEntry.length} bytes, more than the ${STATE_BYTES_MAX} of a quant_state: the file is damaged, get it again`,
    );
  }
  const source = `${stateEntry.name} in ${stateEntry.file}`;
  const state = parseJson(await readPart(stateEntry), source, stateSchema);
  if (state.shape[0] !== outFeatures || state.shape[1] !== inFeatures) {
    throw new UserError(
      `${source} says that the weight has shape [${state.shape.join(', ')}], but the model's config expects [${outFeatures}, ${inFeatures}]: config.json and the weights are of different models`,
    );
  }
  const count = outFeatures * inFeatures;
  const blocks = Math.ceil(count / state.blocksize);
  const isNested = index.has(`${weight}.nested_absmax`);
  const { nested_blocksize: nestedBlock } = state;
  if (isNested && (nestedBlock === undefined || state.nested_offset === undefined)) {
    throw new UserError(`${source} lacks nested_blocksize or nested_offset: get the file again`);
  }
  return {
    state,
    codes: partOf(index, weight, ['U8'], [Math.ceil(count / 2), 1]),
    table: partOf(index, `${weight}.quant_map`, ['F32'], [16]),
    largest: partOf(index, `${weight}.absmax`, [isNested ? 'U8' : 'F32'], [blocks]),
    nested: isNested
      ? {
          table: partOf(index, `${weight}.nested_quant_map`, ['F32'], [256]),
          largest: partOf(
            index,
            `${weight}.nested_absmax`,
            ['F32'],
            [Math.ceil(blocks / nestedBlock!)],
          ),
        }
      : null,
  };
}

async function openRows({ inFeatures }: LayerShape, parts: Parts): Promise<RowSource> {
  const { codes, state } = parts;
  const table = await readFloats(parts.table);
  const largest = await largestSizes(parts);
  const handle = await openFile(codes.file);
  const decode = async (first: number, values: Float32Array): Promise<void> => {
    const start = first * inFeatures;
    const firstByte = Math.floor(start / 2);
    const bytes = new Uint8Array(Math.ceil((start + values.length) / 2) - firstByte);
    await readFully(handle, codes.file, bytes, codes.offset + firstByte);
    for (let i = 0; i < values.length; i++) {
      const at = start + i;
      const byte = bytes[Math.floor(at / 2) - firstByte]!;
      // The first of two is in the high half.
      const code = at % 2 === 0 ? byte >> 4 : byte & 15;
      values[i] = table[code]! * largest[Math.floor(at / state.blocksize)]!;
    }
  };
  return decodedRows(decode, () => handle.close());
}

async function largestSizes({ state, largest, nested }: Parts): Promise<Float32Array> {
  if (nested === null) return readFloats(largest);
  const codes = await readPart(largest);
  const table = await readFloats(nested.table);
  const blocks = await readFloats(nested.largest);
  const offset = Math.fround(state.nested_offset!);
  return Float32Array.from(
    codes,
    (code, i) =>
      Math.fround(table[code]! * blocks[Math.floor(i / state.nested_blocksize!)]!) + offset,
  );
}
