/**
 * Error feedback (Seide et al. 2014; Karimireddy et al. 1901.09847): what compression holds back is added to the next
 * delta.   E <- keep E + D;  q = Q(E);  E -= q
 */
import { emptyBody, type Quantised } from './quantise.js';
import { TILE_BLOCKS, TILE_COORDINATES, type RowFormat, type Vector } from './row-format.js';
import { fastestKernel } from './wasm-kernel.js';

/** What training moved: scale x (from - to), [coordinates] each; `to` is null for zeros. */
export interface Move {
  readonly from: Vector;
  readonly to: Vector | null;
  readonly scale: number;
}

/**
 * residual <- keep x residual + the move, in place. Training starts from an adapter that lacks what the residual holds,
 * and may make the same move once more: `keep` is 1 less the part of the residual that lies in the move again, 0 to 1.
 * Without it both are sent, too far by one residual, and where training converges within a round the adapter swings
 * ever wider (docs/PROTOCOL.md, "Error feedback").
 */
export function accumulate(residual: Vector, move: Move): void {
  const { from, to, scale } = move;
  const keep = 1 - shareMovedAgain(residual, move);
  for (let i = 0; i < residual.length; i++) {
    residual[i] = keep * (residual[i] ?? 0) + scale * ((from[i] ?? 0) - (to?.[i] ?? 0));
  }
}

/** The move's projection on the residual, in units of the residual, 0 to 1; 0 without a residual. */
function shareMovedAgain(residual: Vector, { from, to, scale }: Move): number {
  let [product, square] = [0, 0];
  for (let i = 0; i < residual.length; i++) {
    const held = residual[i] ?? 0;
    product += held * (scale * ((from[i] ?? 0) - (to?.[i] ?? 0)));
    square += held * held;
  }
  return square > 0 ? Math.min(1, Math.max(0, product / square)) : 0;
}

/** Quantises `residual`, and subtracts, in place, exactly what receivers will read. */
export function takeUpdate(
  residual: Vector,
  format: RowFormat,
  kernel = fastestKernel(),
): Quantised {
  const out = emptyBody(format);
  const tile = new Float64Array(TILE_COORDINATES);
  for (let block = 0; block < format.blocks; block += TILE_BLOCKS) {
    const held = tileOf(residual, block);
    const values = tile.subarray(0, held.length);
    values.set(held);
    kernel.take(values, format, out, block);
    held.set(values);
  }
  return out;
}

/** Adds what receivers read of an update that came to nothing, so that it is sent again; in place. */
export function addUpdate(residual: Vector, format: RowFormat, quantised: Quantised): void {
  const tile = new Float64Array(TILE_COORDINATES);
  const kernel = fastestKernel();
  for (let block = 0; block < format.blocks; block += TILE_BLOCKS) {
    const held = tileOf(residual, block);
    const values = tile.subarray(0, held.length);
    kernel.decode(quantised, format, block, values);
    for (let i = 0; i < held.length; i++) held[i] = (held[i] ?? 0) + (values[i] ?? 0);
  }
}

/** The coordinates of `vector` from block `block` on, at most a tile. */
export function tileOf<T extends Vector>(vector: T, block: number): T {
  const start = (block / TILE_BLOCKS) * TILE_COORDINATES;
  return vector.subarray(start, start + TILE_COORDINATES) as T;
}

/** Whether no value of `vector` is NaN or infinite. */
export function isFiniteVector(vector: Vector): boolean {
  // By index: `every` with a callback takes ten times as long.
  for (let i = 0; i < vector.length; i++) if (!Number.isFinite(vector[i])) return false;
  return true;
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
