/** Finds a weight of a Llama-family model and checks that it is what the config promises. */
import type { WeightSource } from '../engine/graph.js';
import { UserError } from '../errors.js';
import type { WeightIndex } from './safetensors.js';

/** The weight `name` as a leaf of the graph. Throws UserError when missing, mis-shaped or of another dtype. */
export function findWeight(
  weights: WeightIndex,
  name: string,
  shape: readonly number[],
): WeightSource {
  const entry = weights.get(name);
  const expected = `[${shape.join(', ')}]`;
  if (entry === undefined) {
    throw new UserError(
      `the model has no weight ${name}, which its config expects with shape ${expected}: get the model again`,
    );
  }
  const { dtype, file, offset, length } = entry;
  if (entry.shape.length !== shape.length || entry.shape.some((n, axis) => n !== shape[axis])) {
    throw new UserError(
      `weight ${name} in ${file} has shape [${entry.shape.join(', ')}], but the model's config expects ${expected}: config.json and the weights are of different models`,
    );
  }
  if (dtype !== 'F32' && dtype !== 'F16' && dtype !== 'BF16') {
    throw new UserError(
      `weight ${name} in ${file} is of type ${dtype}, but only F32, F16 and BF16 can be loaded: convert the model`,
    );
  }
  return { name, shape, storage: dtype, file, offset, length };
}
