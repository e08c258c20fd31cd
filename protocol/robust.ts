/**
 * The robust mean of one epoch's rows: nearest-neighbour mixing (Allouah et al. 2023, 2302.01772), then the
 * coordinate-wise trimmed mean (Yin et al. 2018, 1803.01498). Of m rows it bears f = floor(trimFraction m) that lie. Only + - * / and
 * comparison, each sum in one fixed order, so that equal logs give equal bits.
 */
import type { Kernel, WeightedRow } from './kernel.js';
import { BLOCK_COORDINATES, TILE_BLOCKS, TILE_COORDINATES, type RowFormat } from './row-format.js';

/** Pairs of coordinates that are compared, or mixed, in the time that one is dequantised. */
const PAIRS_PER_COORDINATE = 4;

/** The robust mean of one epoch's rows, tile by tile. */
export class RobustMean {
  readonly #rows: readonly WeightedRow[];
  readonly #format: RowFormat;
  readonly #kernel: Kernel;
  readonly #faulty: number;
  /** For each row those that it is mixed with. */
  #neighbours: readonly (readonly number[])[] = [];
  /** The rows of one tile, before and after mixing. */
  readonly #values: readonly Float64Array[];
  readonly #mixed: readonly Float64Array[];

  /** `rows` in ascending order of peer id; `trimFraction` in [0, 0.5). */
  constructor(
    rows: readonly WeightedRow[],
    format: RowFormat,
    trimFraction: number,
    kernel: Kernel,
  ) {
    this.#kernel = kernel;
    this.#rows = rows;
    this.#format = format;
    this.#faulty = Math.floor(trimFraction * rows.length);
    this.#values = rows.map(() => new Float64Array(TILE_COORDINATES));
    this.#mixed = rows.map(() => new Float64Array(TILE_COORDINATES));
  }

  /** Work for `length` coordinates of the mean, in coordinates dequantised. */
  work(length: number): number {
    const m = this.#rows.length;
    return work(length, m * (m - this.#faulty));
  }

  /** Finds each row's neighbours, which takes all coordinates: before the first tile. Yields the work done. */
  *prepare(): Generator<number> {
    const { blocks, coordinates } = this.#format;
    const m = this.#rows.length;
    const distances = new Float64Array(m * m);
    for (let block = 0; block < blocks; block += TILE_BLOCKS) {
      const length = Math.min(TILE_COORDINATES, coordinates - block * BLOCK_COORDINATES);
      addDistances(this.#read(block, length), distances);
      yield work(length, (m * (m - 1)) / 2);
    }
    this.#neighbours = nearest(distances, m, this.#faulty);
  }

  /** Into `out`: the mean from block `firstBlock` on; at most a tile. */
  tile(firstBlock: number, out: Float64Array): void {
    const values = this.#read(firstBlock, out.length);
    const mixed = this.#mixed.map((row) => row.subarray(0, out.length));
    for (const [i, row] of mixed.entries()) mix(values, this.#neighbours[i] ?? [], row);
    trimmedMeans(mixed, this.#faulty, out);
  }

  /** All rows from block `firstBlock` on, scaled. */
  #read(firstBlock: number, length: number): Float64Array[] {
    return this.#rows.map(({ quantised, factor }, i) => {
      const row = (this.#values[i] ?? new Float64Array(length)).subarray(0, length);
      this.#kernel.decode(quantised, this.#format, firstBlock, row);
      for (let k = 0; k < length; k++) row[k] = (row[k] ?? 0) * factor;
      return row;
    });
  }
}

/** Adds to the squared Euclidean distances, [m, m] row-major, of which i < j is filled in. */
function addDistances(values: readonly Float64Array[], distances: Float64Array): void {
  const m = values.length;
  for (const [i, a] of values.entries()) {
    for (let j = i + 1; j < m; j++) {
      const b = values[j] ?? a;
      let sum = distances[i * m + j] ?? 0;
      for (let k = 0; k < a.length; k++) {
        const difference = (a[k] ?? 0) - (b[k] ?? 0);
        sum += difference * difference;
      }
      distances[i * m + j] = sum;
    }
  }
}

/** For each row the m - f nearest, itself among them, in ascending order; of two as near the first counts. */
function nearest(distances: Float64Array, m: number, faulty: number): number[][] {
  const between = (i: number, j: number): number =>
    i === j ? 0 : (distances[Math.min(i, j) * m + Math.max(i, j)] ?? 0);
  const all = Array.from({ length: m }, (_, j) => j);
  return all.map((i) =>
    all
      .toSorted((a, b) => between(i, a) - between(i, b) || a - b)
      .slice(0, m - faulty)
      .sort((a, b) => a - b),
  );
}

/** The mean of the rows numbered `from`, summed in that order, as far as `out` goes. */
function mix(rows: readonly Float64Array[], from: readonly number[], out: Float64Array): void {
  out.fill(0);
  for (const index of from) {
    const row = rows[index] ?? out;
    for (let k = 0; k < out.length; k++) out[k] = (out[k] ?? 0) + (row[k] ?? 0);
  }
  for (let k = 0; k < out.length; k++) out[k] = (out[k] ?? 0) / from.length;
}

/** Into `out`: the mean of each column without its f least and f largest, summed in ascending order. */
function trimmedMeans(rows: readonly Float64Array[], faulty: number, out: Float64Array): void {
  const sorted = new Float64Array(rows.length);
  const end = sorted.length - faulty;
  for (let k = 0; k < out.length; k++) {
    for (let i = 0; i < sorted.length; i++) {
      const value = rows[i]?.[k] ?? 0;
      let j = i;
      for (; j > 0 && (sorted[j - 1] ?? 0) > value; j--) sorted[j] = sorted[j - 1] ?? 0;
      sorted[j] = value;
    }
    let sum = 0;
    for (let i = faulty; i < end; i++) sum += sorted[i] ?? 0;
    out[k] = sum / (end - faulty);
  }
}

function work(coordinates: number, pairs: number): number {
  return Math.ceil((coordinates * pairs) / PAIRS_PER_COORDINATE);
}
