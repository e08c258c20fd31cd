/**
 * Weights as AutoGPTQ and GPTQModel save them (Frantar et al. 2023): `qweight` int32 [K / codes in 32 bits, N], the first
 * input lowest; `scales` and `qzeros` for each group of inputs; `g_idx` which group an input is in. A weight is
 * scale x (code - zero point).
 */
import { UserError } from '../../errors.js';
import { decodedRows, type RowSource } from '../row-source.js';
import type { TensorEntry } from '../safetensors.js';
import type { Quantisation } from './method.js';
import { describeQuantisation } from './method.js';
import {
  partOf,
  readFloats,
  readIntegers,
  takeParts,
  type LayerShape,
  type PartIndex,
} from './parts.js';

type Gptq = Extract<Quantisation, { method: 'gptq' }>;

interface Parts {
  readonly codes: TensorEntry;
  readonly zeros: TensorEntry;
  readonly scales: TensorEntry;
  readonly groups: TensorEntry | null;
}

/** Replaces the parts of the layers that are quantised by their weights. Throws UserError. */
export async function findGptq(
  index: PartIndex,
  layers: readonly (LayerShape & { bias: boolean })[],
  method: Gptq,
): Promise<void> {
  for (const layer of layers) {
    if (!index.has(`${layer.name}.qweight`)) continue;
    const parts = findParts(index, layer, method);
    const all = Object.values(parts).filter((part: TensorEntry | null) => part !== null);
    takeParts(index, layer, describeQuantisation(method), all, () =>
      openRows(layer, parts, method),
    );
    if (!layer.bias) await dropZeroBias(index, `${layer.name}.bias`);
  }
}

function findParts(
  index: PartIndex,
  { name, inFeatures, outFeatures }: LayerShape,
  { bits, groupSize }: Gptq,
): Parts {
  const perWord = 32 / bits;
  if (inFeatures % perWord !== 0 || outFeatures % perWord !== 0) {
    throw new UserError(
      `the layer ${name} has ${inFeatures} inputs and ${outFeatures} outputs, which GPTQ cannot hold in words of ${perWord}: config.json and the weights are of different models`,
    );
  }
  const groups = groupSize === 0 ? 1 : Math.ceil(inFeatures / groupSize);
  const hasOrder = index.has(`${name}.g_idx`);
  return {
    codes: partOf(index, `${name}.qweight`, ['I32'], [inFeatures / perWord, outFeatures]),
    zeros: partOf(index, `${name}.qzeros`, ['I32'], [groups, outFeatures / perWord]),
    scales: partOf(index, `${name}.scales`, ['F16', 'BF16', 'F32'], [groups, outFeatures]),
    groups: hasOrder ? partOf(index, `${name}.g_idx`, ['I32'], [inFeatures]) : null,
  };
}

async function openRows(
  { name, inFeatures, outFeatures }: LayerShape,
  parts: Parts,
  { bits, groupSize, zeroOffset }: Gptq,
): Promise<RowSource> {
  const words = await readIntegers(parts.codes);
  const scales = await readFloats(parts.scales);
  const packedZeros = await readIntegers(parts.zeros);
  const size = groupSize === 0 ? inFeatures : groupSize;
  const groups =
    parts.groups === null
      ? Int32Array.from({ length: inFeatures }, (_, k) => Math.floor(k / size))
      : await readIntegers(parts.groups);
  const count = scales.length / outFeatures;
  const bad = groups.find((group) => group < 0 || group >= count);
  if (bad !== undefined) {
    throw new UserError(
      `${parts.codes.file}: ${name}.g_idx names group ${bad} of ${count}: the file is damaged, get it again`,
    );
  }
  const perWord = 32 / bits;
  const mask = 2 ** bits - 1;
  const zeros = Int16Array.from(
    scales,
    (_, i) =>
      ((packedZeros[Math.floor(i / perWord)]! >>> (bits * (i % perWord))) & mask) + zeroOffset,
  );
  return decodedRows((first, values) => {
    const rows = values.length / inFeatures;
    for (let k = 0; k < inFeatures; k++) {
      const shift = bits * (k % perWord);
      const from = Math.floor(k / perWord) * outFeatures + first;
      const group = groups[k]! * outFeatures + first;
      for (let row = 0; row < rows; row++) {
        const code = (words[from + row]! >>> shift) & mask;
        values[row * inFeatures + k] = scales[group + row]! * (code - zeros[group + row]!);
      }
    }
  });
}

/** AutoGPTQ gives every layer a bias, of zeros where the model has none. */
async function dropZeroBias(index: PartIndex, name: string): Promise<void> {
  const entry = index.get(name);
  if (entry === undefined) return;
  const values = await readFloats(entry);
  // Another is found among what the model does not use.
  if (values.every((value) => value === 0)) index.delete(name);
}
