/** Says what is being waited for, where silence would look like a hang, and what it will take. */
import type { Writable } from 'node:stream';
import { describePlan, type MemoryPlan } from '../train/memory.js';

/** Longest silence before the first line, in ms. */
const QUIET_MS_MAX = 3000;

/** What start and join wait for before they are on the network. */
export const LOADING = 'loading the model and the data';

/** Writes what training will take to `out`, in one line. */
export function sayPlan(out: Writable): (plan: MemoryPlan) => void {
  return (plan) => void out.write(`${describePlan(plan)}\n`);
}

/** Settles as `work` does; writes "<what> ..." to `out` once when that takes longer than `quietMs`. */
export async function sayIfSlow<T>(
  out: Writable,
  what: string,
  work: Promise<T>,
  quietMs = QUIET_MS_MAX,
): Promise<T> {
  const timer = setTimeout(() => out.write(`${what} ...\n`), quietMs);
  try {
    return await work;
  } finally {
    clearTimeout(timer);
  }
}
