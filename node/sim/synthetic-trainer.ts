/**
 * A synthetic trainer, under virtual time in the simulator. Peer i minimises 1/2 sum_j c_j (theta_j - t_ij)^2 with its own
 * target t_i by gradient steps with seeded noise; the swarm's optimum is the mean of the targets.
 */
import {
  TrainerDiedError,
  type Clock,
  type Trainer,
  type TrainJob,
  type TrainProgress,
  type TrainResult,
} from '../interfaces.js';
import { HeldMoments } from '../moments.js';
import { Prng } from '../../protocol/prng.js';

/** Standard deviation of gradient noise relative to a target's coordinate of about 1. */
const NOISE = 0.02;

export interface Problem {
  /** [peers][size] */
  targets: Float64Array[];
  /** Mean of the targets, the swarm's optimum: [size]. */
  optimum: Float64Array;
  /** [size], 0.5 to 1.5. */
  curvature: Float64Array;
}

/** Targets that share a direction and differ as much again: strongly non-iid. */
export function makeProblem(seed: Uint8Array, peers: number, size: number): Problem {
  const random = new Prng(seed, 'problem');
  const draw = (): number => 2 * random.nextFloat() - 1;
  const common = Float64Array.from({ length: size }, draw);
  const targets = Array.from({ length: peers }, () => common.map((value) => value + draw()));
  const curvature = Float64Array.from({ length: size }, () => 0.5 + random.nextFloat());
  const optimum = new Float64Array(size);
  for (const target of targets) target.forEach((value, j) => (optimum[j]! += value / peers));
  return { targets, optimum, curvature };
}

/** Mean loss of `theta` over all peers' problems, minus the least possible. */
export function gap({ optimum, curvature }: Problem, theta: ArrayLike<number>): number {
  const size = curvature.length;
  let sum = 0;
  for (let j = 0; j < size; j++) {
    sum += 0.5 * curvature[j]! * (theta[j]! - optimum[j]!) ** 2;
  }
  return sum / size;
}

/** Loss of `theta` on the problem of peer `index`, which it shares with nobody: 0 at its target. */
export function ownLoss(
  { targets, curvature }: Problem,
  index: number,
  theta: ArrayLike<number>,
): number {
  const target = targets[index]!;
  let sum = 0;
  for (let j = 0; j < target.length; j++) {
    sum += 0.5 * curvature[j]! * (theta[j]! - target[j]!) ** 2;
  }
  return sum / target.length;
}

export class SyntheticTrainer implements Trainer {
  readonly device = 'simulation';
  /** When set, the next call to train() fails as if the child process had been killed. */
  diesNext = false;
  /** While set, no step has a finite loss, as after a division by zero. */
  givesNaN = false;
  /** While set, so has no evaluation. */
  measuresNaN = false;
  /** Calls of train(). */
  calls = 0;
  /** Virtual ms for which the machine stands still in the next step of the next call. */
  sleepsNextMs = 0;

  constructor(
    readonly problem: Problem,
    readonly index: number,
    readonly clock: Clock,
    readonly options: { stepMs: number; learningRate: number; seed: Uint8Array },
  ) {}

  async train(
    job: TrainJob,
    onProgress: (progress: TrainProgress) => void,
    signal: AbortSignal,
  ): Promise<TrainResult> {
    this.calls++;
    const { stepMs, learningRate, seed } = this.options;
    const theta = Float32Array.from(job.theta);
    const target = this.problem.targets[this.index]!;
    const random = new Prng(seed, `noise/${this.index}/${job.epoch}`);
    let steps = 0;
    for (; steps < job.steps; steps++) {
      if (steps > 0 && this.clock.now() + stepMs > job.deadlineMs) break;
      const pauseMs = this.sleepsNextMs;
      this.sleepsNextMs = 0;
      await this.clock.sleep(stepMs + pauseMs, signal);
      if (this.diesNext) {
        this.diesNext = false;
        throw new TrainerDiedError('The training process was killed (SIGKILL).');
      }
      for (let j = 0; j < theta.length; j++) {
        const noise = NOISE * (2 * random.nextFloat() - 1);
        theta[j]! -= learningRate * (this.problem.curvature[j]! * (theta[j]! - target[j]!) + noise);
      }
      onProgress({ epoch: job.epoch, step: steps + 1, steps: job.steps, loss: 1 });
    }
    const size = theta.length;
    const { m, v } =
      job.optimiser instanceof HeldMoments
        ? job.optimiser.state
        : { m: new Float32Array(size), v: new Float32Array(size) };
    const step = (job.optimiser?.step ?? 0) + steps;
    return {
      theta: this.givesNaN ? theta.fill(NaN) : theta,
      skippedSteps: this.givesNaN ? steps : 0,
      optimiser: new HeldMoments({ step, m, v }),
      steps,
      tokens: 10 * steps,
      loss: gap(this.problem, theta),
      seconds: (steps * stepMs) / 1000,
    };
  }

  async evaluate(theta: Float32Array, signal: AbortSignal): Promise<number | null> {
    await this.clock.sleep(this.options.stepMs, signal);
    return this.measuresNaN ? NaN : ownLoss(this.problem, this.index, theta);
  }
}
