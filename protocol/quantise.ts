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
  const { blockSize, bits } = slice;
  const size = quantisedBytes(slice);
  const scales = new Uint8Array(size.scales);
  const codes = new Uint8Array(size.codes);
  for (let block = 0, start = 0; start < values.length; block++, start += blockSize) {
    const end = Math.min(start + blockSize, values.length);
    const half = blockScale(values, start, end, bits);
    scales[2 * block] = half & 0xff;
    scales[2 * block + 1] = half >>> 8;
    const scale = fromHalf(half);
    for (let i = start; i < end; i++) {
      const code = codeOf(values[i] ?? 0, scale, bits, random);
      const position = i * bits;
      codes[position >>> 3] = (codes[position >>> 3] ?? 0) | (code << (position & 7));
    }
  }
  return { scales, codes };
}

/**
 * What receivers read: [slice.coordinates] float64, written into `out` when given. A shorter `out` gets the
 * coordinates from block `firstBlock` of the slice on.
 */
export function dequantise(
  { scales, codes }: Quantised,
  slice: Slice,
  out = new Float64Array(slice.coordinates),
  firstBlock = 0,
): Float64Array {
  const { blockSize, bits } = slice;
  const mask = (1 << bits) - 1;
  const levels = LEVELS[bits];
  /** The value of each code in the block. */
  const values = new Float64Array(mask + 1);
  const offset = firstBlock * blockSize;
  for (let block = firstBlock, start = 0; start < out.length; block++, start += blockSize) {
    const scale = scaleAt(scales, block);
    for (let code = 0; code <= mask; code++) values[code] = (levels[code] ?? 0) * scale;
    const end = Math.min(start + blockSize, out.length);
    for (let i = start; i < end; i++) {
      const position = (offset + i) * bits;
      out[i] = values[((codes[position >>> 3] ?? 0) >>> (position & 7)) & mask] ?? 0;
    }
  }
  return out;
}

/** Whether all scales are finite and not negative, and every code and padding bit is one we write. */
export function isWellFormed({ scales, codes }: Quantised, slice: Slice): boolean {
  for (let block = 0; block < slice.blocks.length; block++) {
    const high = scales[2 * block + 1] ?? 0xff;
    // Sign bit set, or exponent all ones (infinite or NaN).
    if (high & 0x80 || (high & 0x7c) === 0x7c) return false;
  }
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
