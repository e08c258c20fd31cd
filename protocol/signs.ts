/** One bit for each rotated value: a block becomes a scale s = factor x mean|z| and the signs of z. */
import { fromHalf, toHalf } from './half.js';
import type { Quantised } from './quantise.js';
import { BLOCK_COORDINATES, SIGN_BYTES } from './row-format.js';
import { scaleAt, setScale } from './scales.js';

/** Writes the rotated values of whole blocks, from block `firstBlock` on, and replaces them by what receivers read. */
export function encodeSigns(
  rotated: Float64Array,
  factor: number,
  { scales, codes }: Quantised,
  firstBlock: number,
): void {
  for (let start = 0, block = firstBlock; start < rotated.length; block++) {
    const end = start + BLOCK_COORDINATES;
    const half = blockScale(rotated, start, end, factor);
    setScale(scales, block, half);
    const scale = fromHalf(half);
    for (let position = block * SIGN_BYTES; start < end; position++) {
      let byte = 0;
      for (let bit = 0; bit < 8; bit++, start++) {
        const isNegative = (rotated[start] ?? 0) < 0;
        if (isNegative) byte |= 1 << bit;
        rotated[start] = isNegative ? -scale : scale;
      }
      codes[position] = byte;
    }
  }
}

/** rotated <- rotated + factor x what a row says, from block `firstBlock` on. */
export function addSigns(
  { scales, codes }: Quantised,
  factor: number,
  rotated: Float64Array,
  firstBlock: number,
): void {
  for (let start = 0, block = firstBlock; start < rotated.length; block++) {
    const value = factor * scaleAt(scales, block);
    const end = start + BLOCK_COORDINATES;
    for (let position = block * SIGN_BYTES; start < end; position++) {
      const byte = codes[position] ?? 0;
      for (let bit = 0; bit < 8; bit++, start++)
        rotated[start] = (rotated[start] ?? 0) + ((byte >>> bit) & 1 ? -value : value);
    }
  }
}

/** `sum` + the squared lengths of blocks `from` to before `to`, one by one: 256 s^2, which is exact. */
export function addSignSquares(
  { scales }: Quantised,
  from: number,
  to: number,
  sum: number,
): number {
  for (let block = from; block < to; block++) {
    const scale = scaleAt(scales, block);
    sum += scale * scale * BLOCK_COORDINATES;
  }
  return sum;
}

function blockScale(values: Float64Array, start: number, end: number, factor: number): number {
  let sum = 0;
  for (let i = start; i < end; i++) sum += Math.abs(values[i] ?? 0);
  return toHalf((factor / BLOCK_COORDINATES) * sum);
}
