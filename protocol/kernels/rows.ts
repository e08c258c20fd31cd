/**
 * The inner loops of codec and fold in AssemblyScript, compiled by `npm run generate:kernels`. They give the bits of the
 * loops in JavaScript (signs.ts, sparse.ts, rotation.ts, grid.ts): lanes never mix, and no multiplication is fused with
 * an addition.
 *
 * Whoever calls copies whole blocks into the memory below, and reads the result from there.
 */

/** Coordinates of a tile and of a block, and rows that are held at a time: as in row-format.ts and kernel.ts. */
export const TILE: i32 = 4096;
const BLOCK: i32 = 256;
const ROWS: i32 = 32;

/** Signs of four coordinates for each half of a byte: [16] of four sign bits in float64. */
const SIGN_BITS: i32 = 1024;
/** float64 [ROWS]: of the block at hand. */
const BLOCK_SCALES: i32 = SIGN_BITS + 16 * 32;
/** float64 [ROWS]: what the values of each row are multiplied by. */
export const FACTORS: i32 = BLOCK_SCALES + ROWS * 8;
/** float64 [BLOCK]: the signs of the rotation. */
export const SIGNS: i32 = FACTORS + ROWS * 8;
/** float64 [TILE]: what is encoded; afterwards, what of it is left. */
export const HELD: i32 = SIGNS + BLOCK * 8;
/** float64 [TILE]: what is rotated, summed or decoded. */
export const VALUES: i32 = HELD + TILE * 8;
/** [ROWS][TILE / 8] bytes: the codes of each row. */
export const CODES: i32 = VALUES + TILE * 8;
/** [ROWS][TILE / BLOCK] binary16: the scales of each row. */
export const SCALES: i32 = CODES + ROWS * (TILE / 8);
/** [TILE / 8] bytes and [TILE / BLOCK] binary16: the row that each of those is multiplied by. */
export const OTHER_CODES: i32 = SCALES + ROWS * (TILE / BLOCK) * 2;
export const OTHER_SCALES: i32 = OTHER_CODES + TILE / 8;
/** float64 [ROWS]: dot products with that row. */
export const PRODUCTS: i32 = OTHER_SCALES + (TILE / BLOCK) * 2;
/** float64 [ROWS][TILE / BLOCK] and [TILE / BLOCK]: the scales of both. */
const WIDE_SCALES: i32 = PRODUCTS + ROWS * 8;
const OTHER_WIDE_SCALES: i32 = WIDE_SCALES + ROWS * (TILE / BLOCK) * 8;

/** 1 / 16: see rotation.ts. */
const UNIT: f64 = 0.0625;

/** Fills the table; once, before anything else. */
export function start(): void {
  for (let half = 0; half < 16; half++) {
    for (let i = 0; i < 4; i++) {
      const sign: u64 = (<u64>((half >> i) & 1)) << 63;
      store<u64>(SIGN_BITS + half * 32 + i * 8, sign);
    }
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

/** VALUES <- VALUES + FACTORS x the rotated values of each row, in their order. */
export function addRows(rows: i32, length: i32): void {
  for (let from = 0; from < length; from += BLOCK) {
    const scales = SCALES + (from / BLOCK) * 2;
    for (let row = 0; row < rows; row++) {
      const scale = fromHalf(load<u16>(scales + row * (TILE / BLOCK) * 2));
      store<f64>(BLOCK_SCALES + row * 8, load<f64>(FACTORS + row * 8) * scale);
    }
    addBlock(rows, from);
  }
}

function addBlock(rows: i32, from: i32): void {
  for (let i = from; i < from + BLOCK; i += 8) {
    const out = VALUES + i * 8;
    let a = v128.load(out);
    let b = v128.load(out, 16);
    let c = v128.load(out, 32);
    let d = v128.load(out, 48);
    let codes = CODES + (i >> 3);
    for (let row = 0; row < rows; row++) {
      const value = v128.load_splat<f64>(BLOCK_SCALES + row * 8);
      const byte: i32 = load<u8>(codes);
      const low = SIGN_BITS + ((byte & 15) << 5);
      const high = SIGN_BITS + ((byte >> 4) << 5);
      a = f64x2.add(a, v128.xor(value, v128.load(low)));
      b = f64x2.add(b, v128.xor(value, v128.load(low, 16)));
      c = f64x2.add(c, v128.xor(value, v128.load(high)));
      d = f64x2.add(d, v128.xor(value, v128.load(high, 16)));
      codes += TILE / 8;
    }
    v128.store(out, a);
    v128.store(out, b, 16);
    v128.store(out, c, 32);
    v128.store(out, d, 48);
  }
}

/** As ONES_MAX of sparse.ts. */
const ONES_MAX: i32 = 24;

/**
 * Reads the entries of a tile from the first `bytes` of CODES, as readEntries() of sparse.ts, adds `value` with their
 * signs to VALUES, and returns their number. `divisor`: 2 to 64.
 */
export function addSparse(bytes: i32, length: i32, divisor: i32, value: f64): i32 {
  const bits: i32 = 32 - clz(divisor - 1);
  const short: i32 = (1 << bits) - divisor;
  const end = 8 * bytes;
  let position = 0;
  let place = 0;
  let count = 0;
  while (true) {
    const word = bswap<u64>(load<u64>(CODES + (position >> 3)));
    const window = <u32>((word << (position & 7)) >> 32);
    const ones = <i32>clz<u32>(~window);
    if (ones > ONES_MAX) {
      position += ONES_MAX;
      place += ONES_MAX * divisor;
      if (position >= end || place >= length) return count;
      continue;
    }
    const rest = window << (ones + 1);
    const first = <i32>(rest >> (33 - bits));
    // Without branches, which no processor could foresee.
    const isShort = first < short;
    const width = bits - <i32>isShort;
    position += ones + width + 2;
    place += ones * divisor + select(first, <i32>(rest >> (32 - bits)) - short, isShort);
    if (position > end || place >= length) return count;
    const at = VALUES + place * 8;
    const sign = (<u64>((rest << width) >> 31)) << 63;
    store<f64>(at, load<f64>(at) + reinterpret<f64>(reinterpret<u64>(value) ^ sign));
    count += 1;
    place += 1;
  }
}

/** Makes the scales of the first rows ready for addProducts(). */
export function widenScales(rows: i32): void {
  widen(SCALES, WIDE_SCALES, rows * (TILE / BLOCK));
}

function widen(halves: i32, out: i32, count: i32): void {
  for (let i = 0; i < count; i++) store<f64>(out + i * 8, fromHalf(load<u16>(halves + i * 2)));
}

/** PRODUCTS <- PRODUCTS + the dot product of the other row and each of the first rows, block by block: see signs.ts. */
export function addProducts(rows: i32, blocks: i32): void {
  widen(OTHER_SCALES, OTHER_WIDE_SCALES, blocks);
  for (let row = 0; row < rows; row++) {
    let sum = load<f64>(PRODUCTS + row * 8);
    for (let block = 0; block < blocks; block++) {
      const a = CODES + row * (TILE / 8) + block * (BLOCK / 8);
      const b = OTHER_CODES + block * (BLOCK / 8);
      const differing =
        popcnt<i64>(load<i64>(a) ^ load<i64>(b)) +
        popcnt<i64>(load<i64>(a, 8) ^ load<i64>(b, 8)) +
        popcnt<i64>(load<i64>(a, 16) ^ load<i64>(b, 16)) +
        popcnt<i64>(load<i64>(a, 24) ^ load<i64>(b, 24));
      const scale = load<f64>(WIDE_SCALES + (row * (TILE / BLOCK) + block) * 8);
      const otherScale = load<f64>(OTHER_WIDE_SCALES + block * 8);
      sum += scale * otherScale * <f64>(BLOCK - 2 * <i32>differing);
    }
    store<f64>(PRODUCTS + row * 8, sum);
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

/** VALUES <- H VALUES, block by block: transform() of rotation.ts, two butterflies at a time. */
function transform(length: i32): void {
  for (let block = VALUES; block < VALUES + length * 8; block += BLOCK * 8) {
    const end = block + BLOCK * 8;
    for (let at = block; at < end; at += 32) transformFour(at);
    for (let distance = 4 * 8; distance < BLOCK * 8; distance *= 2) {
      for (let start = block; start < end; start += 2 * distance) {
        for (let at = start; at < start + distance; at += 16) {
          const a = v128.load(at);
          const b = v128.load(at + distance);
          v128.store(at, f64x2.add(a, b));
          v128.store(at + distance, f64x2.sub(a, b));
        }
      }
    }
  }
}

/** The distances 1 and 2, within four values. */
function transformFour(at: i32): void {
  const p = load<f64>(at);
  const q = load<f64>(at, 8);
  const r = load<f64>(at, 16);
  const s = load<f64>(at, 24);
  const a = p + q;
  const b = p - q;
  const c = r + s;
  const d = r - s;
  store<f64>(at, a + c);
  store<f64>(at, b + d, 8);
  store<f64>(at, a - c, 16);
  store<f64>(at, b - d, 24);
}

/** to <- from x the signs x 1/16. */
function sign(from: i32, to: i32, length: i32): void {
  const unit = f64x2.splat(UNIT);
  for (let i = 0; i < length; i += 2) {
    const factor = f64x2.mul(v128.load(SIGNS + (i & (BLOCK - 1)) * 8), unit);
    v128.store(to + i * 8, f64x2.mul(v128.load(from + i * 8), factor));
  }
}

/** As rotateBack() of rotation.ts, on VALUES. */
export function rotateBack(length: i32): void {
  transform(length);
  sign(VALUES, VALUES, length);
}

/** The binary16 of a value that is not negative, as toHalf() of half.ts. */
function toHalf(value: f64): u32 {
  if (value >= 65504) return 0x7bff;
  let half: u32;
  if (value < 6.103515625e-5) {
    half = <u32>nearest(value * 16777216);
  } else {
    const pattern = reinterpret<u64>(value);
    const digits = reinterpret<f64>((pattern & 0xfffffffffffff) | ((<u64>1033) << 52));
    half = (<u32>(pattern >> 52) - 1009) * 1024 + <u32>nearest(digits);
  }
  return min(half, 0x7bff);
}

/**
 * Quantises HELD into the first row of SCALES and CODES, and subtracts from HELD what receivers read. Returns whether
 * all of it is finite; if not, nothing counts.
 */
export function encode(length: i32, scaleFactor: f64): bool {
  sign(HELD, VALUES, length);
  transform(length);
  for (let from = 0; from < length; from += BLOCK) {
    let sum: f64 = 0;
    for (let i = from; i < from + BLOCK; i++) {
      const magnitude = abs(load<f64>(VALUES + i * 8));
      if (!(magnitude < Infinity)) return false;
      sum += magnitude;
    }
    const half = toHalf((scaleFactor / <f64>BLOCK) * sum);
    store<u16>(SCALES + (from / BLOCK) * 2, half);
    encodeBlock(from, fromHalf(half));
  }
  subtract(length);
  return true;
}

/** VALUES <- the rotated values of HELD. Returns whether all of them are finite. */
export function rotate(length: i32): bool {
  sign(HELD, VALUES, length);
  transform(length);
  for (let i = 0; i < length; i++) if (!(abs(load<f64>(VALUES + i * 8)) < Infinity)) return false;
  return true;
}

/** HELD <- HELD - VALUES rotated back. */
export function subtract(length: i32): void {
  rotateBack(length);
  for (let i = 0; i < length; i += 2) {
    const at = HELD + i * 8;
    v128.store(at, f64x2.sub(v128.load(at), v128.load(VALUES + i * 8)));
  }
}

/** The signs of a block into CODES, and what they stand for in the place of its values. */
function encodeBlock(from: i32, scale: f64): void {
  const scales = f64x2.splat(scale);
  const zero = f64x2.splat(0);
  const signBit = i64x2.splat(i64.MIN_VALUE);
  for (let i = from; i < from + BLOCK; i += 8) {
    let byte: i32 = 0;
    for (let k = 0; k < 8; k += 2) {
      const at = VALUES + (i + k) * 8;
      const isNegative = f64x2.lt(v128.load(at), zero);
      byte |= i64x2.bitmask(isNegative) << k;
      v128.store(at, v128.xor(scales, v128.and(isNegative, signBit)));
    }
    store<u8>(CODES + (i >> 3), byte);
  }
}
