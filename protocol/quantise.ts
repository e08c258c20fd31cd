/**
 * The codec: one bit for each coordinate, in a rotated domain (rotation.ts). A block of z = rotated values becomes
 * one binary16 scale s = 1.4 mean|z| and the signs of z. What receivers read, the rotation of +-s back, is exact in
 * float64: sums and differences of 256 equal numbers of 11 bits. Values that are not finite are a programming error
 * of the caller and throw RangeError.
 */
import { fromHalf, toHalf } from './half.js';
import { rotate, rotateBack } from './rotation.js';
import { BLOCK_COORDINATES, CODE_BYTES, SCALE_BYTES, type RowFormat } from './row-format.js';

export interface Quantised {
  /** One binary16 a block, little-endian. */
  scales: Uint8Array<ArrayBuffer>;
  /** 32 bytes a block, the first coordinate in the lowest bit; 1 stands for a negative value. */
  codes: Uint8Array<ArrayBuffer>;
}

/**
 * The scale in units of mean|z|. 1 would make the rounding error least; 1.4 lets error feedback hold back less, and
 * errors of many peers average out (docs/PROTOCOL.md, "Compression"). Receivers need not know it.
 */
export const SCALE_FACTOR = 1.4;

/** Bytes of scales and codes of a row. */
export function quantisedBytes({ blocks }: RowFormat): { scales: number; codes: number } {
  return { scales: SCALE_BYTES * blocks, codes: CODE_BYTES * blocks };
}

/** `values`: [format.coordinates] float64. */
export function quantise(values: Float64Array, format: RowFormat): Quantised {
  const out = emptyBody(format);
  takeRow(values.slice(), format, out, 0);
  return out;
}

/** Zeros in the place of scales and codes. */
export function emptyBody(format: RowFormat): Quantised {
  const size = quantisedBytes(format);
  return { scales: new Uint8Array(size.scales), codes: new Uint8Array(size.codes) };
}

/**
 * Quantises `values`, which are those from block `firstBlock` on, into their place in `out`, and subtracts from them
 * what receivers will read.
 */
export function takeRow(
  values: Float64Array,
  { signs }: RowFormat,
  { scales, codes }: Quantised,
  firstBlock: number,
): void {
  const rotated = padded(values);
  rotate(rotated, signs);
  for (let start = 0, block = firstBlock; start < rotated.length; block++) {
    const end = start + BLOCK_COORDINATES;
    const half = blockScale(rotated, start, end);
    scales[2 * block] = half & 0xff;
    scales[2 * block + 1] = half >>> 8;
    const scale = fromHalf(half);
    for (let position = block * CODE_BYTES; start < end; position++) {
      let byte = 0;
      for (let bit = 0; bit < 8; bit++, start++) {
        const isNegative = (rotated[start] ?? 0) < 0;
        if (isNegative) byte |= 1 << bit;
        rotated[start] = isNegative ? -scale : scale;
      }
      codes[position] = byte;
    }
  }
  rotateBack(rotated, signs);
  for (let i = 0; i < values.length; i++) values[i] = (values[i] ?? 0) - (rotated[i] ?? 0);
}

/**
 * What receivers read: [format.coordinates] float64, written into `out` when given. A shorter `out` gets the
 * coordinates from block `firstBlock` on.
 */
export function dequantise(
  row: Quantised,
  format: RowFormat,
  out: Float64Array = new Float64Array(format.coordinates),
  firstBlock = 0,
): Float64Array {
  const rotated = new Float64Array(wholeBlocks(out.length));
  addRow(row, 1, rotated, firstBlock);
  rotateBack(rotated, format.signs);
  out.set(rotated.subarray(0, out.length));
  return out;
}

/**
 * rotated <- rotated + factor x the rotated values of a row, from block `firstBlock` on as far as `rotated` goes: whole
 * blocks. Rows are summed there, so that one rotation back does for all.
 */
export function addRow(
  { scales, codes }: Quantised,
  factor: number,
  rotated: Float64Array,
  firstBlock: number,
): void {
  for (let start = 0, block = firstBlock; start < rotated.length; block++) {
    const value = factor * scaleAt(scales, block);
    const end = start + BLOCK_COORDINATES;
    for (let position = block * CODE_BYTES; start < end; position++) {
      const byte = codes[position] ?? 0;
      for (let bit = 0; bit < 8; bit++, start++)
        rotated[start] = (rotated[start] ?? 0) + ((byte >>> bit) & 1 ? -value : value);
    }
  }
}

/**
 * The squared length of a row's blocks `from` to before `to`, added to `sum` block by block: 256 s^2, which is exact.
 * What the last block says beyond the end of the adapter counts.
 */
export function addSquares({ scales }: Quantised, from: number, to: number, sum: number): number {
  for (let block = from; block < to; block++) {
    const scale = scaleAt(scales, block);
    sum += scale * scale * BLOCK_COORDINATES;
  }
  return sum;
}

/** Whether all scales of the row are there, finite and not negative: then all values are finite. */
export function hasFiniteScales({ scales }: Quantised, { blocks }: RowFormat): boolean {
  for (let block = 0; block < blocks; block++) {
    const high = scales[2 * block + 1] ?? 0xff;
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

function scaleAt(scales: Uint8Array, block: number): number {
  return fromHalf((scales[2 * block] ?? 0) | ((scales[2 * block + 1] ?? 0) << 8));
}

function blockScale(values: Float64Array, start: number, end: number): number {
  let sum = 0;
  for (let i = start; i < end; i++) {
    const magnitude = Math.abs(values[i] ?? 0);
    if (!(magnitude < Infinity)) throw new RangeError('cannot quantise values that are not finite');
    sum += magnitude;
  }
  return toHalf((SCALE_FACTOR / BLOCK_COORDINATES) * sum);
}
