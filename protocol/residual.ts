/**
 * Error feedback (Seide et al. 2014; Karimireddy et al. 1901.09847): what compression holds back is
 * added to the next delta.   E <- beta E + D;  q = Q(E[s]);  E[s] -= q
 */
import { TILE_COORDINATES } from './kernel.js';
import type { Prng } from './prng.js';
import { emptyBody, type Quantised } from './quantise.js';
import { gatherTile, scatterAdd, scatterTile, type Slice, type Vector } from './slice.js';
import { fastestKernel } from './wasm-kernel.js';

/** residual <- beta x residual + delta; `residual` is changed in place. */
export function accumulate(residual: Vector, delta: Float64Array, beta: number): void {
  for (let i = 0; i < residual.length; i++) {
    residual[i] = beta * (residual[i] ?? 0) + (delta[i] ?? 0);
  }
}

/** residual <- beta x residual + scale x (from - to): accumulate() without an array for the delta. */
export function accumulateMove(
  residual: Vector,
  move: { from: Float32Array; to: Float32Array; scale: number },
  beta: number,
): void {
  const { from, to, scale } = move;
  for (let i = 0; i < residual.length; i++) {
    residual[i] = beta * (residual[i] ?? 0) + scale * ((from[i] ?? 0) - (to[i] ?? 0));
  }
}

/** Quantises the slice of `residual` and subtracts, in place, exactly what receivers will read. */
export function takeSlice(
  residual: Vector,
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
export function addUpdate(residual: Vector, slice: Slice, quantised: Quantised): void {
  const { blocks, blockSize, coordinates } = slice;
  const tileBlocks = Math.floor(TILE_COORDINATES / blockSize);
  const tile = new Float64Array(tileBlocks * blockSize);
  const kernel = fastestKernel();
  for (let block = 0; block < blocks.length; block += tileBlocks) {
    const length = Math.min(tile.length, coordinates - block * blockSize);
    const values = tile.subarray(0, length);
    kernel.decode(quantised, slice, block, values);
    scatterAdd(residual, slice, values, 1, block);
  }
}

/** L2 norm of `vector`, summed in order. */
export function norm(vector: Vector): number {
  let sum = 0;
  for (let i = 0; i < vector.length; i++) {
    const value = vector[i] ?? 0;
    sum += value * value;
  }
  return Math.sqrt(sum);
}
