/** When to try again: exponential back-off with equal jitter, without an end. */

/** The wait after the first failure, in ms, before jitter. */
export const BACKOFF_BASE_MS = 1_000;

/** The longest wait, in ms: a peer that comes back is found within this. */
export const BACKOFF_MAX_MS = 15_000;

/**
 * Wait in ms before the next attempt: w/2 + w/2 * random with w = min(max, base * 2^(failures - 1)).
 * Jitter keeps peers that lost the same node from coming back in step.
 * `failures` counts from 1; `random` is in [0, 1).
 */
export function backoffMs(failures: number, random: number): number {
  // Beyond 2^30 the power would only overflow; the bound is long reached.
  const doublings = Math.min(Math.max(failures, 1) - 1, 30);
  const waitMs = Math.min(BACKOFF_MAX_MS, BACKOFF_BASE_MS * 2 ** doublings);
  return waitMs / 2 + (waitMs / 2) * random;
}
