/**
 * Which member publishes in which epoch: one cohort after the other, each member in every K-th epoch. A function of the
 * manifest and the peer id alone, so that all peers give one verdict on an update, whatever else they know.
 */
import { createHash } from 'node:crypto';
import type { Run } from './manifest.js';

/** Listed member -> cohort, for each run with more than one. */
const listed = new WeakMap<Run, ReadonlyMap<string, number>>();

/** SHA-256 of run id and peer id, 64 hex digits: an order of members that nobody chooses, another in each run. */
export function memberHash(runId: string, peerId: string): string {
  return createHash('sha256').update(`${runId}/${peerId}`).digest('hex');
}

/**
 * The cohort of `peerId`, 0 to cohorts - 1. Those whom the manifest lists are dealt out in the order of their hashes, so
 * that cohorts differ by one member at most. Whoever may come later has the cohort of its hash: a rank would change with
 * each member that becomes known, and with it the verdict on updates that were taken.
 */
export function cohortOf(run: Run, peerId: string): number {
  const { cohorts } = run.manifest.schedule;
  if (cohorts === 1) return 0;
  const dealt = listedCohorts(run).get(peerId);
  return dealt ?? parseInt(memberHash(run.id, peerId).slice(0, 8), 16) % cohorts;
}

/** Whether updates of `peerId` for `epoch` count. */
export function publishesIn(run: Run, peerId: string, epoch: number): boolean {
  return lastSlotOf(run, peerId, epoch) === epoch;
}

/** The newest epoch up to `epoch` in which `peerId` publishes; below 0 when there is none yet. */
export function lastSlotOf(run: Run, peerId: string, epoch: number): number {
  const { cohorts } = run.manifest.schedule;
  const since = (epoch - cohortOf(run, peerId)) % cohorts;
  return epoch - (since < 0 ? since + cohorts : since);
}

function listedCohorts(run: Run): ReadonlyMap<string, number> {
  const known = listed.get(run);
  if (known !== undefined) return known;
  const { membership, schedule } = run.manifest;
  const ids = membership.mode === 'open' ? [] : membership.members.map(({ peerId }) => peerId);
  const hashes = ids.map((peerId) => ({ peerId, hash: memberHash(run.id, peerId) }));
  hashes.sort((a, b) => (a.hash < b.hash ? -1 : 1));
  const cohorts = new Map(hashes.map(({ peerId }, rank) => [peerId, rank % schedule.cohorts]));
  listed.set(run, cohorts);
  return cohorts;
}
