/** Says what is being waited for, how far it is, and what it will take, where silence would look like a hang. */
import { SingleBar } from 'cli-progress';
import type { Writable } from 'node:stream';
import type { MemoryPlan } from '../train/memory-plan.js';
import { describePlan, explainWeights } from '../train/memory-words.js';
import type { DataProgress, PackingProgress } from '../train/messages.js';
import type { VerbIo } from './verb.js';

/** Longest silence before the first line, in ms. */
const QUIET_MS_MAX = 3000;

/** What start and join wait for before they are on the network. */
export const LOADING = 'loading the model and the data';

/** Writes what training will take to `out`, in one line, and why in another where there is a reason. */
export function sayPlan(out: Writable): (plan: MemoryPlan) => void {
  return (plan) => {
    const why = explainWeights(plan);
    out.write(`${describePlan(plan)}\n${why === null ? '' : `${why}\n`}`);
  };
}

/** Writes how far reading the data is to `out`, in one line. */
export function sayReading(out: Writable): (progress: DataProgress) => void {
  return ({ records, tokens }) => {
    out.write(`read ${records} records, ${tokens} tokens\n`);
  };
}

/** Writes how far the packed copy of the weights is to `out`, a tenth of the way at a time. */
export function sayPacking(out: Writable): (progress: PackingProgress) => void {
  let shown = -1;
  return ({ packed, total }) => {
    const tenth = Math.floor((10 * packed) / total);
    if (tenth === shown) return;
    shown = tenth;
    const millions = (weights: number): number => Math.round(weights / 1e6);
    out.write(`packing the weights: ${millions(packed)} of ${millions(total)} million\n`);
  };
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

/** A bar where a person watches, a line a tenth of the way elsewhere. */
export function createBar(
  { stderr, terminal }: Pick<VerbIo, 'stderr' | 'terminal'>,
  what: string,
): { update: (done: number, total: number) => void; stop: () => void } {
  if (!terminal) return { update: reportTenths(stderr, what), stop: () => undefined };
  const bar = new SingleBar({
    stream: stderr,
    format: `${what} {value}/{total} [{bar}] {eta_formatted} left`,
    barsize: 24,
    hideCursor: true,
    // Signals are handled by main.ts alone.
    gracefulExit: false,
  });
  let isStarted = false;
  return {
    update: (done, total) => {
      if (!isStarted) bar.start(total, done);
      isStarted = true;
      bar.update(done);
    },
    stop: () => isStarted && bar.stop(),
  };
}

const BYTES_PER_MB = 1e6;

export function inMb(bytes: number): number {
  return Math.round(bytes / BYTES_PER_MB);
}
