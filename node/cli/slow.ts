/** Says what is being waited for, how far it is, and what it will take, where silence would look like a hang. */
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

/** Writes "<what>: 3 of 10" to `out` a tenth of the way at a time: enough to see that it moves. */
export function reportTenths(out: Writable, what: string): (done: number, total: number) => void {
  let shown = -1;
  return (done, total) => {
    const tenth = Math.floor((10 * done) / total);
    if (tenth === shown) return;
    shown = tenth;
    out.write(`${what}: ${done} of ${total}\n`);
  };
}
