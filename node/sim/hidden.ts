/**
 * Rows that a robust rule cannot tell from honest ones, because they keep within the spread of those: Shejwalkar and
 * Houmansadr, "Manipulating the Byzantine", NDSS 2021, and a drift in one direction. All are of whoever knows every honest row.
 */
import type { HonestRows } from './accomplice.js';

/** Length of an open drift beside an honest row. */
const DRIFT_LENGTH = 2;

/** The opposite of the honest mean, of length 1. */
export function againstMean({ mean }: HonestRows): Float64Array {
  const length = norm(mean);
  return mean.map((value) => (length === 0 ? 0 : -value / length));
}

/** One direction for all epochs and all attackers, of length 1: signs by a multiplicative hash of the coordinate. */
export function fixedDirection(size: number): Float64Array {
  const value = 1 / Math.sqrt(size);
  return Float64Array.from({ length: size }, (_, i) =>
    (Math.imul(i + 1, 0x9e3779b1) >>> 16) & 1 ? value : -value,
  );
}

/** mean + gamma x direction with the largest gamma whose row is no farther from any honest row than two of those are. */
export function minMax(honest: HonestRows, direction: Float64Array): Float64Array {
  const { mean, rows } = honest;
  const spread = Math.max(0, ...rows.flatMap((a) => rows.map((b) => squaredDistance(a, b))));
  const squared = squaredNorm(direction);
  // For each honest row r: |gamma p + (mean - r)|^2 = spread, a quadratic in gamma.
  const bounds = rows.map((row) => {
    let dot = 0;
    for (let i = 0; i < mean.length; i++)
      dot += (direction[i] ?? 0) * ((mean[i] ?? 0) - (row[i] ?? 0));
    const rest = squaredDistance(mean, row) - spread;
    return (-dot + Math.sqrt(Math.max(0, dot * dot - squared * rest))) / squared;
  });
  return along(honest, direction, squared === 0 ? 0 : Math.max(0, Math.min(...bounds)));
}

/** As minMax, but the sum of squared distances to all honest rows is at most the largest such sum of an honest one. */
export function minSum(honest: HonestRows, direction: Float64Array): Float64Array {
  const { mean, rows } = honest;
  const sums = rows.map((a) => rows.reduce((sum, b) => sum + squaredDistance(a, b), 0));
  const ofMean = rows.reduce((sum, row) => sum + squaredDistance(mean, row), 0);
  // The rows' differences from their mean cancel: the sum grows by rows x gamma^2 |p|^2.
  const squared = rows.length * squaredNorm(direction);
  const room = Math.max(0, Math.max(0, ...sums) - ofMean);
  return along(honest, direction, squared === 0 ? 0 : Math.sqrt(room / squared));
}

/** Nothing but the fixed direction, longer than any honest row: the clip leaves the most of it. */
export function drift({ mean, rows }: HonestRows): Float64Array {
  const longest = Math.max(0, ...rows.map((row) => Math.sqrt(squaredNorm(row))));
  return fixedDirection(mean.length).map((value) => DRIFT_LENGTH * longest * value);
}

function along({ mean }: HonestRows, direction: Float64Array, gamma: number): Float64Array {
  return mean.map((value, i) => value + gamma * (direction[i] ?? 0));
}

function squaredNorm(vector: Float64Array | Float32Array): number {
  let sum = 0;
  for (const value of vector) sum += value * value;
  return sum;
}

function norm(vector: Float64Array): number {
  return Math.sqrt(squaredNorm(vector));
}

function squaredDistance(a: Float64Array | Float32Array, b: Float64Array | Float32Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += ((a[i] ?? 0) - (b[i] ?? 0)) ** 2;
  return sum;
}
