/**
 * The inner loops of codec and fold, over one tile of a row. Here they are in JavaScript, which is the reference;
 * wasm-kernel.ts has the same in WebAssembly, with the same bits.
 */
import { roundToSteps } from './grid.js';
import {
  addProducts,
  addRow,
  addSquares,
  dequantise,
  takeRow,
  wholeBlocks,
  type Quantised,
} from './quantise.js';
import { rotateBack } from './rotation.js';
import { TILE_COORDINATES, type RowFormat } from './row-format.js';

/** Rows that a kernel holds at a time. */
export const ROWS_MAX = 32;

/** A row, and what each of its values is multiplied by. */
export interface WeightedRow {
  readonly quantised: Quantised;
  readonly factor: number;
}

export interface Kernel {
  readonly name: 'javascript' | 'webassembly';
  /**
   * The sum of `rows`, from 0 in their order, times `factor`, in whole steps (grid.ts): the `length` coordinates, at
   * most a tile, from block `firstBlock` on. What it returns holds until the next call.
   */
  steps(
    rows: readonly WeightedRow[],
    format: RowFormat,
    firstBlock: number,
    length: number,
    factor: number,
  ): Float64Array;
  /** As addProducts() of quantise.ts, over a tile at most; at most ROWS_MAX `others`. */
  addProducts: typeof addProducts;
  /** out <- what receivers read, from block `firstBlock` on. */
  decode(row: Quantised, format: RowFormat, firstBlock: number, out: Float64Array): void;
  /**
   * Quantises `values`, at most a tile, into their place in `out`, and subtracts from them what receivers will read.
   */
  take(values: Float64Array, format: RowFormat, out: Quantised, firstBlock: number): void;
  /** As addSquares() of quantise.ts. */
  addSquares(row: Quantised, format: RowFormat, from: number, to: number, sum: number): number;
}

const scratch = new Float64Array(TILE_COORDINATES);

export const javascriptKernel: Kernel = {
  name: 'javascript',
  steps(rows, format, firstBlock, length, factor) {
    const sum = scratch.subarray(0, wholeBlocks(length)).fill(0);
    for (const row of rows) addRow(row.quantised, format, row.factor, sum, firstBlock);
    rotateBack(sum, format.signs);
    const steps = sum.subarray(0, length);
    roundToSteps(steps, factor);
    return steps;
  },
  addProducts,
  decode(row, format, firstBlock, out) {
    dequantise(row, format, out, firstBlock);
  },
  take: takeRow,
  addSquares,
};
