/** What a chaos run says: its plan before, its figures after. */
import Table from 'cli-table3';
import type { ChaosOutcome } from './run.js';
import { FAULT_KINDS, type Plan } from './plan.js';

/** Where everybody is, and how often what will happen. */
export function planLines({ places, diskPeer, faults, durationMs }: Plan): string[] {
  const peers = places.map(
    ({ rateMbit, delayMs, offsetMs }, i) =>
      `peer ${i}: ${rateMbit} Mbit/s, ${delayMs} ms, clock ${(offsetMs / 1000).toFixed(1)} s` +
      (i === diskPeer ? ', a small disk' : ''),
  );
  return [...peers, `${faults.length} faults in ${durationMs / 1000} s`];
}

/** Tables of faults and peers. */
export function summary({
  plan,
  observer,
  updates,
  total,
  settleMs,
  sha256,
}: ChaosOutcome): string {
  const faults = new Table({
    head: ['fault', 'times', 'seconds in all', 'agreed after (median)', 'at most'],
    style: { head: [], border: [] },
  });
  for (const kind of FAULT_KINDS) {
    const own = plan.faults.filter((fault) => fault.kind === kind);
    const lengthMs = own.reduce((sum, { atMs, untilMs }) => sum + untilMs - atMs, 0);
    const times = observer.agreements
      .filter((agreement) => agreement.kind === kind)
      .map(({ afterMs }) => afterMs)
      .sort((a, b) => a - b);
    const median = times[times.length >>> 1];
    faults.push([kind, own.length, seconds(lengthMs), seconds(median), seconds(times.at(-1))]);
  }
  const peers = new Table({
    head: ['peer', 'updates seen', 'MB in', 'MB out', 'Mbit/s', 'delay ms', 'clock s'],
    style: { head: [], border: [] },
  });
  for (const [i, { rateMbit, delayMs, offsetMs }] of plan.places.entries()) {
    const { bytesIn, bytesOut } = observer.traffic(i);
    const line = [rateMbit, delayMs, (offsetMs / 1000).toFixed(1)];
    peers.push([i, updates[i] ?? 0, megabytes(bytesIn), megabytes(bytesOut), ...line]);
  }
  const end = `one adapter of ${total} updates ${seconds(settleMs)} s after the last epoch: ${sha256}`;
  return `${faults.toString()}\n${peers.toString()}\n${end}`;
}

function seconds(ms: number | undefined): string {
  return ms === undefined ? '' : (ms / 1000).toFixed(1);
}

function megabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(2);
}
