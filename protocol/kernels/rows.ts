/**
 * The inner loops of codec and fold in AssemblyScript, compiled by `npm run generate:kernels`. They give the bits of the
 * loops in JavaScript (quantise.ts, grid.ts): lanes never mix, and no multiplication is fused with an addition.
 *
 * Whoever calls copies a tile into the memory below, and reads the result from there. Loops go through eight
 * coordinates at a time; what lies beyond the end of a tile is computed and not looked at.
 */

/** Coordinates of a tile, and rows that are added in one call. As in wasm-kernel.ts, which reads them. */
export const TILE: i32 = 4096;
export const ROWS: i32 = 32;

/** float64 [TILE]: what is summed, decoded or encoded. */
export const VALUES: i32 = 8192;
/** [ROWS][TILE / 2] bytes: the codes of each row. */
export const CODES: i32 = VALUES + TILE * 8;
/** [ROWS][TILE / 8] binary16: the scales of each row. */
export const SCALES: i32 = CODES + ROWS * (TILE / 2);
/** float64 [ROWS]: what the values of each row are multiplied by. */
export const FACTORS: i32 = SCALES + ROWS * (TILE / 4);
/** float64 [ROWS]: of the block at hand. */
const BLOCK_SCALES: i32 = FACTORS + ROWS * 8;

/** Signs of four coordinates at 1 bit, for each half of a byte: [16] of four sign bits in float64. */
const SIGNS: i32 = 1024;
/** Levels of two coordinates: at 2 bits for each half of a byte [16], at 4 bits for each byte [256]. */
const LEVELS_2: i32 = 1536;
const LEVELS_4: i32 = 2048;

/** As in quantise.ts. */
function levelOf(code: i32, bits: i32): f64 {
  if (bits == 4) return code == 15 ? 0 : <f64>(code - 7);
  const magnitude: f64 = code & 1 ? 1.5 : 0.5;
  return code & 2 ? -magnitude : magnitude;
}

/** Fills the tables; once, before anything else. */
export function start(): void {
  for (let half = 0; half < 16; half++) {
    for (let i = 0; i < 4; i++) {
      const sign: u64 = (<u64>((half >> i) & 1)) << 63;
      store<u64>(SIGNS + half * 32 + i * 8, sign);
    }
    store<f64>(LEVELS_2 + half * 16, levelOf(half & 3, 2));
    store<f64>(LEVELS_2 + half * 16 + 8, levelOf(half >> 2, 2));
  }
  for (let byte = 0; byte < 256; byte++) {
    store<f64>(LEVELS_4 + byte * 16, levelOf(byte & 15, 4));
    store<f64>(LEVELS_4 + byte * 16 + 8, levelOf(byte >> 4, 4));
  }
}

/** The exact value of a finite binary16. */
function fromHalf(half: u32): f64 {
  const exponent: u32 = (half >> 10) & 0x1f;
  const fraction: u32 = half & 0x3ff;
  const value: f64 =
    exponent == 0
      ? <f64>fraction * 5.960464477539063e-8
      : <f64>reinterpret<f32>(((exponent + 112) << 23) | (fraction << 13));
  return half & 0x8000 ? -value : value;
}

/** VALUES <- VALUES + FACTORS x the values of each row, in their order. */
export function addRows(bits: i32, rows: i32, blockSize: i32, length: i32): void {
  let block = 0;
  for (let from = 0; from < length; from += blockSize) {
    const end = min(from + blockSize, length);
    for (let row = 0; row < rows; row++) {
      let scale = fromHalf(load<u16>(SCALES + row * (TILE / 4) + block * 2));
      // At 1 bit a value is the scale with a sign.
      if (bits == 1) scale *= load<f64>(FACTORS + row * 8);
      store<f64>(BLOCK_SCALES + row * 8, scale);
    }
    if (bits == 1) addBlock1(rows, from, end);
    else if (bits == 2) addBlock2(rows, from, end);
    else addBlock4(rows, from, end);
    block++;
  }
}

function addBlock1(rows: i32, from: i32, end: i32): void {
  for (let i = from; i < end; i += 8) {
    const out = VALUES + i * 8;
    let a = v128.load(out);
    let b = v128.load(out, 16);
    let c = v128.load(out, 32);
    let d = v128.load(out, 48);
    let codes = CODES + (i >> 3);
    for (let row = 0; row < rows; row++) {
      const value = v128.load_splat<f64>(BLOCK_SCALES + row * 8);
      const byte: i32 = load<u8>(codes);
      const low = SIGNS + ((byte & 15) << 5);
      const high = SIGNS + ((byte >> 4) << 5);
      a = f64x2.add(a, v128.xor(value, v128.load(low)));
      b = f64x2.add(b, v128.xor(value, v128.load(low, 16)));
      c = f64x2.add(c, v128.xor(value, v128.load(high)));
      d = f64x2.add(d, v128.xor(value, v128.load(high, 16)));
      codes += TILE / 2;
    }
    v128.store(out, a);
    v128.store(out, b, 16);
    v128.store(out, c, 32);
    v128.store(out, d, 48);
  }
}

/** factor x (level x scale): the inner product is exact, the outer one rounded as in JavaScript. */
function valuesOf(levels: i32, scale: v128, factor: v128): v128 {
  return f64x2.mul(factor, f64x2.mul(v128.load(levels), scale));
}

function addBlock2(rows: i32, from: i32, end: i32): void {
  for (let i = from; i < end; i += 8) {
    const out = VALUES + i * 8;
    let a = v128.load(out);
    let b = v128.load(out, 16);
    let c = v128.load(out, 32);
    let d = v128.load(out, 48);
    let codes = CODES + (i >> 2);
    for (let row = 0; row < rows; row++) {
      const scale = v128.load_splat<f64>(BLOCK_SCALES + row * 8);
      const factor = v128.load_splat<f64>(FACTORS + row * 8);
      const bytes: i32 = load<u16>(codes);
      a = f64x2.add(a, valuesOf(LEVELS_2 + ((bytes & 15) << 4), scale, factor));
      b = f64x2.add(b, valuesOf(LEVELS_2 + (((bytes >> 4) & 15) << 4), scale, factor));
      c = f64x2.add(c, valuesOf(LEVELS_2 + (((bytes >> 8) & 15) << 4), scale, factor));
      d = f64x2.add(d, valuesOf(LEVELS_2 + ((bytes >> 12) << 4), scale, factor));
      codes += TILE / 2;
    }
    v128.store(out, a);
    v128.store(out, b, 16);
    v128.store(out, c, 32);
    v128.store(out, d, 48);
  }
}

function addBlock4(rows: i32, from: i32, end: i32): void {
  for (let i = from; i < end; i += 8) {
    const out = VALUES + i * 8;
    let a = v128.load(out);
    let b = v128.load(out, 16);
    let c = v128.load(out, 32);
    let d = v128.load(out, 48);
    let codes = CODES + (i >> 1);
    for (let row = 0; row < rows; row++) {
      const scale = v128.load_splat<f64>(BLOCK_SCALES + row * 8);
      const factor = v128.load_splat<f64>(FACTORS + row * 8);
      const bytes: u32 = load<u32>(codes);
      a = f64x2.add(a, valuesOf(LEVELS_4 + ((bytes & 255) << 4), scale, factor));
      b = f64x2.add(b, valuesOf(LEVELS_4 + (((bytes >> 8) & 255) << 4), scale, factor));
      c = f64x2.add(c, valuesOf(LEVELS_4 + (((bytes >> 16) & 255) << 4), scale, factor));
      d = f64x2.add(d, valuesOf(LEVELS_4 + ((bytes >> 24) << 4), scale, factor));
      codes += TILE / 2;
    }
    v128.store(out, a);
    v128.store(out, b, 16);
    v128.store(out, c, 32);
    v128.store(out, d, 48);
  }
}

/** As roundToSteps() of grid.ts, on VALUES. */
export function roundToSteps(length: i32, factor: f64): void {
  const factors = f64x2.splat(factor);
  const most = f64x2.splat(34359738368.0);
  const least = f64x2.splat(-34359738368.0);
  const rounder = f64x2.splat(6755399441055744.0);
  for (let i = 0; i < length; i += 2) {
    const at = VALUES + i * 8;
    const exact = f64x2.mul(factors, v128.load(at));
    const clamped = f64x2.pmax(least, f64x2.pmin(most, exact));
    v128.store(at, f64x2.sub(f64x2.add(clamped, rounder), rounder));
  }
}

/** VALUES <- the values of the first row, without its factor. */
export function decode(bits: i32, blockSize: i32, length: i32): void {
  let block = 0;
  for (let from = 0; from < length; from += blockSize) {
    const end = min(from + blockSize, length);
    const scale = fromHalf(load<u16>(SCALES + block * 2));
    if (bits == 1) decodeBlock1(from, end, scale);
    else if (bits == 2) decodeBlock2(from, end, scale);
    else decodeBlock4(from, end, scale);
    block++;
  }
}

function decodeBlock1(from: i32, end: i32, scale: f64): void {
  const scales = f64x2.splat(scale);
  for (let i = from; i < end; i += 8) {
    const out = VALUES + i * 8;
    const byte: i32 = load<u8>(CODES + (i >> 3));
    const low = SIGNS + ((byte & 15) << 5);
    const high = SIGNS + ((byte >> 4) << 5);
    v128.store(out, v128.xor(scales, v128.load(low)));
    v128.store(out, v128.xor(scales, v128.load(low, 16)), 16);
    v128.store(out, v128.xor(scales, v128.load(high)), 32);
    v128.store(out, v128.xor(scales, v128.load(high, 16)), 48);
  }
}

function decodeBlock2(from: i32, end: i32, scale: f64): void {
  const scales = f64x2.splat(scale);
  for (let i = from; i < end; i += 4) {
    const out = VALUES + i * 8;
    const byte: i32 = load<u8>(CODES + (i >> 2));
    v128.store(out, f64x2.mul(v128.load(LEVELS_2 + ((byte & 15) << 4)), scales));
    v128.store(out, f64x2.mul(v128.load(LEVELS_2 + ((byte >> 4) << 4)), scales), 16);
  }
}

function decodeBlock4(from: i32, end: i32, scale: f64): void {
  const scales = f64x2.splat(scale);
  for (let i = from; i < end; i += 2) {
    const byte: i32 = load<u8>(CODES + (i >> 1));
    v128.store(VALUES + i * 8, f64x2.mul(v128.load(LEVELS_4 + (byte << 4)), scales));
  }
}

/** The binary16 of a value that is not negative, as toHalf() of half.ts. */
function toHalf(value: f64, up: bool): u32 {
  if (value >= 65504) return 0x7bff;
  let half: u32;
  if (value < 6.103515625e-5) {
    half = <u32>nearest(value * 16777216);
  } else {
    const pattern = reinterpret<u64>(value);
    const digits = reinterpret<f64>((pattern & 0xfffffffffffff) | ((<u64>1033) << 52));
    half = (<u32>(pattern >> 52) - 1009) * 1024 + <u32>nearest(digits);
  }
  if (up && fromHalf(half) < value) half++;
  return min(half, 0x7bff);
}

/** State of xoshiro128** (prng.ts), for rounding at 4 bits: whoever calls writes it, and reads it back. */
export const STATE: i32 = 768;

function nextFloat(): f64 {
  let a = load<u32>(STATE);
  let b = load<u32>(STATE, 4);
  let c = load<u32>(STATE, 8);
  let d = load<u32>(STATE, 12);
  const result = rotl<u32>(b * 5, 7) * 9;
  const t = b << 9;
  c ^= a;
  d ^= b;
  b ^= c;
  a ^= d;
  c ^= t;
  store<u32>(STATE, a);
  store<u32>(STATE, b, 4);
  store<u32>(STATE, c, 8);
  store<u32>(STATE, rotl<u32>(d, 11), 12);
  return <f64>result / 4294967296;
}

/**
 * Quantises VALUES into the first row of SCALES and CODES, and subtracts from VALUES what receivers read. Returns the
 * index of the first value that is not finite, after which nothing counts; -1 when there is none.
 */
export function encode(bits: i32, blockSize: i32, length: i32): i32 {
  // Eight coordinates at a time fill whole bytes with code 0 beyond the end.
  for (let i = length; i & 7; i++) store<f64>(VALUES + i * 8, 0);
  let block = 0;
  for (let from = 0; from < length; from += blockSize) {
    const end = min(from + blockSize, length);
    let sum: f64 = 0;
    let largest: f64 = 0;
    for (let i = from; i < end; i++) {
      const magnitude = abs(load<f64>(VALUES + i * 8));
      if (!(magnitude < Infinity)) return i;
      sum += magnitude;
      largest = max(largest, magnitude);
    }
    const half = bits == 4 ? toHalf(largest / 7, true) : toHalf(sum / <f64>(end - from), false);
    store<u16>(SCALES + block * 2, half);
    const scale = fromHalf(half);
    if (bits == 1) encodeBlock1(from, end, scale);
    else if (bits == 2) encodeBlock2(from, end, scale);
    else encodeBlock4(from, end, scale);
    block++;
  }
  return -1;
}

function encodeBlock1(from: i32, end: i32, scale: f64): void {
  const scales = f64x2.splat(scale);
  const zero = f64x2.splat(0);
  const sign = i64x2.splat(i64.MIN_VALUE);
  for (let i = from; i < end; i += 8) {
    let byte: i32 = 0;
    for (let k = 0; k < 8; k += 2) {
      const at = VALUES + (i + k) * 8;
      const values = v128.load(at);
      const isNegative = f64x2.lt(values, zero);
      byte |= i64x2.bitmask(isNegative) << k;
      const read = v128.xor(scales, v128.and(isNegative, sign));
      v128.store(at, f64x2.sub(values, read));
    }
    store<u8>(CODES + (i >> 3), byte);
  }
}

function encodeBlock2(from: i32, end: i32, scale: f64): void {
  const scales = f64x2.splat(scale);
  const near = f64x2.splat(0.5 * scale);
  const far = f64x2.splat(1.5 * scale);
  const zero = f64x2.splat(0);
  const sign = i64x2.splat(i64.MIN_VALUE);
  for (let i = from; i < end; i += 4) {
    let byte: i32 = 0;
    for (let k = 0; k < 4; k += 2) {
      const at = VALUES + (i + k) * 8;
      const values = v128.load(at);
      const isNegative = f64x2.lt(values, zero);
      const isFar = f64x2.gt(f64x2.abs(values), scales);
      const s = i64x2.bitmask(isNegative);
      const f = i64x2.bitmask(isFar);
      byte |= (((s & 1) << 1) | (f & 1) | ((s & 2) << 2) | ((f & 2) << 1)) << (2 * k);
      const read = v128.xor(v128.bitselect(far, near, isFar), v128.and(isNegative, sign));
      v128.store(at, f64x2.sub(values, read));
    }
    store<u8>(CODES + (i >> 2), byte);
  }
}

function encodeBlock4(from: i32, end: i32, scale: f64): void {
  for (let i = from; i < end; i++) {
    const at = VALUES + i * 8;
    const value = load<f64>(at);
    let level: f64 = 0;
    if (scale != 0) level = max<f64>(-7, min<f64>(7, floor(value / scale + nextFloat())));
    store<f64>(at, value - level * scale);
    const code = <i32>level + 7;
    const byte = CODES + (i >> 1);
    if (i & 1) store<u8>(byte, load<u8>(byte) | (code << 4));
    else store<u8>(byte, code);
  }
}
