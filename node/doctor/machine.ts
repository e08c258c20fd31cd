/** Checks of the machine: Node, the processor, the clock. */
import { availableParallelism, cpus, loadavg } from 'node:os';
import type { StatusReport } from '../status.js';
import { fail, ok, warn, type Finding } from './finding.js';

/** A peer whose clock is off by more of an epoch than this puts its updates into the wrong one. */
const OFFSET_SHARE_MAX = 0.5;

/** `minimum`: as in package.json, e.g. ">=20.19". */
export function checkNode(version: string, minimum: string): Finding {
  const numbers = (text: string): number[] => text.replace(/^\D+/, '').split('.').map(Number);
  const [is, least] = [numbers(version), numbers(minimum)];
  const differing = least.findIndex((number, i) => (is[i] ?? 0) !== number);
  const isOld = differing >= 0 && (is[differing] ?? 0) < (least[differing] ?? 0);
  const text = `Node ${version}, and ${minimum.replace('>=', '')} is the oldest that will do`;
  return isOld ? fail(text, 'install the current Node from https://nodejs.org') : ok(text);
}

/** `load`: processes that want to compute, on average over the last minute. */
export function checkProcessor(threads: number, load: number): Finding {
  const text = `${threads} ${threads === 1 ? 'core' : 'cores'} (${cpus()[0]?.model.trim() ?? 'unknown'}), load ${load.toFixed(1)}`;
  if (load < threads) return ok(text);
  return warn(`${text}: other programs compute too, and training shares with them`, 'top');
}

export function checkThisProcessor(): Finding {
  return checkProcessor(availableParallelism(), loadavg()[0] ?? 0);
}

/**
 * The clock against those of the peers, which tell it when they compare logs. `report`: of the peer that runs in the data
 * directory; null where none does, and then there is nobody to ask: introductions carry no clock.
 */
export function checkClock(report: StatusReport | null): Finding {
  const offsets = (report?.peers ?? []).flatMap(({ clockOffsetMs }) => clockOffsetMs ?? []);
  if (report === null || offsets.length === 0) {
    const now = new Date().toISOString();
    return ok(
      `it is ${now} here; with whose clock that agrees is known when a peer runs and has compared logs (murmurate status)`,
    );
  }
  const sorted = offsets.toSorted((a, b) => Math.abs(a) - Math.abs(b));
  const median = sorted[(sorted.length - 1) >>> 1] ?? 0;
  const epochMs = report.run.epochSeconds * 1000;
  const text = `${Math.round(Math.abs(median))} ms ${median > 0 ? 'behind' : 'ahead of'} the median of ${offsets.length} peers, in epochs of ${epochMs / 1000} s`;
  if (Math.abs(median) <= OFFSET_SHARE_MAX * epochMs) return ok(text);
  return fail(text, 'timedatectl set-ntp true');
}
