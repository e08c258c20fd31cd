/** One bit for each rotated value: a block becomes a scale s = factor x mean|z| and the signs of z. */
import { fromHalf, toHalf } from './half.js';
import type { Quantised } from './quantise.js';
import { BLOCK_COORDINATES, SIGN_BYTES } from './row-format.js';
import { scaleAt, setScale } from './scales.js';

/** Of each byte the number of bits that are set: [256]. */
const BITS_SET = Uint8Array.from({ length: 256 }, (_, byte) => {
  let bits = 0;
  for (let rest = byte; rest > 0; rest &= rest - 1) bits += 1;
  return bits;
});

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

/**
 * sums <- sums + the dot product of each of `rows` with each of `others` in blocks `from` to before `to`, one by one:
 * s s' (256 - 2 d) where d signs differ, which is exact. [rows][others] row-major.
 */
export function addSignProducts(
  rows: readonly Quantised[],
  others: readonly Quantised[],
  from: number,
  to: number,
  sums: Float64Array,
): void {
  for (const [i, row] of rows.entries())
    for (const [k, other] of others.entries()) {
      let sum = sums[i * others.length + k] ?? 0;
      for (let block = from; block < to; block++) {
        const scales = scaleAt(row.scales, block) * scaleAt(other.scales, block);
        sum += scales * (BLOCK_COORDINATES - 2 * differing(row.codes, other.codes, block));
      }
      sums[i * others.length + k] = sum;
    }
}

/** Signs of a block that differ. */
function differing(a: Uint8Array, b: Uint8Array, block: number): number {
  let count = 0;
  for (let i = block * SIGN_BYTES; i < (block + 1) * SIGN_BYTES; i++)
    count += BITS_SET[(a[i] ?? 0) ^ (b[i] ?? 0)] ?? 0;
  return count;
}

function blockScale(values: Float64Array, start: number, end: number, factor: number): number {
  let sum = 0;
  for (let i = start; i < end; i++) sum += Math.abs(values[i] ?? 0);
  return toHalf((factor / BLOCK_COORDINATES) * sum);
}
