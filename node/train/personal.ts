/**
 * The experts that a peer mixes with the swarm's adapter (node/model/mixture.ts): *continued*, some more steps on own text
 * from the swarm's adapter, measured on held-out text after each round and stopped when that gets no better (early
 * stopping: Prechelt, 1998); and *alone*, the adapter of a peer that never met the swarm. For programs that take one
 * adapter there is the best of the points on the lines from the swarm's adapter to both (interpolating weights: Wortsman
 * et al., 2109.01903) by held-out loss, towards *alone* only where that is lower by MARGIN, for there lies nothing of what
 * the others know. All are for this peer's own use: nothing of them goes into an update.
 */
import type { Training } from '../../protocol/manifest.js';
import type { OptimiserState } from '../interfaces.js';
import type { RunLength } from './schedule.js';
import { firstNotFinite } from '../model/finite.js';

/** Rounds of stepsRef steps at most, as a share of the run's epochs, and never fewer or more than so many. */
const ROUNDS_SHARE = 0.5;
const ROUNDS_MIN = 6;
const ROUNDS_MAX = 50;

/** Rounds in a row that bring nothing better and end it. */
export const PATIENCE = 3;

/** The peak learning rate as a multiple of the run's, and the share of the rounds in which it rises. */
const RATE_FACTOR = 0.25;
const WARMUP_FRACTION = 0.1;

/** Points of a line that are tried: shares of the way from the swarm's adapter to its end. */
export const SHARES = [0.25, 0.5, 0.75, 1] as const;

/** Nats per token, a hundredth of the perplexity: chance decides on less than that, and what the others know is worth more. */
export const MARGIN = 0.01;

/** What tuning needs of a trainer. */
export interface PersonalInit {
  /** The swarm's adapter, and one trained on own text alone: [adapterSize] float32 each. Not modified. */
  swarm: Float32Array;
  alone: Float32Array;
  rounds: number;
  /** The steps of one round, from `theta`. */
  train: (
    round: number,
    theta: Float32Array,
    optimiser: OptimiserState | null,
  ) => Promise<{ theta: Float32Array; optimiser: OptimiserState }>;
  /** Loss on the peer's held-out text, nats per token, NaN when it is not finite; null without such text. */
  evaluate: (theta: Float32Array) => Promise<number | null>;
}

/** Where a line from the swarm's adapter ends. */
export type PersonalEnd = 'continued' | 'alone';

export interface Tuned {
  /** What went on from the swarm's adapter, [adapterSize] float32; that of the swarm where nothing is better. */
  continued: Float32Array;
  /** The best as one adapter: as large; also that of the swarm where nothing is better. */
  single: Float32Array;
  /** Held-out losses, nats per token; NaN when not finite. */
  losses: { swarm: number; continued: number; alone: number; single: number };
  /** On which line it lies, and how far: 0 is the swarm's adapter, 1 the end. */
  end: PersonalEnd;
  share: number;
  /** Rounds to the best of those that continued. */
  rounds: number;
}

/** All that a peer has for itself. */
export interface PersonalExperts extends Omit<Tuned, 'losses'> {
  /** Trained without the swarm: [adapterSize] float32. */
  alone: Float32Array;
  /** With that of the mixture of swarm, continued and alone, each record by itself. */
  losses: Tuned['losses'] & { mixture: number };
}

/** What has been measured, and the lowest held-out loss so far. */
export interface PersonalProgress {
  done: number;
  total: number;
  best: number;
}

/** How the steps that continue are taken: AdamW with fresh moments at a rate of its own. */
export function personalTraining(
  training: Training,
  run: RunLength,
): { training: Training; run: RunLength } {
  const rounds = Math.ceil(ROUNDS_SHARE * run.epochsMax);
  return {
    training: {
      ...training,
      learningRate: RATE_FACTOR * training.learningRate,
      warmupFraction: WARMUP_FRACTION,
      resetMoments: false,
    },
    run: { ...run, epochsMax: Math.min(ROUNDS_MAX, Math.max(ROUNDS_MIN, rounds)) },
  };
}

/** Null without held-out text to choose by. Rejects with what `train` and `evaluate` reject with. */
export async function tunePersonal(
  init: PersonalInit,
  onProgress: (progress: PersonalProgress) => void,
): Promise<Tuned | null> {
  const { swarm, alone, rounds, evaluate } = init;
  const first = await evaluate(swarm);
  if (first === null) return null;
  // The ends themselves are measured once.
  const total = rounds + 2 * SHARES.length - 1;
  let [best, done] = [first, 0];
  const measure = async (theta: Float32Array): Promise<number> => {
    const loss = (await evaluate(theta)) ?? NaN;
    if (isBetter(loss, best)) best = loss;
    done += 1;
    onProgress({ done, total, best });
    return loss;
  };
  const continued = await continueFrom(init, first, measure);
  done = rounds;
  const ends = [
    { end: 'continued', theta: continued.theta, loss: continued.loss },
    { end: 'alone', theta: alone, loss: await measure(alone) },
  ] as const;
  let found = { end: 'continued' as PersonalEnd, theta: swarm, loss: first, share: 0 };
  for (const { end, theta, loss: lossOfEnd } of ends) {
    if (theta === swarm) continue;
    let least = found.loss - (end === 'alone' ? MARGIN : 0);
    for (const share of SHARES) {
      const point = share === 1 ? theta : pointBetween(swarm, theta, share);
      const loss = share === 1 ? lossOfEnd : await measure(point);
      if (!isBetter(loss, least)) continue;
      found = { end, theta: point, loss, share };
      least = loss;
    }
  }
  const losses = {
    ...{ swarm: first, continued: continued.loss },
    ...{ alone: ends[1].loss, single: found.loss },
  };
  const { theta: single, end, share } = found;
  const { theta: own, rounds: taken } = continued;
  return { continued: own, single, losses, end, share, rounds: taken };
}

/** The best of the rounds from the swarm's adapter on; that adapter itself where none is better than `first`. */
async function continueFrom(
  { swarm, rounds, train }: PersonalInit,
  first: number,
  measure: (theta: Float32Array) => Promise<number>,
): Promise<{ theta: Float32Array; loss: number; rounds: number }> {
  let best = { theta: swarm, loss: first, rounds: 0 };
  let theta = swarm;
  let optimiser: OptimiserState | null = null;
  for (let round = 0; round < rounds && round - best.rounds < PATIENCE; round++) {
    ({ theta, optimiser } = await train(round, theta, optimiser));
    if (firstNotFinite(theta) !== -1) break;
    const loss = await measure(theta);
    if (isBetter(loss, best.loss)) best = { theta, loss, rounds: round + 1 };
  }
  return best;
}

/** Anything finite is better than what is not. */
function isBetter(loss: number, than: number): boolean {
  return Number.isFinite(loss) && !(loss >= than);
}

/** from + share x (to - from): [size] float32. */
function pointBetween(from: Float32Array, to: Float32Array, share: number): Float32Array {
  return from.map((value, i) => value + share * ((to[i] ?? 0) - value));
}
