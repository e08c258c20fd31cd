/**
 * Error feedback (Seide et al. 2014; Karimireddy et al. 1901.09847): what compression holds back is
 * added to the next delta.   E <- beta E + D;  q = Q(E[s]);  E[s] -= q
 */
import type { Prng } from './prng.js';
import { dequantise, quantise, type Quantised } from './quantise.js';
import { gather, scatterAdd, type Slice } from './slice.js';

/** residual <- beta x residual + delta, both [adapterSize] float64; `residual` is changed in place. */
export function accumulate(residual: Float64Array, delta: Float64Array, beta: number): void {
  for (let i = 0; i < residual.length; i++) {
    residual[i] = beta * (residual[i] ?? 0) + (delta[i] ?? 0);
  }
}

/** Quantises the slice of `residual` and subtracts, in place, exactly what receivers will read. */
export function takeSlice(residual: Float64Array, slice: Slice, random: Prng): Quantised {
  const quantised = quantise(gather(residual, slice), slice, random);
  scatterAdd(residual, slice, dequantise(quantised, slice), -1);
  return quantised;
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
