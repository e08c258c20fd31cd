/** Trainers around a trainer: one that hostile peers look over the shoulder of, and one that forges what it gives. */
import { Prng } from '../../protocol/prng.js';
import { sha256 } from '../../protocol/bytes.js';
import type { Run } from '../../protocol/manifest.js';
import type { Clock, Trainer, TrainJob, TrainProgress, TrainResult } from '../interfaces.js';
import { HeldMoments } from '../moments.js';
import type { Spying } from './accomplice.js';
import type { Attack } from './attacks.js';

/** When in an epoch a peer that waits for the others goes on: they train until half of it, as a share. */
const LATE = 0.7;

/** A trainer without held-out text. */
export function blinded(inner: Trainer): Trainer {
  return {
    device: inner.device,
    train: (job, onProgress, signal) => inner.train(job, onProgress, signal),
    evaluate: async () => null,
  };
}

/** An honest trainer whose deltas hostile peers get to see. */
export class WatchedTrainer implements Trainer {
  constructor(
    readonly inner: Trainer,
    readonly spying: Spying,
  ) {}

  get device(): string {
    return this.inner.device;
  }

  async train(
    job: TrainJob,
    onProgress: (progress: TrainProgress) => void,
    signal: AbortSignal,
  ): Promise<TrainResult> {
    const result = await this.inner.train(job, onProgress, signal);
    this.spying.record(job.epoch, deltaOf(job.theta, result.theta));
    return result;
  }

  evaluate(theta: Float32Array, signal: AbortSignal): Promise<number | null> {
    return this.inner.evaluate(theta, signal);
  }
}

export interface HostileInit {
  inner: Trainer;
  attack: Attack;
  run: Run;
  peerId: string;
  clock: Clock;
  spying: Spying;
}

/** Trains as its attack says and gives back an adapter that leads to the forged delta. */
export class HostileTrainer implements Trainer {
  readonly #init: HostileInit;
  #theta: Float32Array | null = null;
  #first: Float64Array | null = null;

  constructor(init: HostileInit) {
    this.#init = init;
  }

  get device(): string {
    return this.#init.inner.device;
  }

  async train(
    job: TrainJob,
    onProgress: (progress: TrainProgress) => void,
    signal: AbortSignal,
  ): Promise<TrainResult> {
    const { attack, run, peerId, spying } = this.#init;
    const result = await this.#learn(job, onProgress, signal);
    if (attack.forge === undefined) return result;
    const own = deltaOf(job.theta, result.theta);
    this.#first ??= own;
    const forged = attack.forge({
      own,
      first: this.#first,
      honest: spying.honest(job.epoch),
      drift: deltaOf(this.#theta ?? job.theta, job.theta),
      random: new Prng(sha256(Buffer.from(peerId)), `attack/${run.id}/${job.epoch}`),
    });
    this.#theta = job.theta.slice();
    const theta = job.theta.map((value, i) => value - (forged[i] ?? 0));
    return { ...result, theta };
  }

  /** A liar has no use for held-out text. */
  async evaluate(): Promise<number | null> {
    return null;
  }

  async #learn(
    job: TrainJob,
    onProgress: (progress: TrainProgress) => void,
    signal: AbortSignal,
  ): Promise<TrainResult> {
    const { attack, inner, run, clock } = this.#init;
    const { habit } = attack;
    if (habit === undefined || habit === 'rests') return inner.train(job, onProgress, signal);
    const { startMs, epochMs } = run.manifest.schedule;
    const untilMs = startMs + (job.epoch + LATE) * epochMs;
    await clock.sleep(Math.max(0, untilMs - clock.now()), signal);
    const size = job.theta.length;
    const zeros = { step: 0, m: new Float32Array(size), v: new Float32Array(size) };
    const optimiser = new HeldMoments(zeros);
    return {
      theta: job.theta.slice(),
      optimiser,
      steps: job.steps,
      tokens: 0,
      loss: 0,
      seconds: 1,
    };
  }
}

/** What is subtracted to get from `before` to `after`: [adapterSize] float64. */
function deltaOf(before: Float32Array, after: Float32Array): Float64Array {
  return Float64Array.from(before, (value, i) => value - (after[i] ?? 0));
}
