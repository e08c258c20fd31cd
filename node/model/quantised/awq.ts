/**
 * Weights as AutoAWQ saves them in its GEMM order (Lin et al. 2024): `qweight` int32 [K, N / 8], `scales` and `qzeros` for
 * each group of inputs. A weight is scale x (code - zero point).
 */
import { UserError } from '../../errors.js';
import { decodedRows, type RowSource } from '../row-source.js';
import type { TensorEntry } from '../safetensors.js';
import { describeQuantisation, type Quantisation } from './method.js';
import {
  partOf,
  readFloats,
  readIntegers,
  takeParts,
  type LayerShape,
  type PartIndex,
} from './parts.js';

type Awq = Extract<Quantisation, { method: 'awq' }>;

/** Which of the eight half bytes of a word, from the lowest, an output has. */
const HALVES = [0, 4, 1, 5, 2, 6, 3, 7] as const;

interface Parts {
  readonly codes: TensorEntry;
  readonly zeros: TensorEntry;
  readonly scales: TensorEntry;
}

/** Replaces the parts of the layers that are quantised by their weights. Throws UserError. */
export function findAwq(index: PartIndex, layers: readonly LayerShape[], method: Awq): void {
  for (const layer of layers) {
    const { name, inFeatures, outFeatures } = layer;
    if (!index.has(`${name}.qweight`)) continue;
    const size = method.groupSize === 0 ? inFeatures : method.groupSize;
    if (outFeatures % 8 !== 0 || inFeatures % size !== 0) {
      throw new UserError(
        `the layer ${name} has ${inFeatures} inputs and ${outFeatures} outputs, which AWQ cannot hold in groups of ${size} and words of 8: config.json and the weights are of different models`,
      );
    }
    const words = outFeatures / 8;
    const groups = inFeatures / size;
    const parts: Parts = {
      codes: partOf(index, `${name}.qweight`, ['I32'], [inFeatures, words]),
      zeros: partOf(index, `${name}.qzeros`, ['I32'], [groups, words]),
      scales: partOf(index, `${name}.scales`, ['F16', 'BF16', 'F32'], [groups, outFeatures]),
    };
    const all = [parts.codes, parts.zeros, parts.scales];
    takeParts(index, layer, describeQuantisation(method), all, () => openRows(layer, parts, size));
  }
}

async function openRows(
  { inFeatures, outFeatures }: LayerShape,
  parts: Parts,
  groupSize: number,
): Promise<RowSource> {
  const words = await readIntegers(parts.codes);
  const packedZeros = await readIntegers(parts.zeros);
  const scales = await readFloats(parts.scales);
  const zeros = Uint8Array.from(scales, (_, i) => halfOf(packedZeros, i));
  return decodedRows((first, values) => {
    const rows = values.length / inFeatures;
    for (let k = 0; k < inFeatures; k++) {
      const from = k * outFeatures + first;
      const group = Math.floor(k / groupSize) * outFeatures + first;
      for (let row = 0; row < rows; row++) {
        const code = halfOf(words, from + row);
        values[row * inFeatures + k] = scales[group + row]! * (code - zeros[group + row]!);
      }
    }
  });
}

/** The half byte of number `index` of a row-major matrix whose rows are whole words. */
function halfOf(words: Int32Array, index: number): number {
  return (words[Math.floor(index / 8)]! >>> (4 * HALVES[index % 8]!)) & 15;
}
