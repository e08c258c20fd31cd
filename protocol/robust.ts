/**
 * The robust mean of one epoch's rows: nearest-neighbour mixing (Allouah et al. 2023, 2302.01772), then the
 * coordinate-wise trimmed mean (Yin et al. 2018, 1803.01498). Both need that all peers send the same
 * coordinates, as slices see to. Of m rows it bears f = floor(trimFraction m) that lie. Only + - * / and
 * comparison, each sum in one fixed order, so that equal logs give equal bits.
 */
import { dequantise, type Quantised } from './quantise.js';
import type { Slice } from './slice.js';

/** One author's row, and what it is multiplied by: staleness and clipping. */
export interface Row {
  quantised: Quantised;
  factor: number;
}

/** All rows are held for so many blocks at a time: 64 rows of 2,048 coordinates are 1 MiB. */
const TILE_BLOCKS = 32;

/** Pairs of coordinates that are compared, or mixed, in the time that one is dequantised. */
const PAIRS_PER_COORDINATE = 4;

/**
 * [slice.coordinates] float64. Gives the work done since the last piece, in coordinates dequantised, so that
 * the caller can pause. `rows` in ascending order of peer id; `trimFraction` in [0, 0.5).
 */
export function* robustMean(
  rows: readonly Row[],
  slice: Slice,
  trimFraction: number,
): Generator<number, Float64Array> {
  const faulty = Math.floor(trimFraction * rows.length);
  const neighbours = nearest(yield* squaredDistances(rows, slice), rows.length, faulty);
  const mean = new Float64Array(slice.coordinates);
  const mixed = rows.map(() => new Float64Array(TILE_BLOCKS * slice.blockSize));
  for (const { start, values } of tiles(rows, slice)) {
    const length = values[0]?.length ?? 0;
    for (const [i, row] of mixed.entries())
      mix(values, neighbours[i] ?? [], row.subarray(0, length));
    trimmedMeans(mixed, faulty, mean.subarray(start, start + length));
    yield work(length, rows.length * (rows.length - faulty));
  }
  return mean;
}

/** Squared Euclidean distances, [m, m] row-major, of which i < j is filled in. */
function* squaredDistances(rows: readonly Row[], slice: Slice): Generator<number, Float64Array> {
  const m = rows.length;
  const distances = new Float64Array(m * m);
  for (const { values } of tiles(rows, slice)) {
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
    yield work(values[0]?.length ?? 0, (m * (m - 1)) / 2);
  }
  return distances;
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

/** All rows piece by piece; the arrays are used again for the next piece. */
function* tiles(
  rows: readonly Row[],
  slice: Slice,
): Generator<{ start: number; values: Float64Array[] }> {
  const buffers = rows.map(() => new Float64Array(TILE_BLOCKS * slice.blockSize));
  for (let block = 0; block < slice.blocks.length; block += TILE_BLOCKS) {
    const start = block * slice.blockSize;
    const length = Math.min(TILE_BLOCKS * slice.blockSize, slice.coordinates - start);
    const values = buffers.map((buffer) => buffer.subarray(0, length));
    for (const [i, { quantised, factor }] of rows.entries()) {
      const row = dequantise(quantised, slice, values[i], block);
      for (let k = 0; k < length; k++) row[k] = (row[k] ?? 0) * factor;
    }
    yield { start, values };
  }
}

function work(coordinates: number, pairs: number): number {
  return Math.ceil((coordinates * pairs) / PAIRS_PER_COORDINATE);
}
