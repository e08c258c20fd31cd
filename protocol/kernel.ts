/**
 * The inner loops of codec and fold, over one tile of a slice. Here they are in JavaScript, which is the reference;
 * wasm-kernel.ts has the same in WebAssembly, with the same bits.
 */
import { roundToSteps } from './grid.js';
import type { Prng } from './prng.js';
import { addRow, dequantise, takeRow, type Quantised } from './quantise.js';
import type { Slice } from './slice.js';

/**
 * Coordinates of a tile at most; all but the last of a slice have whole blocks. Its sums fit into the cache nearest to
 * the core. No block is larger.
 */
export const TILE_COORDINATES = 4096;

/** A row, and what each of its values is multiplied by. */
export interface WeightedRow {
  readonly quantised: Quantised;
  readonly factor: number;
}

export interface Kernel {
  readonly name: 'javascript' | 'webassembly';
  /**
   * The sum of `rows`, from 0 in their order, times `factor`, in whole steps (grid.ts): the `length` coordinates from
   * block `firstBlock` of the slice on. What it returns holds until the next call.
   */
  steps(
    rows: readonly WeightedRow[],
    slice: Slice,
    firstBlock: number,
    length: number,
    factor: number,
  ): Float64Array;
  /** out <- what receivers read, from block `firstBlock` of the slice on. */
  decode(row: Quantised, slice: Slice, firstBlock: number, out: Float64Array): void;
  /** Quantises `values` into their place in `out`, and subtracts from them what receivers will read. */
  take(values: Float64Array, slice: Slice, random: Prng, out: Quantised, firstBlock: number): void;
}

const scratch = new Float64Array(TILE_COORDINATES);

export const javascriptKernel: Kernel = {
  name: 'javascript',
  steps(rows, slice, firstBlock, length, factor) {
    const sum = scratch.subarray(0, length).fill(0);
    for (const row of rows) addRow(row.quantised, slice, row.factor, sum, firstBlock);
    roundToSteps(sum, factor);
    return sum;
  },
  decode(row, slice, firstBlock, out) {
    dequantise(row, slice, out, firstBlock);
  },
  take: takeRow,
};
