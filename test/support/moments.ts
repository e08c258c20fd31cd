/** Moments as tests write and compare them. */
import type { Moments, OptimiserState } from '../../node/interfaces.js';

/** A copy of moments, wherever they lie. Rejects as Moments.pieces does; RangeError for pieces that are not of `size`. */
export async function gatherMoments(moments: Moments): Promise<OptimiserState> {
  const { step, size } = moments;
  const state = { step, m: new Float32Array(size), v: new Float32Array(size) };
  let at = 0;
  for await (const piece of moments.pieces()) {
    if (at + piece.length > 2 * size) throw new RangeError('the moments are longer than they say');
    const inFirst = Math.max(0, Math.min(piece.length, size - at));
    state.m.set(piece.subarray(0, inFirst), Math.min(at, size));
    state.v.set(piece.subarray(inFirst), Math.max(0, at - size));
    at += piece.length;
  }
  if (at !== 2 * size) throw new RangeError('the moments are shorter than they say');
  return state;
}

/** As gatherMoments; null for none. */
export async function gathered(loading: Promise<Moments | null>): Promise<OptimiserState | null> {
  const moments = await loading;
  return moments && gatherMoments(moments);
}
