/** The weights of a checkpoint that others have quantised, each as rows of float32 that packing reads. */
import { UserError } from '../../errors.js';
import type { ModelConfig } from '../config.js';
import { decoderOf } from '../families.js';
import type { TensorEntry, WeightIndex } from '../safetensors.js';
import { findAwq } from './awq.js';
import { findBitsandbytes } from './bitsandbytes.js';
import { findGptq } from './gptq.js';
import { describeQuantisation, type Quantisation } from './method.js';

/** `weights` with the quantised linear layers under the names that their weights have in other models. Throws UserError. */
export async function joinQuantised(
  config: ModelConfig,
  weights: WeightIndex,
  quantisation: Quantisation,
): Promise<WeightIndex> {
  const index = new Map(weights);
  const { layers } = decoderOf(config);
  if (layers.some(({ transposed }) => transposed)) {
    throw new UserError(
      `a quantised ${config.architecture} (${describeQuantisation(quantisation)}) is not read: take the model without quantisation`,
    );
  }
  if (quantisation.method === 'bitsandbytes') await findBitsandbytes(index, layers);
  else if (quantisation.method === 'gptq') await findGptq(index, layers, quantisation);
  else findAwq(index, layers, quantisation);
  return index;
}

/** An entry of the same shape as plain numbers would have: for graphs that are looked at and never compiled. */
export function asPlain(entry: TensorEntry): TensorEntry {
  if (entry.quantised === undefined) return entry;
  const { name, shape, file } = entry;
  const length = 2 * shape.reduce((product, n) => product * n, 1);
  return { name, shape, file, dtype: 'BF16', offset: 0, length };
}
