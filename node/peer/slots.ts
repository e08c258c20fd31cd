/** Slots of time: which one it is, and when training in it must end. */
import type { Run } from '../../protocol/manifest.js';

/** The slot of `nowMs`: e = floor((now - t0) / P), below 0 before the start. */
export function epochAt({ manifest }: Run, nowMs: number): number {
  return Math.floor((nowMs - manifest.schedule.startMs) / manifest.schedule.epochMs);
}

/**
 * When training of `epoch` must end, so that the update reaches the others before the next slot:
 * a twentieth of the epoch early, 0.5 s to 30 s, but never more than a quarter.
 */
export function trainingDeadlineMs({ manifest }: Run, epoch: number): number {
  const { startMs, epochMs } = manifest.schedule;
  const marginMs = Math.min(epochMs / 4, Math.max(500, Math.min(30_000, epochMs / 20)));
  return startMs + (epoch + 1) * epochMs - marginMs;
}
