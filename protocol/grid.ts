/**
 * The grid on which the fold sums. What an epoch does to a coordinate is rounded to a whole multiple of 2^-32, so
 * that sums are sums of integers: exact in float64, and the same in any order.
 */

/** Steps of the grid in one unit of theta. */
export const GRID = 2 ** 32;

/**
 * The most that one epoch moves a coordinate, in steps: 8.0. The at most 2^17 epochs of a run together stay at
 * or below 2^52, and the integers up to 2^53 are exact.
 */
export const STEP_MAX = 2 ** 35;

/** Adding this to a value below 2^51 leaves no bits for a fraction: what is lost is rounded, ties to even. */
const ROUNDER = 1.5 * 2 ** 52;

/** values <- factor x values, clamped to +-STEP_MAX and rounded to integers, ties to even. None is -0 after that. */
export function roundToSteps(values: Float64Array, factor: number): void {
  for (let i = 0; i < values.length; i++) {
    const exact = factor * (values[i] ?? 0);
    const clamped = exact > STEP_MAX ? STEP_MAX : exact < -STEP_MAX ? -STEP_MAX : exact;
    values[i] = clamped + ROUNDER - ROUNDER;
  }
}

/**
 * out <- initial - sum in steps, rounded to float32 once. A coordinate that nothing moved keeps its bits. Null stands
 * for zeros.
 */
export function subtractSteps(
  initial: Float32Array | null,
  sum: Float64Array,
  out: Float32Array,
): void {
  // Exact: a power of two.
  const unit = 1 / GRID;
  if (initial === null) for (let i = 0; i < out.length; i++) out[i] = 0 - (sum[i] ?? 0) * unit;
  else for (let i = 0; i < out.length; i++) out[i] = (initial[i] ?? 0) - (sum[i] ?? 0) * unit;
}

/** Whether `sum` can be that of the epochs below `epoch`: whole steps, and no more than so many epochs take. */
export function isSumOfSteps(sum: Float64Array, epoch: number): boolean {
  const most = epoch * STEP_MAX;
  for (let i = 0; i < sum.length; i++) {
    const value = sum[i] ?? NaN;
    if (!(value >= -most && value <= most) || !Number.isInteger(value)) return false;
    // Additions of integers never give -0, which would be other bits.
    if (value === 0 && 1 / value < 0) return false;
  }
  return true;
}
