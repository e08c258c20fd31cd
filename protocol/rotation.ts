/**
 * The rotation of a block: signs, then the Walsh-Hadamard transform, whose rows are orthogonal and of length 16. It
 * spreads each coordinate over all of its block, so that one scale suits all 256 (Suresh et al. 2017, 1611.00429;
 * Vargaftik et al. 2021, DRIVE, 2105.08339). Additions and subtractions in one fixed order: the same bits everywhere.
 */
import { BLOCK_COORDINATES } from './row-format.js';

/** 1 / 16: makes the transform its own inverse. A power of two, and so exact. */
const UNIT = 1 / Math.sqrt(BLOCK_COORDINATES);

/** values <- H (signs values) / 16, block by block. `values`: whole blocks. */
export function rotate(values: Float64Array, signs: Float64Array): void {
  for (let block = 0; block < values.length; block += BLOCK_COORDINATES) {
    for (let i = 0; i < BLOCK_COORDINATES; i++)
      values[block + i] = (values[block + i] ?? 0) * ((signs[i] ?? 0) * UNIT);
    transform(values, block);
  }
}

/** values <- signs (H values) / 16, block by block: undoes rotate() but for rounding. */
export function rotateBack(values: Float64Array, signs: Float64Array): void {
  for (let block = 0; block < values.length; block += BLOCK_COORDINATES) {
    transform(values, block);
    for (let i = 0; i < BLOCK_COORDINATES; i++)
      values[block + i] = (values[block + i] ?? 0) * ((signs[i] ?? 0) * UNIT);
  }
}

/** The Walsh-Hadamard transform of one block, in place: sums and differences at distances 1, 2, 4, ... 128. */
function transform(values: Float64Array, block: number): void {
  const end = block + BLOCK_COORDINATES;
  for (let distance = 1; distance < BLOCK_COORDINATES; distance *= 2) {
    for (let start = block; start < end; start += 2 * distance) {
      for (let i = start; i < start + distance; i++) {
        const [a, b] = [values[i] ?? 0, values[i + distance] ?? 0];
        values[i] = a + b;
        values[i + distance] = a - b;
      }
    }
  }
}
