/** The kernel in WebAssembly (kernels/rows.ts), and which kernel this machine runs. */
import { javascriptKernel, ROWS_MAX, type Kernel, type WeightedRow } from './kernel.js';
import { ROWS_WASM } from './kernels/rows.generated.js';
import { addProducts, addSquares, wholeBlocks, type Quantised } from './quantise.js';
import {
  BLOCK_COORDINATES,
  SCALE_BYTES,
  SIGN_BYTES,
  TILE_BLOCKS,
  TILE_COORDINATES,
  type RowFormat,
} from './row-format.js';
import { scaleAt } from './scales.js';
import { encodeSparse } from './sparse.js';
import { instantiate } from './webassembly.js';

interface Address {
  readonly value: number;
}

/** What kernels/rows.ts exports. */
interface Exports {
  memory: { buffer: ArrayBuffer };
  TILE: Address;
  SIGNS: Address;
  HELD: Address;
  VALUES: Address;
  CODES: Address;
  SCALES: Address;
  FACTORS: Address;
  OTHER_CODES: Address;
  OTHER_SCALES: Address;
  PRODUCTS: Address;
  start(): void;
  addRows(rows: number, length: number): void;
  rotateBack(length: number): void;
  widenScales(rows: number): void;
  addProducts(rows: number, blocks: number): void;
  roundToSteps(length: number, factor: number): void;
  encode(length: number, scaleFactor: number): number;
  addSparse(bytes: number, length: number, divisor: number, value: number): number;
  rotate(length: number): number;
  subtract(length: number): void;
}

/** Bytes of the signs and of the scales of a tile. */
const TILE_CODE_BYTES = TILE_BLOCKS * SIGN_BYTES;
const TILE_SCALE_BYTES = TILE_BLOCKS * SCALE_BYTES;

class WasmKernel implements Kernel {
  readonly name = 'webassembly';
  readonly #exports: Exports;
  readonly #signs: Float64Array;
  readonly #held: Float64Array;
  readonly #values: Float64Array;
  readonly #factors: Float64Array;
  /** Of each row of a call: bytes. */
  readonly #codes: readonly Uint8Array[];
  readonly #scales: readonly Uint8Array[];
  readonly #otherCodes: Uint8Array;
  readonly #otherScales: Uint8Array;
  readonly #products: Float64Array;

  constructor(exports: Exports) {
    this.#exports = exports;
    exports.start();
    const { buffer } = exports.memory;
    const { TILE, SIGNS, HELD, VALUES, CODES, SCALES, FACTORS } = exports;
    const { OTHER_CODES, OTHER_SCALES, PRODUCTS } = exports;
    this.#signs = new Float64Array(buffer, SIGNS.value, BLOCK_COORDINATES);
    this.#held = new Float64Array(buffer, HELD.value, TILE.value);
    this.#values = new Float64Array(buffer, VALUES.value, TILE.value);
    this.#factors = new Float64Array(buffer, FACTORS.value, ROWS_MAX);
    const perRow = (start: number, size: number): Uint8Array[] =>
      Array.from({ length: ROWS_MAX }, (_, i) => new Uint8Array(buffer, start + i * size, size));
    this.#codes = perRow(CODES.value, TILE_CODE_BYTES);
    this.#scales = perRow(SCALES.value, TILE_SCALE_BYTES);
    this.#otherCodes = new Uint8Array(buffer, OTHER_CODES.value, TILE_CODE_BYTES);
    this.#otherScales = new Uint8Array(buffer, OTHER_SCALES.value, TILE_SCALE_BYTES);
    this.#products = new Float64Array(buffer, PRODUCTS.value, ROWS_MAX);
  }

  steps(
    rows: readonly WeightedRow[],
    format: RowFormat,
    firstBlock: number,
    length: number,
    factor: number,
  ): Float64Array {
    this.#sum(rows, format, firstBlock, length);
    this.#exports.roundToSteps(wholeBlocks(length), factor);
    return this.#values.subarray(0, length);
  }

  addProducts(
    rows: readonly Quantised[],
    others: readonly Quantised[],
    format: RowFormat,
    from: number,
    to: number,
    sums: Float64Array,
  ): void {
    if (format.code.divisor !== 0) {
      addProducts(rows, others, format, from, to, sums);
      return;
    }
    const count = others.length;
    if (count > ROWS_MAX) throw new RangeError(`${count} rows are more than ${ROWS_MAX}`);
    for (const [k, other] of others.entries()) this.#load(other, from, to - from, k);
    this.#exports.widenScales(count);
    for (const [i, { codes, scales }] of rows.entries()) {
      this.#otherCodes.set(codes.subarray(SIGN_BYTES * from, SIGN_BYTES * to));
      this.#otherScales.set(scales.subarray(SCALE_BYTES * from, SCALE_BYTES * to));
      const own = sums.subarray(i * count, (i + 1) * count);
      this.#products.set(own);
      this.#exports.addProducts(count, to - from);
      own.set(this.#products.subarray(0, count));
    }
  }

  decode(quantised: Quantised, format: RowFormat, firstBlock: number, out: Float64Array): void {
    const rows = [{ quantised, factor: 1 }];
    // A caller may want more than a tile at a time.
    for (let start = 0; start < out.length; start += TILE_COORDINATES) {
      const length = Math.min(TILE_COORDINATES, out.length - start);
      this.#sum(rows, format, firstBlock + start / BLOCK_COORDINATES, length);
      out.set(this.#values.subarray(0, length), start);
    }
  }

  take(values: Float64Array, format: RowFormat, out: Quantised, firstBlock: number): void {
    const whole = wholeBlocks(values.length);
    this.#signs.set(format.signs);
    this.#held.set(values);
    this.#held.fill(0, values.length, whole);
    const isFinite =
      format.code.divisor === 0
        ? this.#takeSigns(format, out, firstBlock, whole)
        : this.#takeSparse(format, out, firstBlock, whole);
    if (!isFinite) throw new RangeError('cannot quantise values that are not finite');
    values.set(this.#held.subarray(0, values.length));
  }

  addSquares(row: Quantised, format: RowFormat, from: number, to: number, sum: number): number {
    if (format.code.divisor === 0) return addSquares(row, format, from, to, sum);
    for (let block = from; block < to; block += TILE_BLOCKS) {
      const scale = scaleAt(row.scales, block / TILE_BLOCKS);
      sum += scale * scale * this.#addSparse(row, format, block, TILE_COORDINATES, 0);
    }
    return sum;
  }

  #takeSigns(
    { code }: RowFormat,
    { scales, codes }: Quantised,
    firstBlock: number,
    whole: number,
  ): boolean {
    if (this.#exports.encode(whole, code.factor) === 0) return false;
    const blocks = whole / BLOCK_COORDINATES;
    const [rowScales, rowCodes] = [this.#scales[0], this.#codes[0]];
    if (rowScales !== undefined)
      scales.set(rowScales.subarray(0, SCALE_BYTES * blocks), SCALE_BYTES * firstBlock);
    if (rowCodes !== undefined)
      codes.set(rowCodes.subarray(0, SIGN_BYTES * blocks), SIGN_BYTES * firstBlock);
    return true;
  }

  #takeSparse(format: RowFormat, out: Quantised, firstBlock: number, whole: number): boolean {
    if (this.#exports.rotate(whole) === 0) return false;
    encodeSparse(this.#values.subarray(0, whole), format, out, firstBlock);
    this.#exports.subtract(whole);
    return true;
  }

  /** #values <- the sum of `rows`, from 0 in their order, rotated back. */
  #sum(rows: readonly WeightedRow[], format: RowFormat, firstBlock: number, length: number): void {
    const whole = wholeBlocks(length);
    this.#signs.set(format.signs);
    this.#values.fill(0, 0, whole);
    if (format.code.divisor === 0) this.#addSigns(rows, firstBlock, whole);
    else
      for (const { quantised, factor } of rows) {
        const value = factor * scaleAt(quantised.scales, firstBlock / TILE_BLOCKS);
        this.#addSparse(quantised, format, firstBlock, whole, value);
      }
    this.#exports.rotateBack(whole);
  }

  /** #values <- #values + value x the signs of the tile from `firstBlock` on. Returns how many there are. */
  #addSparse(
    { codes }: Quantised,
    { code, blocks }: RowFormat,
    firstBlock: number,
    length: number,
    value: number,
  ): number {
    const end = Math.min(firstBlock + TILE_BLOCKS, blocks);
    const tile = codes.subarray(code.codeBytes * firstBlock, code.codeBytes * end);
    this.#codes[0]?.set(tile);
    const within = Math.min(length, (end - firstBlock) * BLOCK_COORDINATES);
    return this.#exports.addSparse(tile.length, within, code.divisor, value);
  }

  #addSigns(rows: readonly WeightedRow[], firstBlock: number, whole: number): void {
    for (let first = 0; first < rows.length; first += ROWS_MAX) {
      const count = Math.min(ROWS_MAX, rows.length - first);
      for (let i = 0; i < count; i++) {
        const row = rows[first + i];
        if (row === undefined) continue;
        this.#factors[i] = row.factor;
        this.#load(row.quantised, firstBlock, whole / BLOCK_COORDINATES, i);
      }
      this.#exports.addRows(count, whole);
    }
  }

  /** Copies some blocks of `row` into the place of row `index`. */
  #load({ scales, codes }: Quantised, firstBlock: number, blocks: number, index: number): void {
    const end = firstBlock + blocks;
    this.#codes[index]?.set(codes.subarray(SIGN_BYTES * firstBlock, SIGN_BYTES * end));
    this.#scales[index]?.set(scales.subarray(SCALE_BYTES * firstBlock, SCALE_BYTES * end));
  }
}

let loaded: Kernel | null | undefined;

/** Null where WebAssembly is missing or has no SIMD. */
export function webassemblyKernel(): Kernel | null {
  loaded ??= load();
  return loaded;
}

/** The fastest kernel that this machine runs. */
export function fastestKernel(): Kernel {
  return webassemblyKernel() ?? javascriptKernel;
}

function load(): Kernel | null {
  const exports = instantiate(ROWS_WASM);
  return exports === null ? null : new WasmKernel(exports as Exports);
}
