/**
 * The largest of a tile's rotated values, as signs of one scale s = factor x mean|z|; the others are read as 0. Their
 * places are written as the gaps between them, which are geometrically distributed, in Golomb codes (Golomb 1966): within
 * half a percent of their entropy, without a table or state. A tile has its bytes to itself, so that it is read alone.
 * Every content of these bytes can be read, and reading takes at most one step for each coordinate.
 */
import { fromHalf, toHalf } from './half.js';
import type { Quantised } from './quantise.js';
import { BLOCK_COORDINATES, TILE_BLOCKS, TILE_COORDINATES, type RowFormat } from './row-format.js';
import { scaleAt, setScale } from './scales.js';

/** Ones of a quotient that are read at a time: with what follows them they fit into 32 bits. */
const ONES_MAX = 24;

/** How a gap is written: gap / divisor in unary, ones and a zero; the remainder in `bits`, or one less below `short`. */
interface Golomb {
  readonly divisor: number;
  readonly bits: number;
  readonly short: number;
  /** Bits of each gap, with the sign that follows it: [TILE_COORDINATES]. */
  readonly lengths: Uint16Array;
}

const known = new Map<number, Golomb>();
/** Of the tile at hand: places of values, twice, with 1 added where the value is negative. */
const entries = new Int32Array(TILE_COORDINATES);
/** Those that may be among the largest: places and magnitudes. */
const places = new Int32Array(TILE_COORDINATES);
const magnitudes = new Float64Array(TILE_COORDINATES);

/**
 * Writes the rotated values of whole blocks, from block `firstBlock` on, and replaces them by what receivers read. Whole
 * tiles, but for the last one of a row.
 */
export function encodeSparse(
  rotated: Float64Array,
  { code }: RowFormat,
  { scales, codes }: Quantised,
  firstBlock: number,
): void {
  const golomb = golombOf(code.divisor);
  for (let start = 0, block = firstBlock; start < rotated.length; block += TILE_BLOCKS) {
    const tile = rotated.subarray(start, start + TILE_COORDINATES);
    const from = block * code.codeBytes;
    const bytes = codes.subarray(from, from + (tile.length / BLOCK_COORDINATES) * code.codeBytes);
    const count = choose(tile, golomb, 8 * bytes.length);
    const half = toHalf(count === 0 ? 0 : (code.factor / count) * sumOfEntries(tile, count));
    setScale(scales, block / TILE_BLOCKS, half);
    writeEntries(bytes, golomb, count);
    tile.fill(0);
    addEntries(tile, count, fromHalf(half));
    start += tile.length;
  }
}

/** rotated <- rotated + factor x what a row says, from block `firstBlock`, the first of a tile, on. */
export function addSparse(
  { scales, codes }: Quantised,
  format: RowFormat,
  factor: number,
  rotated: Float64Array,
  firstBlock: number,
): void {
  for (let start = 0, block = firstBlock; start < rotated.length; block += TILE_BLOCKS) {
    const tile = rotated.subarray(start, start + TILE_COORDINATES);
    const count = readEntries(codes, format, block, tile.length);
    addEntries(tile, count, factor * scaleAt(scales, block / TILE_BLOCKS));
    start += tile.length;
  }
}

/** `sum` + the squared lengths of the tiles from block `from` to before `to`, one by one: count x s^2, which is exact. */
export function addSparseSquares(
  { scales, codes }: Quantised,
  format: RowFormat,
  from: number,
  to: number,
  sum: number,
): number {
  for (let block = from; block < to; block += TILE_BLOCKS) {
    const scale = scaleAt(scales, block / TILE_BLOCKS);
    const blocks = Math.min(TILE_BLOCKS, format.blocks - block);
    sum += scale * scale * readEntries(codes, format, block, BLOCK_COORDINATES * blocks);
  }
  return sum;
}

/**
 * sums <- sums + the dot product of each of `rows` with each of `others` in the tiles from block `from` to before `to`, one by
 * one: s s' x the number of places that both name with one sign, less those with two, which is exact. [rows][others] row-major.
 */
export function addSparseProducts(
  rows: readonly Quantised[],
  others: readonly Quantised[],
  format: RowFormat,
  from: number,
  to: number,
  sums: Float64Array,
): void {
  const count = others.length;
  const signs = new Int8Array(TILE_COORDINATES * count);
  const agreeing = new Int32Array(count);
  for (let block = from; block < to; block += TILE_BLOCKS) {
    const length = BLOCK_COORDINATES * Math.min(TILE_BLOCKS, format.blocks - block);
    signs.fill(0);
    for (const [k, { codes }] of others.entries())
      for (let n = readEntries(codes, format, block, length) - 1; n >= 0; n--) {
        const entry = entries[n] ?? 0;
        signs[(entry >> 1) * count + k] = entry & 1 ? -1 : 1;
      }
    for (const [i, row] of rows.entries()) {
      agreeing.fill(0);
      for (let n = readEntries(row.codes, format, block, length) - 1; n >= 0; n--) {
        const entry = entries[n] ?? 0;
        const sign = entry & 1 ? -1 : 1;
        const at = (entry >> 1) * count;
        for (let k = 0; k < count; k++)
          agreeing[k] = (agreeing[k] ?? 0) + sign * (signs[at + k] ?? 0);
      }
      const scale = scaleAt(row.scales, block / TILE_BLOCKS);
      for (const [k, other] of others.entries()) {
        const scales = scale * scaleAt(other.scales, block / TILE_BLOCKS);
        sums[i * count + k] = (sums[i * count + k] ?? 0) + scales * (agreeing[k] ?? 0);
      }
    }
  }
}

/** tile <- tile + value x the signs of `entries`. */
function addEntries(tile: Float64Array, count: number, value: number): void {
  for (let i = 0; i < count; i++) {
    const entry = entries[i] ?? 0;
    const place = entry >> 1;
    tile[place] = (tile[place] ?? 0) + (entry & 1 ? -value : value);
  }
}

function sumOfEntries(tile: Float64Array, count: number): number {
  let sum = 0;
  for (let i = 0; i < count; i++) sum += Math.abs(tile[(entries[i] ?? 0) >> 1] ?? 0);
  return sum;
}

/**
 * Reads the tile whose first block is `block` into `entries`, as far as its bytes and its `length` coordinates go, and
 * returns their number. An entry that is cut off at the end of the bytes is none.
 */
function readEntries(
  codes: Uint8Array,
  { code, blocks }: RowFormat,
  block: number,
  length: number,
): number {
  const { divisor, bits, short } = golombOf(code.divisor);
  const end = 8 * code.codeBytes * Math.min(block + TILE_BLOCKS, blocks);
  let position = 8 * code.codeBytes * block;
  let [count, place] = [0, 0];
  for (;;) {
    const byte = position >>> 3;
    const shift = position & 7;
    const word =
      ((codes[byte] ?? 0) << 24) |
      ((codes[byte + 1] ?? 0) << 16) |
      ((codes[byte + 2] ?? 0) << 8) |
      (codes[byte + 3] ?? 0);
    const window = (word << shift) | ((codes[byte + 4] ?? 0) >>> (8 - shift));
    const ones = Math.clz32(~window);
    if (ones > ONES_MAX) {
      position += ONES_MAX;
      place += ONES_MAX * divisor;
      if (position >= end || place >= length) return count;
      continue;
    }
    const rest = window << (ones + 1);
    const first = rest >>> (33 - bits);
    const isShort = first < short;
    const width = isShort ? bits - 1 : bits;
    position += ones + width + 2;
    place += ones * divisor + (isShort ? first : (rest >>> (32 - bits)) - short);
    if (position > end || place >= length) return count;
    entries[count++] = (place << 1) | ((rest << width) >>> 31);
    place += 1;
  }
}

/** Writes `count` entries; what is left of `bytes` is ones, which are no entry. */
function writeEntries(bytes: Uint8Array, { divisor, bits, short }: Golomb, count: number): void {
  bytes.fill(0xff);
  let [position, next] = [0, 0];
  const write = (value: number, width: number): void => {
    for (let bit = width - 1; bit >= 0; bit--, position++)
      if (((value >>> bit) & 1) === 0) {
        const byte = position >>> 3;
        bytes[byte] = (bytes[byte] ?? 0) & ~(0x80 >>> (position & 7));
      }
  };
  for (let i = 0; i < count; i++) {
    const entry = entries[i] ?? 0;
    const gap = (entry >> 1) - next;
    const quotient = Math.floor(gap / divisor);
    const remainder = gap - quotient * divisor;
    position += quotient;
    write(0, 1);
    if (remainder < short) write(remainder, bits - 1);
    else write(remainder + short, bits);
    write(entry & 1, 1);
    next = (entry >> 1) + 1;
  }
}

/**
 * Puts the largest values of `tile` into `entries`, as many as `bits` take, and returns their number. Of equal ones the
 * first count.
 */
function choose(tile: Float64Array, golomb: Golomb, bits: number): number {
  let [candidates, high] = [0, 0];
  for (let i = 0; i < tile.length; i++) {
    const magnitude = Math.abs(tile[i] ?? 0);
    if (magnitude === 0) continue;
    places[candidates] = i;
    magnitudes[candidates++] = magnitude;
    if (magnitude > high) high = magnitude;
  }
  if (cost(candidates, 0, golomb) <= bits) return takeCandidates(tile, candidates, 0, 0);
  // Those above `high` fit, those above `low` do not: they are the candidates.
  let [low, above] = [0, 0];
  while (candidates - above > 1) {
    const middle = low + (high - low) / 2;
    // What is left between the two is equal.
    if (middle <= low || middle >= high) break;
    if (cost(candidates, middle, golomb) <= bits) {
      high = middle;
      above = countAbove(candidates, middle);
    } else {
      low = middle;
      candidates = keepAbove(candidates, middle);
    }
  }
  // One alone between the two does not fit.
  let [fits, beyond] = [0, candidates - above > 1 ? tile.length : 0];
  while (beyond - fits > 1) {
    const middle = (fits + beyond) >>> 1;
    if (cost(candidates, high, golomb, middle) <= bits) fits = middle;
    else beyond = middle;
  }
  return takeCandidates(tile, candidates, high, fits);
}

/** Bits of the candidates above `bound`, and of those that come before place `before`. */
function cost(candidates: number, bound: number, { lengths }: Golomb, before = 0): number {
  let [sum, next] = [0, 0];
  for (let i = 0; i < candidates; i++) {
    const place = places[i] ?? 0;
    if ((magnitudes[i] ?? 0) <= bound && place >= before) continue;
    sum += lengths[place - next] ?? 0;
    next = place + 1;
  }
  return sum;
}

function countAbove(candidates: number, bound: number): number {
  let count = 0;
  for (let i = 0; i < candidates; i++) if ((magnitudes[i] ?? 0) > bound) count += 1;
  return count;
}

/** Drops the other candidates, and returns how many are left. */
function keepAbove(candidates: number, bound: number): number {
  let kept = 0;
  for (let i = 0; i < candidates; i++) {
    const magnitude = magnitudes[i] ?? 0;
    if (magnitude <= bound) continue;
    places[kept] = places[i] ?? 0;
    magnitudes[kept++] = magnitude;
  }
  return kept;
}

/** Makes entries of the candidates above `bound`, and of those that come before place `before`. */
function takeCandidates(
  tile: Float64Array,
  candidates: number,
  bound: number,
  before: number,
): number {
  let count = 0;
  for (let i = 0; i < candidates; i++) {
    const place = places[i] ?? 0;
    if ((magnitudes[i] ?? 0) <= bound && place >= before) continue;
    entries[count++] = (place << 1) | ((tile[place] ?? 0) < 0 ? 1 : 0);
  }
  return count;
}

function golombOf(divisor: number): Golomb {
  const found = known.get(divisor);
  if (found !== undefined) return found;
  const bits = 32 - Math.clz32(divisor - 1);
  const short = 2 ** bits - divisor;
  const lengths = Uint16Array.from(
    { length: TILE_COORDINATES },
    (_, gap) => Math.floor(gap / divisor) + 2 + (gap % divisor < short ? bits - 1 : bits),
  );
  const golomb = { divisor, bits, short, lengths };
  known.set(divisor, golomb);
  return golomb;
}
