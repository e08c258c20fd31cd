/**
 * The codecs: blocks of coordinates share one binary16 scale.
 *   1 bit   sign(x) mean|x|                       (signSGD with scale: Bernstein et al. 1802.04434)
 *   2 bits  {+-0.5, +-1.5} mean|x|, split at mean|x|
 *   4 bits  -7..7 of absmax / 7, stochastic rounding (unbiased)
 * 1 and 2 bits are biased; error feedback (residual.ts) returns the bias. Codes are packed low bits
 * first. Non-finite input is a programming error of the caller and throws RangeError.
 */
import { fromHalf, toHalf } from './half.js';
import type { Prng } from './prng.js';
import type { Slice } from './slice.js';

export interface Quantised {
  /** One binary16 a block, little-endian. */
  scales: Uint8Array<ArrayBuffer>;
  /** ceil(coordinates x bits / 8) bytes. */
  codes: Uint8Array<ArrayBuffer>;
}

/** Bytes of scales and codes for a slice: fixed by the manifest, so a length is checked, never trusted. */
export function quantisedBytes(slice: Slice): { scales: number; codes: number } {
  return {
    scales: 2 * slice.blocks.length,
    codes: Math.ceil((slice.coordinates * slice.bits) / 8),
  };
}

/** `values`: [slice.coordinates] float64. `random` decides the stochastic rounding of 4 bits. */
export function quantise(values: Float64Array, slice: Slice, random: Prng): Quantised {
  const out = emptyBody(slice);
  takeRow(values.slice(), slice, random, out, 0);
  return out;
}

/** Zeros in the place of scales and codes. */
export function emptyBody(slice: Slice): Quantised {
  const size = quantisedBytes(slice);
  return { scales: new Uint8Array(size.scales), codes: new Uint8Array(size.codes) };
}

/**
 * Quantises `values`, which are those of the slice from block `firstBlock` on, into their place in `out`, and
 * subtracts from them what receivers will read.
 */
export function takeRow(
  values: Float64Array,
  { blockSize, bits }: Slice,
  random: Prng,
  { scales, codes }: Quantised,
  firstBlock: number,
): void {
  const levels = LEVELS[bits];
  let position = (firstBlock * blockSize * bits) >>> 3;
  for (let block = firstBlock, i = 0; i < values.length; block++) {
    const end = Math.min(i + blockSize, values.length);
    const half = blockScale(values, i, end, bits);
    scales[2 * block] = half & 0xff;
    scales[2 * block + 1] = half >>> 8;
    const scale = fromHalf(half);
    while (i < end) {
      let byte = 0;
      for (let shift = 0; shift < 8 && i < end; shift += bits, i++) {
        const value = values[i] ?? 0;
        const code = codeOf(value, scale, bits, random);
        byte |= code << shift;
        values[i] = value - (levels[code] ?? 0) * scale;
      }
      codes[position++] = byte;
    }
  }
}

/**
 * What receivers read: [slice.coordinates] float64, written into `out` when given. A shorter `out` gets the
 * coordinates from block `firstBlock` of the slice on.
 */
export function dequantise(
  { scales, codes }: Quantised,
  slice: Slice,
  out: Float64Array = new Float64Array(slice.coordinates),
  firstBlock = 0,
): Float64Array {
  const { blockSize, bits } = slice;
  const mask = (1 << bits) - 1;
  const values = new Float64Array(mask + 1);
  let position = (firstBlock * blockSize * bits) >>> 3;
  for (let block = firstBlock, i = 0; i < out.length; block++) {
    valuesOf(scaleAt(scales, block), 1, bits, values);
    const end = Math.min(i + blockSize, out.length);
    while (i < end) {
      const byte = codes[position++] ?? 0;
      for (let shift = 0; shift < 8 && i < end; shift += bits)
        out[i++] = values[(byte >>> shift) & mask] ?? 0;
    }
  }
  return out;
}

/** out <- out + factor x what receivers read, from block `firstBlock` of the slice on as far as `out` goes. */
export function addRow(
  { scales, codes }: Quantised,
  { blockSize, bits }: Slice,
  factor: number,
  out: Float64Array,
  firstBlock: number,
): void {
  const mask = (1 << bits) - 1;
  const values = new Float64Array(mask + 1);
  let position = (firstBlock * blockSize * bits) >>> 3;
  for (let block = firstBlock, i = 0; i < out.length; block++) {
    valuesOf(scaleAt(scales, block), factor, bits, values);
    const end = Math.min(i + blockSize, out.length);
    while (i < end) {
      const byte = codes[position++] ?? 0;
      for (let shift = 0; shift < 8 && i < end; shift += bits, i++)
        out[i] = (out[i] ?? 0) + (values[(byte >>> shift) & mask] ?? 0);
    }
  }
}

/**
 * The sum of the squares of blocks `from` to before `to`, added to `sum` block by block. The sum of one block is
 * exact, in whatever order: the square of a scale has 22 significant bits, and those of 4,096 levels take 18 more.
 */
export function addSquares(
  { scales, codes }: Quantised,
  { blockSize, bits, coordinates }: Slice,
  from: number,
  to: number,
  sum: number,
): number {
  const squares = BYTE_SQUARES[bits];
  const bytesPerBlock = (blockSize * bits) / 8;
  for (let block = from; block < to; block++) {
    const length = Math.min(blockSize, coordinates - block * blockSize);
    let levels = length;
    if (bits !== 1) {
      const start = block * bytesPerBlock;
      const end = start + Math.ceil((length * bits) / 8);
      levels = 0;
      for (let i = start; i < end; i++) levels += squares[codes[i] ?? 0] ?? 0;
      // What fills up the last byte counts as code 0.
      const padding = ((end - start) * 8) / bits - length;
      levels -= padding * (LEVELS[bits][0] ?? 0) ** 2;
    }
    const scale = scaleAt(scales, block);
    sum += scale * scale * levels;
  }
  return sum;
}

/** The value of each code in a block, times `factor`. */
function valuesOf(scale: number, factor: number, bits: Slice['bits'], out: Float64Array): void {
  const levels = LEVELS[bits];
  for (let code = 0; code < out.length; code++) {
    const value = (levels[code] ?? 0) * scale;
    out[code] = factor * value;
  }
}

/** Whether all scales of the slice are there, finite and not negative: then all values are finite. */
export function hasFiniteScales({ scales }: Quantised, slice: Slice): boolean {
  for (let block = 0; block < slice.blocks.length; block++) {
    const high = scales[2 * block + 1] ?? 0xff;
    // Sign bit set, or exponent all ones (infinite or NaN).
    if (high & 0x80 || (high & 0x7c) === 0x7c) return false;
  }
  return true;
}

/** Whether all scales are finite and not negative, and every code and padding bit is one we write. */
export function isWellFormed({ scales, codes }: Quantised, slice: Slice): boolean {
  if (!hasFiniteScales({ scales, codes }, slice)) return false;
  const used = (slice.coordinates * slice.bits) % 8;
  if (used !== 0 && (codes.at(-1) ?? 0) >>> used !== 0) return false;
  if (slice.bits !== 4) return true;
  // Code 15 would be +8: outside -7..7.
  return codes.every((byte) => (byte & 0x0f) !== 0x0f && byte >>> 4 !== 0x0f);
}

/** Level of each code in units of the scale. 4 bits: code c means c - 7; code 15 is not used. */
const LEVELS: Record<Slice['bits'], readonly number[]> = {
  1: [1, -1],
  2: [0.5, 1.5, -0.5, -1.5],
  4: Array.from({ length: 15 }, (_, code) => code - 7),
};

/** Squares of the levels of all codes in a byte. */
const BYTE_SQUARES: Record<Slice['bits'], Float64Array> = {
  1: new Float64Array(256).fill(8),
  2: byteSquares(2),
  4: byteSquares(4),
};

function byteSquares(bits: Slice['bits']): Float64Array {
  const mask = (1 << bits) - 1;
  return Float64Array.from({ length: 256 }, (_, byte) => {
    let sum = 0;
    for (let shift = 0; shift < 8; shift += bits)
      sum += (LEVELS[bits][(byte >>> shift) & mask] ?? 0) ** 2;
    return sum;
  });
}

function scaleAt(scales: Uint8Array, block: number): number {
  return fromHalf((scales[2 * block] ?? 0) | ((scales[2 * block + 1] ?? 0) << 8));
}

function blockScale(values: Float64Array, start: number, end: number, bits: Slice['bits']): number {
  let sum = 0;
  let largest = 0;
  for (let i = start; i < end; i++) {
    const magnitude = Math.abs(values[i] ?? 0);
    if (!(magnitude < Infinity)) throw new RangeError(`cannot quantise ${values[i] ?? 'nothing'}`);
    sum += magnitude;
    if (magnitude > largest) largest = magnitude;
  }
  // Rounded up, so that the largest value still fits in -7..7 and stays unbiased.
  return bits === 4 ? toHalf(largest / 7, 'up') : toHalf(sum / (end - start));
}

function codeOf(value: number, scale: number, bits: Slice['bits'], random: Prng): number {
  if (bits === 1) return value < 0 ? 1 : 0;
  if (bits === 2) return (value < 0 ? 2 : 0) | (Math.abs(value) > scale ? 1 : 0);
  if (scale === 0) return 7;
  const level = Math.floor(value / scale + random.nextFloat());
  return Math.max(-7, Math.min(7, level)) + 7;
}
