/** The kernel in WebAssembly (kernels/rows.ts), and which kernel this machine runs. */
import { javascriptKernel, TILE_COORDINATES, type Kernel, type WeightedRow } from './kernel.js';
import { ROWS_WASM } from './kernels/rows.generated.js';
import type { Prng } from './prng.js';
import type { Quantised } from './quantise.js';
import type { Slice } from './slice.js';
import { instantiate } from './webassembly.js';

interface Address {
  readonly value: number;
}

/** What kernels/rows.ts exports. */
interface Exports {
  memory: { buffer: ArrayBuffer };
  TILE: Address;
  ROWS: Address;
  VALUES: Address;
  CODES: Address;
  SCALES: Address;
  FACTORS: Address;
  STATE: Address;
  start(): void;
  addRows(bits: number, rows: number, blockSize: number, length: number): void;
  roundToSteps(length: number, factor: number): void;
  decode(bits: number, blockSize: number, length: number): void;
  encode(bits: number, blockSize: number, length: number): number;
}

class WasmKernel implements Kernel {
  readonly name = 'webassembly';
  readonly #exports: Exports;
  readonly #rowsMax: number;
  readonly #values: Float64Array;
  readonly #factors: Float64Array;
  readonly #state: Uint32Array;
  /** Of each row of a call: bytes. */
  readonly #codes: readonly Uint8Array[];
  readonly #scales: readonly Uint8Array[];

  constructor(exports: Exports) {
    this.#exports = exports;
    exports.start();
    const { buffer } = exports.memory;
    const { TILE, ROWS, VALUES, CODES, SCALES, FACTORS, STATE } = exports;
    this.#rowsMax = ROWS.value;
    this.#values = new Float64Array(buffer, VALUES.value, TILE.value);
    this.#factors = new Float64Array(buffer, FACTORS.value, ROWS.value);
    this.#state = new Uint32Array(buffer, STATE.value, 4);
    const perRow = (start: number, size: number): Uint8Array[] =>
      Array.from({ length: ROWS.value }, (_, i) => new Uint8Array(buffer, start + i * size, size));
    this.#codes = perRow(CODES.value, TILE.value / 2);
    this.#scales = perRow(SCALES.value, TILE.value / 4);
  }

  steps(
    rows: readonly WeightedRow[],
    slice: Slice,
    firstBlock: number,
    length: number,
    factor: number,
  ): Float64Array {
    const { bits, blockSize } = slice;
    this.#values.fill(0, 0, (length + 7) & ~7);
    for (let first = 0; first < rows.length; first += this.#rowsMax) {
      const count = Math.min(this.#rowsMax, rows.length - first);
      for (let i = 0; i < count; i++) {
        const row = rows[first + i];
        if (row === undefined) continue;
        this.#factors[i] = row.factor;
        this.#load(row.quantised, slice, firstBlock, length, i);
      }
      this.#exports.addRows(bits, count, blockSize, length);
    }
    this.#exports.roundToSteps(length, factor);
    return this.#values.subarray(0, length);
  }

  decode(row: Quantised, slice: Slice, firstBlock: number, out: Float64Array): void {
    const { bits, blockSize } = slice;
    // A caller may want more than a tile at a time.
    const most = Math.floor(TILE_COORDINATES / blockSize) * blockSize;
    for (let start = 0; start < out.length; start += most) {
      const length = Math.min(most, out.length - start);
      this.#load(row, slice, firstBlock + start / blockSize, length, 0);
      this.#exports.decode(bits, blockSize, length);
      out.set(this.#values.subarray(0, length), start);
    }
  }

  take(
    values: Float64Array,
    slice: Slice,
    random: Prng,
    { scales, codes }: Quantised,
    firstBlock: number,
  ): void {
    const { bits, blockSize } = slice;
    const { length } = values;
    const [rowScales, rowCodes] = [this.#scales[0], this.#codes[0]];
    if (rowScales === undefined || rowCodes === undefined) return;
    this.#values.set(values);
    this.#state.set(random.state);
    const bad = this.#exports.encode(bits, blockSize, length);
    if (bad >= 0) throw new RangeError(`cannot quantise ${values[bad] ?? 'nothing'}`);
    random.state.set(this.#state);
    values.set(this.#values.subarray(0, length));
    scales.set(rowScales.subarray(0, 2 * Math.ceil(length / blockSize)), 2 * firstBlock);
    const position = (firstBlock * blockSize * bits) / 8;
    codes.set(rowCodes.subarray(0, Math.ceil((length * bits) / 8)), position);
  }

  /** Copies a tile of `row` into the place of row `index`. */
  #load(
    { scales, codes }: Quantised,
    { bits, blockSize }: Slice,
    firstBlock: number,
    length: number,
    index: number,
  ): void {
    const position = (firstBlock * blockSize * bits) / 8;
    const end = position + Math.ceil((length * bits) / 8);
    this.#codes[index]?.set(codes.subarray(position, end));
    const blocks = Math.ceil(length / blockSize);
    this.#scales[index]?.set(scales.subarray(2 * firstBlock, 2 * (firstBlock + blocks)));
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
