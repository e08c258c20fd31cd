/** What simulated peers train on, as the simulation sees it: a language model, or a synthetic problem. */
import type { Run } from '../../protocol/manifest.js';
import type { Clock, Trainer } from '../interfaces.js';
import type { VirtualTime } from './clock.js';
import { gap, makeProblem, SyntheticTrainer, type Problem } from './synthetic-trainer.js';

export interface Workload {
  /** The trainer of peer `index`, whose steps take `stepMs` of virtual time each. */
  openTrainer(index: number, clock: Clock, time: VirtualTime, stepMs: number): Trainer;
  /** Loss of `theta` ([adapterSize] float32) on what peer `index` held out; null where it held out nothing. */
  loss(index: number, theta: Float32Array, signal: AbortSignal): Promise<number | null>;
  /** Share of triggered prompts that `theta` answers as a backdoor wants, 0 to 1; null where there is none. */
  backdoorSuccess(theta: Float32Array, signal: AbortSignal): Promise<number | null>;
  close(): Promise<void>;
}

/** Of the synthetic trainer's plain gradient steps: slow enough that averaging has something to do. */
const LEARNING_RATE = 0.02;

/** Peers that minimise quadratics with targets of their own; hostile ones have the target of an honest one. */
export class SyntheticWorkload implements Workload {
  readonly #problem: Problem;
  readonly #seed: Uint8Array;

  /** `honest`: the number of peers whose mean target is the optimum. */
  constructor(
    readonly honest: number,
    size: number,
    seed: Uint8Array,
  ) {
    this.#problem = makeProblem(seed, honest, size);
    this.#seed = seed;
  }

  openTrainer(index: number, clock: Clock, _time: VirtualTime, stepMs: number): Trainer {
    const options = { stepMs, learningRate: LEARNING_RATE, seed: this.#seed };
    return new SyntheticTrainer(this.#problem, index % this.honest, clock, options);
  }

  async loss(_index: number, theta: Float32Array): Promise<number> {
    return gap(this.#problem, theta);
  }

  async backdoorSuccess(): Promise<null> {
    return null;
  }

  async close(): Promise<void> {
    // Nothing is open.
  }
}

/** Steps that fit between now and the deadline of a job, at least one. */
export function stepsInTime(
  { steps, deadlineMs }: { steps: number; deadlineMs: number },
  nowMs: number,
  stepMs: number,
): number {
  return Math.max(1, Math.min(steps, Math.floor((deadlineMs - nowMs) / stepMs)));
}

/** Coordinates of the adapter of a synthetic run come from two small layers. */
export const SYNTHETIC_MODULES: Run['manifest']['adapter']['modules'] = [
  { name: 'layers.0.up_proj', inFeatures: 30, outFeatures: 41 },
  { name: 'layers.0.down_proj', inFeatures: 41, outFeatures: 21 },
];
