/**
 * Error feedback (Seide et al. 2014; Karimireddy et al. 1901.09847): what compression holds back is
 * added to the next delta.   E <- beta E + D;  q = Q(E[s]);  E[s] -= q
 */
import { TILE_COORDINATES } from './kernel.js';
import type { Prng } from './prng.js';
import { emptyBody, type Quantised } from './quantise.js';
import { gatherTile, scatterTile, type Slice } from './slice.js';
import { fastestKernel } from './wasm-kernel.js';

/** residual <- beta x residual + delta, both [adapterSize] float64; `residual` is changed in place. */
export function accumulate(residual: Float64Array, delta: Float64Array, beta: number): void {
  for (let i = 0; i < residual.length; i++) {
    residual[i] = beta * (residual[i] ?? 0) + (delta[i] ?? 0);
  }
}

/** Quantises the slice of `residual` and subtracts, in place, exactly what receivers will read. */
export function takeSlice(
  residual: Float64Array,
  slice: Slice,
  random: Prng,
  kernel = fastestKernel(),
): Quantised {
  const out = emptyBody(slice);
  const { blocks, blockSize, coordinates } = slice;
  const tileBlocks = Math.floor(TILE_COORDINATES / blockSize);
  const tile = new Float64Array(tileBlocks * blockSize);
  for (let block = 0; block < blocks.length; block += tileBlocks) {
    const length = Math.min(tile.length, coordinates - block * blockSize);
    const values = tile.subarray(0, length);
    gatherTile(residual, slice, block, values);
    kernel.take(values, slice, random, out, block);
    scatterTile(residual, slice, block, values);
  }
  return out;
}

/** Adds what receivers read of an update that came to nothing, so that it is sent again; in place. */
export function addUpdate(residual: Float64Array, slice: Slice, quantised: Quantised): void {
  scatterAdd(residual, slice, dequantise(quantised, slice), 1);
}

/** L2 norm of `vector`, summed in order. */
export function norm(vector: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < vector.length; i++) {
    const value = vector[i] ?? 0;
    sum += value * value;
  }
  return Math.sqrt(sum);
}
