/**
 * The learning rate: linear warm-up, then half a cosine (SGDR, Loshchilov and Hutter, 1608.03983,
 * without restarts). It depends on where the run is, never on how long this peer has taken part, so
 * that a late joiner trains at the same rate as the rest.
 */
import type { Schedule, Training } from '../../protocol/manifest.js';

/** The fields of the manifest that decide the rate. */
export type RateSettings = Pick<Training, 'learningRate' | 'warmupFraction' | 'finalFraction'>;

/** The fields of the manifest that say how long a run is. */
export type RunLength = Pick<Schedule, 'epochsMax' | 'stepsRef'>;

/**
 * Share of the run that is over once step `step` of `epoch` (both from 0) is taken: above 0, so that
 * the first step moves, and 1 after the last.
 */
export function runProgress(run: RunLength, epoch: number, step: number): number {
  return (epoch + (step + 1) / run.stepsRef) / run.epochsMax;
}

/**
 * AdamW's learning rate at `progress` (0 to 1; beyond 1 the last rate stays): 0 to the peak over
 * warmupFraction, then down to finalFraction of the peak.
 */
export function learningRateAt(settings: RateSettings, progress: number): number {
  const { learningRate, warmupFraction, finalFraction } = settings;
  if (progress < warmupFraction) return (learningRate * progress) / warmupFraction;
  if (warmupFraction >= 1) return learningRate;
  const fall = Math.min(1, (progress - warmupFraction) / (1 - warmupFraction));
  const cosine = (1 + Math.cos(Math.PI * fall)) / 2;
  return learningRate * (finalFraction + (1 - finalFraction) * cosine);
}
