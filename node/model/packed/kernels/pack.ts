/**
 * The inner loops of the packer in AssemblyScript, compiled by `npm run generate:kernels`. They give the bytes of the loops
 * in JavaScript (javascript-packer.ts): every step is one float32 operation, and no multiplication is fused with an addition.
 *
 * The type parameter is how a source value is stored: f32 as such, u16 for bfloat16, i16 for binary16.
 */

/** Bytes of each of the two regions that source values are read into; as in packer.ts. */
export const INPUT_BYTES: i32 = 1 << 22;
/** Packed values: one byte for each two bytes of a region. */
const CODES_BYTES: i32 = INPUT_BYTES >> 1;

export const INPUT: i32 = 65536;
export const CODES: i32 = INPUT + 2 * INPUT_BYTES;
/** float32 [SCALES_MAX]. */
export const SCALES: i32 = CODES + CODES_BYTES;
export const SCALES_MAX: i32 = 65536;

/** Bits of the smallest normal float32, and of infinity. */
const SMALLEST_NORMAL: i32 = 0x00800000;
const INFINITE: i32 = 0x7f800000;
/** 1.5 x 2^23: adding it rounds a small number to a whole one, ties to even, in the low bits of the sum. */
const ROUNDER: f32 = 12582912;
const ROUNDER_BITS: i32 = 0x4b400000;
/** From half of binary16, moved to the place of a float32, to its value: 2^112. */
const HALF_FACTOR: f32 = 5.192296858534828e33;

/** The next four values. */
function load4<T>(at: i32): v128 {
  if (sizeof<T>() == 4) return v128.load(at);
  const words = v128.load_ext<u16>(at);
  if (!isSigned<T>()) return i32x4.shl(words, 16);
  const size = i32x4.shl(v128.and(words, i32x4.splat(0x7fff)), 13);
  const isInfinite = i32x4.ge_s(size, i32x4.splat(0x7c00 << 13));
  const value = f32x4.mul(size, f32x4.splat(HALF_FACTOR));
  const sign = i32x4.shl(v128.and(words, i32x4.splat(0x8000)), 16);
  return v128.or(v128.or(value, sign), v128.and(isInfinite, i32x4.splat(INFINITE)));
}

/** The value at `at`. */
function load1<T>(at: i32): f32 {
  if (sizeof<T>() == 4) return load<f32>(at);
  const word: i32 = load<u16>(at);
  if (!isSigned<T>()) return reinterpret<f32>(word << 16);
  const sign = (word & 0x8000) << 16;
  const size = word & 0x7fff;
  if (size >= 0x7c00) return reinterpret<f32>(sign | INFINITE);
  const value = reinterpret<f32>(size << 13) * HALF_FACTOR;
  return reinterpret<f32>(reinterpret<i32>(value) | sign);
}

/** Bits of |x|, which are in the order of the sizes; beyond those of infinity for NaN. */
function sizes(x: v128): v128 {
  return v128.and(x, i32x4.splat(0x7fffffff));
}

function largestLane(x: v128): i32 {
  const low = max(i32x4.extract_lane(x, 0), i32x4.extract_lane(x, 1));
  return max(low, max(i32x4.extract_lane(x, 2), i32x4.extract_lane(x, 3)));
}

/** Bits of the largest of the sizes of `count` values. */
function largestSize<T>(from: i32, count: i32): i32 {
  const end = from + count * <i32>sizeof<T>();
  const step: i32 = 4 * <i32>sizeof<T>();
  let a = i32x4.splat(0);
  let b = i32x4.splat(0);
  let c = i32x4.splat(0);
  let d = i32x4.splat(0);
  let at = from;
  for (; at + 4 * step <= end; at += 4 * step) {
    a = i32x4.max_s(a, sizes(load4<T>(at)));
    b = i32x4.max_s(b, sizes(load4<T>(at + step)));
    c = i32x4.max_s(c, sizes(load4<T>(at + 2 * step)));
    d = i32x4.max_s(d, sizes(load4<T>(at + 3 * step)));
  }
  let largest = largestLane(i32x4.max_s(i32x4.max_s(a, b), i32x4.max_s(c, d)));
  for (; at < end; at += <i32>sizeof<T>()) {
    largest = max(largest, reinterpret<i32>(load1<T>(at)) & 0x7fffffff);
  }
  return largest;
}

/** The nearest whole numbers to x / scale, which are at most 2^22; ties to even. */
function codes4(x: v128, scale: v128): v128 {
  const sum = f32x4.add(f32x4.div(x, scale), f32x4.splat(ROUNDER));
  return i32x4.sub(sum, i32x4.splat(ROUNDER_BITS));
}

function code1(x: f32, scale: f32): i32 {
  return reinterpret<i32>(x / scale + ROUNDER) - ROUNDER_BITS;
}

/** 0 for one that is not normal: processors that flush such numbers to zero would make another weight of it. */
function usableScale(scale: f32): f32 {
  return (reinterpret<i32>(scale) & 0x7fffffff) < SMALLEST_NORMAL ? 0 : scale;
}

/** One int8 code a value. */
function encode8<T>(from: i32, count: i32, scale: f32, to: i32): void {
  if (scale == 0) {
    memory.fill(to, 0, count);
    return;
  }
  const step: i32 = 4 * <i32>sizeof<T>();
  const end = to + count;
  const scales = f32x4.splat(scale);
  for (; to + 16 <= end; to += 16) {
    const a = codes4(load4<T>(from), scales);
    const b = codes4(load4<T>(from + step), scales);
    const c = codes4(load4<T>(from + 2 * step), scales);
    const d = codes4(load4<T>(from + 3 * step), scales);
    const low = i16x8.narrow_i32x4_s(a, b);
    const high = i16x8.narrow_i32x4_s(c, d);
    v128.store(to, i8x16.narrow_i16x8_s(low, high));
    from += 4 * step;
  }
  for (; to < end; to++) {
    store<i8>(to, <i8>code1(load1<T>(from), scale));
    from += <i32>sizeof<T>();
  }
}

/** Rows of int8 with one scale each. Returns the first row with a value that is not finite, else -1. */
function rows8<T>(slot: i32, rows: i32, width: i32, largestCode: i32): i32 {
  let from = INPUT + slot * INPUT_BYTES;
  let to = CODES;
  for (let row = 0; row < rows; row++) {
    const largest = largestSize<T>(from, width);
    if (largest >= INFINITE) return row;
    const scale = usableScale(reinterpret<f32>(largest) / <f32>largestCode);
    store<f32>(SCALES + row * 4, scale);
    encode8<T>(from, width, scale, to);
    from += width * <i32>sizeof<T>();
    to += width;
  }
  return -1;
}

function highestLane(x: v128): f32 {
  const low = max(f32x4.extract_lane(x, 0), f32x4.extract_lane(x, 1));
  return max(low, max(f32x4.extract_lane(x, 2), f32x4.extract_lane(x, 3)));
}

/** The value of the largest size among `count`, with its sign; a positive one where both signs have it. */
function extreme<T>(from: i32, count: i32): f32 {
  const step: i32 = 4 * <i32>sizeof<T>();
  const end = from + count * <i32>sizeof<T>();
  let highest: f32 = 0;
  let lowest: f32 = 0;
  if (count >= 4) {
    let high = f32x4.splat(0);
    let low = f32x4.splat(0);
    for (; from + step <= end; from += step) {
      const x = load4<T>(from);
      high = f32x4.pmax(high, x);
      low = f32x4.pmin(low, x);
    }
    highest = highestLane(high);
    lowest = -highestLane(f32x4.neg(low));
  }
  for (; from < end; from += <i32>sizeof<T>()) {
    highest = max(highest, load1<T>(from));
    lowest = min(lowest, load1<T>(from));
  }
  return highest >= -lowest ? highest : lowest;
}

/** Two codes a byte, the first in the low half; `count` is even. */
function encode4<T>(from: i32, count: i32, scale: f32, to: i32): void {
  if (scale == 0) {
    memory.fill(to, 0, count >> 1);
    return;
  }
  const step: i32 = 4 * <i32>sizeof<T>();
  const end = to + (count >> 1);
  const scales = f32x4.splat(scale);
  const seven = i16x8.splat(7);
  for (; to + 8 <= end; to += 8) {
    const a = codes4(load4<T>(from), scales);
    const b = codes4(load4<T>(from + step), scales);
    const c = codes4(load4<T>(from + 2 * step), scales);
    const d = codes4(load4<T>(from + 3 * step), scales);
    const low = i16x8.min_s(i16x8.narrow_i32x4_s(a, b), seven);
    const high = i16x8.min_s(i16x8.narrow_i32x4_s(c, d), seven);
    // A lane of 16 bits holds two codes of a byte each: the second moves down beside the first.
    const pairs = i8x16.narrow_i16x8_s(low, high);
    const first = v128.and(pairs, i16x8.splat(0x0f));
    const second = v128.and(i16x8.shr_u(pairs, 4), i16x8.splat(0xf0));
    const bytes = i8x16.narrow_i16x8_u(v128.or(first, second), first);
    store<u64>(to, <u64>i64x2.extract_lane(bytes, 0));
    from += 4 * step;
  }
  for (; to < end; to++) {
    const first = min(code1(load1<T>(from), scale), 7);
    const second = min(code1(load1<T>(from + <i32>sizeof<T>()), scale), 7);
    store<u8>(to, <u8>((first & 15) | (second << 4)));
    from += 2 * <i32>sizeof<T>();
  }
}

/** Rows of int4 with one scale for each `block` values. Returns as rows8. `width` is even. */
function rows4<T>(slot: i32, rows: i32, width: i32, block: i32): i32 {
  let from = INPUT + slot * INPUT_BYTES;
  let to = CODES;
  let scales = SCALES;
  for (let row = 0; row < rows; row++) {
    if (largestSize<T>(from, width) >= INFINITE) return row;
    for (let start = 0; start < width; start += block) {
      const count = min(block, width - start);
      const scale = usableScale(extreme<T>(from, count) / -8);
      store<f32>(scales, scale);
      encode4<T>(from, count, scale, to);
      scales += 4;
      from += count * <i32>sizeof<T>();
      to += count >> 1;
    }
  }
  return -1;
}

/**
 * float32 to bfloat16, ties to even. Returns the first row with a value that is not finite, or beyond the largest
 * bfloat16, else -1.
 */
function rows16(slot: i32, rows: i32, width: i32): i32 {
  let from = INPUT + slot * INPUT_BYTES;
  let to = CODES;
  for (let row = 0; row < rows; row++) {
    // Half a step above the largest bfloat16 it would be rounded to infinity.
    if (largestSize<f32>(from, width) >= 0x7f7f8000) return row;
    const end = from + width * 4;
    for (; from + 32 <= end; from += 32) {
      const a = upperHalves(v128.load(from));
      const b = upperHalves(v128.load(from, 16));
      v128.store(to, i16x8.narrow_i32x4_u(a, b));
      to += 16;
    }
    for (; from < end; from += 4) {
      const bits = load<u32>(from);
      store<u16>(to, <u16>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16));
      to += 2;
    }
  }
  return -1;
}

function upperHalves(bits: v128): v128 {
  const odd = v128.and(i32x4.shr_u(bits, 16), i32x4.splat(1));
  return i32x4.shr_u(i32x4.add(i32x4.add(bits, i32x4.splat(0x7fff)), odd), 16);
}

/** `source`: 0 for float32, 1 for bfloat16, 2 for binary16; `slot`: 0 or 1, which region. */
export function int8(source: i32, slot: i32, rows: i32, width: i32, largestCode: i32): i32 {
  if (source == 0) return rows8<f32>(slot, rows, width, largestCode);
  if (source == 1) return rows8<u16>(slot, rows, width, largestCode);
  return rows8<i16>(slot, rows, width, largestCode);
}

export function int4(source: i32, slot: i32, rows: i32, width: i32, block: i32): i32 {
  if (source == 0) return rows4<f32>(slot, rows, width, block);
  if (source == 1) return rows4<u16>(slot, rows, width, block);
  return rows4<i16>(slot, rows, width, block);
}

export function bfloat16(slot: i32, rows: i32, width: i32): i32 {
  return rows16(slot, rows, width);
}
