/** Whether a series of measurements grows: a straight line through it, and how sure its slope is. */

export interface Trend {
  /** Per unit of x. */
  slope: number;
  /** The true slope lies so near on either side of it, 19 times in 20. */
  uncertainty: number;
}

/** Standard errors on either side that hold the true slope 19 times in 20, for many points. */
const STANDARD_ERRORS = 2;

/** Fewer give no uncertainty worth the name. */
export const POINTS_MIN = 10;

/**
 * Least squares. Neighbours that resemble each other count for less: the standard error is widened by the
 * lag-1 autocorrelation r of the residuals, by sqrt((1 + r) / (1 - r)).
 * @throws RangeError for fewer than POINTS_MIN points.
 */
export function trendOf(points: readonly { x: number; y: number }[]): Trend {
  const n = points.length;
  if (n < POINTS_MIN) throw new RangeError(`${n} points are too few for a trend: ${POINTS_MIN}`);
  const meanX = points.reduce((sum, { x }) => sum + x, 0) / n;
  const meanY = points.reduce((sum, { y }) => sum + y, 0) / n;
  const sumXX = points.reduce((sum, { x }) => sum + (x - meanX) ** 2, 0);
  const slope = points.reduce((sum, { x, y }) => sum + (x - meanX) * (y - meanY), 0) / sumXX;
  const residuals = points.map(({ x, y }) => y - meanY - slope * (x - meanX));
  const squares = residuals.reduce((sum, residual) => sum + residual ** 2, 0);
  const products = residuals.reduce(
    (sum, residual, i) => sum + residual * (residuals[i - 1] ?? 0),
    0,
  );
  const r = squares === 0 ? 0 : Math.min(0.99, Math.max(0, products / squares));
  const error = Math.sqrt(squares / (n - 2) / sumXX) * Math.sqrt((1 + r) / (1 - r));
  return { slope, uncertainty: STANDARD_ERRORS * error };
}
