/**
 * A personal adapter: the swarm's, trained on by this peer alone. Some steps on its own text, measured on its own
 * held-out text after each round of them until that gets no better (early stopping: Prechelt, 1998); then the best
 * point on the line from the swarm's adapter through the best round (Wortsman et al., 2109.01903). It is for this
 * peer's own use: nothing of it goes into an update.
 */
import type { Training } from '../../protocol/manifest.js';
import type { OptimiserState, TrainResult } from '../interfaces.js';
import type { RunLength } from './schedule.js';

/** Rounds of stepsRef steps at most: as many as the run has epochs, but never fewer or more than so many. */
const ROUNDS_MIN = 6;
const ROUNDS_MAX = 50;

/** Rounds in a row that bring nothing better and end it. */
export const PATIENCE = 4;

/** The peak learning rate as a multiple of the run's, and the share of the rounds in which it rises. */
const RATE_FACTOR = 0.5;
const WARMUP_FRACTION = 0.1;

/** Points of the line that are tried besides its ends: shares of the way from the swarm's adapter. */
export const SHARES = [0.5, 0.75, 1.25, 1.5] as const;

/** What tuning needs of a trainer. */
export interface PersonalInit {
  /** The swarm's adapter: [adapterSize] float32. Not modified. */
  swarm: Float32Array;
  rounds: number;
  /** The steps of one round, from `theta`. */
  train(
    round: number,
    theta: Float32Array,
    optimiser: OptimiserState | null,
  ): Promise<Pick<TrainResult, 'theta' | 'optimiser' | 'steps'>>;
  /** Loss on the peer's held-out text, nats per token, NaN when it is not finite; null without such text. */
  evaluate(theta: Float32Array): Promise<number | null>;
}

export interface PersonalAdapter {
  /** [adapterSize] float32; that of the swarm where no step made it better. */
  theta: Float32Array;
  /** Held-out losses, nats per token; `swarm` is NaN when it is not finite. */
  losses: { swarm: number; personal: number };
  /** Steps from the swarm's adapter to the best round, and all that were taken. */
  steps: number;
  stepsTaken: number;
  /** How far it lies on the line: 0 the swarm's adapter, 1 the best round. */
  share: number;
}

/** What has been done: rounds of steps, then points of the line; the lowest held-out loss so far. */
export interface PersonalProgress {
  done: number;
  total: number;
  best: number;
}

/** How the steps of a personal adapter are taken: AdamW with fresh moments at a rate of its own. */
export function personalTraining(
  training: Training,
  run: RunLength,
): { training: Training; run: RunLength } {
  return {
    training: {
      ...training,
      learningRate: RATE_FACTOR * training.learningRate,
      warmupFraction: WARMUP_FRACTION,
      resetMoments: false,
    },
    run: { ...run, epochsMax: Math.min(ROUNDS_MAX, Math.max(ROUNDS_MIN, run.epochsMax)) },
  };
}

/** Null without held-out text to choose by. Rejects with what `train` and `evaluate` reject with. */
export async function tunePersonal(
  { swarm, rounds, train, evaluate }: PersonalInit,
  onProgress: (progress: PersonalProgress) => void,
): Promise<PersonalAdapter | null> {
  const first = await evaluate(swarm);
  if (first === null) return null;
  const total = rounds + SHARES.length;
  let best = { theta: swarm, loss: first, steps: 0, round: -1 };
  let theta = swarm;
  let optimiser: OptimiserState | null = null;
  let stepsTaken = 0;
  for (let round = 0; round < rounds && round - best.round <= PATIENCE; round++) {
    const result = await train(round, theta, optimiser);
    ({ theta, optimiser } = result);
    stepsTaken += result.steps;
    const loss = (await evaluate(theta)) ?? NaN;
    if (isBetter(loss, best.loss)) best = { theta, loss, steps: stepsTaken, round };
    onProgress({ done: round + 1, total, best: best.loss });
  }
  const end = best;
  let share = end.round === -1 ? 0 : 1;
  for (const [i, candidate] of (share === 0 ? [] : SHARES).entries()) {
    const point = pointBetween(swarm, end.theta, candidate);
    const loss = (await evaluate(point)) ?? NaN;
    if (isBetter(loss, best.loss)) {
      best = { ...end, theta: point, loss };
      share = candidate;
    }
    onProgress({ done: rounds + i + 1, total, best: best.loss });
  }
  const losses = { swarm: first, personal: best.loss };
  return { theta: best.theta, losses, steps: end.steps, stepsTaken, share };
}

/** Anything finite is better than what is not. */
function isBetter(loss: number, than: number): boolean {
  return Number.isFinite(loss) && !(loss >= than);
}

/** from + share x (to - from): [size] float32. */
function pointBetween(from: Float32Array, to: Float32Array, share: number): Float32Array {
  return from.map((value, i) => value + share * ((to[i] ?? 0) - value));
}
