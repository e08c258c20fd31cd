/**
 * The filter: which rows of an epoch do not count, because they point against most of the others (docs/PROTOCOL.md,
 * "Filter"). It knows the rows of one epoch and nothing else, so that a late update changes no other epoch. Only
 * + - * / and comparison, each sum in one fixed order, so that equal logs give equal bits.
 */
import type { Kernel } from './kernel.js';
import { median } from './median.js';
import type { Prng } from './prng.js';
import type { Quantised } from './quantise.js';
import { BLOCK_COORDINATES, TILE_BLOCKS, type RowFormat } from './row-format.js';

/** A row is dropped when the middle of its cosines with other rows lies below this. */
export const AGREEMENT_MIN = -0.2;

/** With fewer rows nobody can tell who is the odd one out. */
export const FILTERED_ROWS_MIN = 4;

/** Each row is compared with so many at most: time grows with the number of rows, not with its square. */
export const COMPARED_MAX = 32;

/** Pairs of blocks that are compared in the time in which one block of a row is summed. */
const PAIRS_PER_BLOCK = 16;

/** Work for one row of which `count` are compared, in rows that are summed. */
export function comparingCost(count: number): number {
  return Math.min(count, COMPARED_MAX) / PAIRS_PER_BLOCK;
}

/** Rows of one epoch in ascending order of peer id, and their norms. */
export interface Rows {
  readonly bodies: readonly Quantised[];
  readonly norms: readonly number[];
}

/**
 * The agreement of each row: the median of its cosines with the other rows that it is compared with, -1 to 1 but for
 * rounding. A row of zeros has 0 with all. `random` draws which rows those are where there are more than COMPARED_MAX.
 * Yields the work done, in coordinates of rows.
 */
export function* agreements(
  { bodies, norms }: Rows,
  format: RowFormat,
  random: () => Prng,
  kernel: Kernel,
): Generator<number, number[]> {
  const compared = comparedWith(bodies.length, random);
  const others = compared.flatMap((index) => bodies[index] ?? []);
  const products = new Float64Array(bodies.length * others.length);
  for (let block = 0; block < format.blocks; block += TILE_BLOCKS) {
    const end = Math.min(block + TILE_BLOCKS, format.blocks);
    kernel.addProducts(bodies, others, format, block, end, products);
    yield Math.ceil(
      (end - block) * BLOCK_COORDINATES * bodies.length * comparingCost(bodies.length),
    );
  }
  const cosine = (i: number, k: number): number => {
    const length = (norms[i] ?? 0) * (norms[compared[k] ?? -1] ?? 0);
    return length > 0 ? (products[i * others.length + k] ?? 0) / length : 0;
  };
  return bodies.map((_, i) =>
    median(compared.flatMap((other, k) => (other === i ? [] : cosine(i, k)))),
  );
}

/** Which rows are dropped; none where half of them or more would be, for then there is no middle to differ from. */
export function droppedRows(agreement: readonly number[]): boolean[] {
  const isLow = agreement.map((value) => value < AGREEMENT_MIN);
  const count = isLow.filter(Boolean).length;
  return 2 * count < agreement.length ? isLow : isLow.map(() => false);
}

/** Places of the rows that each row is compared with, ascending: all, or a sample that every peer draws alike. */
function comparedWith(count: number, random: () => Prng): number[] {
  const all = Array.from({ length: count }, (_, i) => i);
  if (count <= COMPARED_MAX) return all;
  return [...random().permutation(count).subarray(0, COMPARED_MAX)].sort((a, b) => a - b);
}
