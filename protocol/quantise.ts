/**
 * The codecs. Values are rotated (rotation.ts) and then written as their signs (signs.ts) or as the signs of the largest
 * (sparse.ts), each with a scale. What receivers read, the rotation of +-s and 0 back, is exact in float64: sums and
 * differences of 256 numbers that are 0 or one number of 11 bits. Values that are not finite are a programming error of
 * the caller and throw RangeError.
 */
import { rotate, rotateBack } from './rotation.js';
import { BLOCK_COORDINATES, bodyBytes, type RowFormat } from './row-format.js';
import { addSignProducts, addSigns, addSignSquares, encodeSigns } from './signs.js';
import { addSparse, addSparseProducts, addSparseSquares, encodeSparse } from './sparse.js';

export interface Quantised {
  /** One binary16 for each `scaleBlocks` blocks, little-endian; see Code in row-format.ts. */
  scales: Uint8Array<ArrayBuffer>;
  /** `codeBytes` a block. */
  codes: Uint8Array<ArrayBuffer>;
}

/** `values`: [format.coordinates] float64. */
export function quantise(values: Float64Array, format: RowFormat): Quantised {
  const out = emptyBody(format);
  takeRow(values.slice(), format, out, 0);
  return out;
}

/** Zeros in the place of scales and codes. */
export function emptyBody(format: RowFormat): Quantised {
  const size = bodyBytes(format);
  return { scales: new Uint8Array(size.scales), codes: new Uint8Array(size.codes) };
}

/**
 * Quantises `values`, which are those from block `firstBlock`, the first of a tile, on, into their place in `out`, and
 * subtracts from them what receivers will read. Whole tiles, but for the last one of a row.
 */
export function takeRow(
  values: Float64Array,
  format: RowFormat,
  out: Quantised,
  firstBlock: number,
): void {
  const rotated = padded(values);
  rotate(rotated, format.signs);
  for (let i = 0; i < rotated.length; i++)
    if (!(Math.abs(rotated[i] ?? 0) < Infinity))
      throw new RangeError('cannot quantise values that are not finite');
  if (format.code.divisor === 0) encodeSigns(rotated, format.code.factor, out, firstBlock);
  else encodeSparse(rotated, format, out, firstBlock);
  rotateBack(rotated, format.signs);
  for (let i = 0; i < values.length; i++) values[i] = (values[i] ?? 0) - (rotated[i] ?? 0);
}

/**
 * What receivers read: [format.coordinates] float64, written into `out` when given. A shorter `out` gets the
 * coordinates from block `firstBlock`, the first of a tile, on.
 */
export function dequantise(
  row: Quantised,
  format: RowFormat,
  out: Float64Array = new Float64Array(format.coordinates),
  firstBlock = 0,
): Float64Array {
  const rotated = new Float64Array(wholeBlocks(out.length));
  addRow(row, format, 1, rotated, firstBlock);
  rotateBack(rotated, format.signs);
  out.set(rotated.subarray(0, out.length));
  return out;
}

/**
 * rotated <- rotated + factor x the rotated values of a row, from block `firstBlock`, the first of a tile, on as far as
 * `rotated` goes: whole blocks. Rows are summed there, so that one rotation back does for all.
 */
export function addRow(
  row: Quantised,
  format: RowFormat,
  factor: number,
  rotated: Float64Array,
  firstBlock: number,
): void {
  if (format.code.divisor === 0) addSigns(row, factor, rotated, firstBlock);
  else addSparse(row, format, factor, rotated, firstBlock);
}

/**
 * The squared length of a row's blocks `from` to before `to`, whole tiles, added to `sum` scale by scale. What the last
 * block says beyond the end of the adapter counts.
 */
export function addSquares(
  row: Quantised,
  format: RowFormat,
  from: number,
  to: number,
  sum: number,
): number {
  if (format.code.divisor === 0) return addSignSquares(row, from, to, sum);
  return addSparseSquares(row, format, from, to, sum);
}

/**
 * sums <- sums + the dot product of each of `rows` with each of `others` in blocks `from` to before `to`, whole tiles, scale
 * by scale: [rows][others] row-major. As with addSquares, what the last block says beyond the end counts.
 */
export function addProducts(
  rows: readonly Quantised[],
  others: readonly Quantised[],
  format: RowFormat,
  from: number,
  to: number,
  sums: Float64Array,
): void {
  if (format.code.divisor === 0) addSignProducts(rows, others, from, to, sums);
  else addSparseProducts(rows, others, format, from, to, sums);
}

/** Whether all scales of the row are there, finite and not negative: then all values are finite. */
export function hasFiniteScales({ scales }: Quantised, format: RowFormat): boolean {
  const length = bodyBytes(format).scales;
  for (let i = 1; i < length; i += 2) {
    const high = scales[i] ?? 0xff;
    // Sign bit set, or exponent all ones (infinite or NaN).
    if (high & 0x80 || (high & 0x7c) === 0x7c) return false;
  }
  return true;
}

/** `length` coordinates in whole blocks. */
export function wholeBlocks(length: number): number {
  return Math.ceil(length / BLOCK_COORDINATES) * BLOCK_COORDINATES;
}

/** A copy of `values`, filled up with zeros to whole blocks. */
function padded(values: Float64Array): Float64Array {
  const whole = new Float64Array(wholeBlocks(values.length));
  whole.set(values);
  return whole;
}
