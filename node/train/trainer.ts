/**
 * Local training between two averagings (local SGD with AdamW as the inner optimiser, as in DiLoCo,
 * 2311.08105): some steps from the shared adapter on this peer's own batches, boxed in time.
 */
import { setImmediate } from 'node:timers/promises';
import type { Training } from '../../protocol/manifest.js';
import type { TrainingRows } from '../data/dataset.js';
import type { Batch } from '../data/packing.js';
import type { LanguageModel, LossResult } from '../model/language-model.js';
import type { OptimiserState, TrainJob, TrainProgress, TrainResult } from '../interfaces.js';
import { accumulatedGradient, GradientBuffers, type AccumulatingModel } from './accumulate.js';
import { inTurn } from './in-turn.js';
import type { StepGradient } from './private-gradient.js';
import { firstNotFinite } from '../model/finite.js';
import {
  adamWStep,
  clipGradientNorm,
  copyOptimiserState,
  isFiniteState,
  newOptimiserState,
  resetOptimiserState,
} from './optimiser.js';
import { learningRateAt, runProgress, type RunLength } from './schedule.js';

/** What the trainer needs of a language model. */
export type DifferentiableModel = AccumulatingModel & Pick<LanguageModel, 'loss'>;

export interface LocalTrainerInit {
  /** Takes the batch of a step in parts where its batchSize is below the run's: see accumulate.ts. */
  model: DifferentiableModel;
  /** What the gradient is computed in; several trainers on one model may share it. Default: its own. */
  buffers?: GradientBuffers;
  training: Training;
  run: RunLength;
  trainingData: Pick<TrainingRows, 'batch'>;
  /** The gradient of a step where training is private: see privateGradient. Then trainingData is not read. */
  privateGradient?: (
    theta: Float32Array,
    signal: AbortSignal,
    buffers: GradientBuffers,
  ) => Promise<StepGradient>;
  /** One pass over the held-out text, up to heldOutTokensMax(), in the model's own batches; empty when there is none. */
  heldOut: readonly Batch[];
  /** Coordinates of the adapter. */
  adapterSize: number;
}

/** A job whose arrays lie in this process. */
export type LocalJob = Omit<TrainJob, 'optimiser' | 'into'> & { optimiser: OptimiserState | null };

/** What became of it. */
export type LocalResult = Omit<TrainResult, 'optimiser'> & {
  optimiser: OptimiserState;
  skippedSteps: number;
};

/** As many held-out tokens give a standard error of a few hundredths of a nat; more tell little. */
const HELD_OUT_TOKENS_MAX = 8192;
/** With fewer the curve would be noise. */
const HELD_OUT_TOKENS_MIN = 512;

/**
 * Held-out input tokens that an evaluation reads: at most as many as the steps of one epoch, as a forward
 * pass costs about a third of a step, so that it fits into what training leaves of the epoch.
 */
export function heldOutTokensMax(run: Pick<RunLength, 'stepsRef'>, training: Training): number {
  const epochTokens = run.stepsRef * training.batchSize * training.sequenceLength;
  return Math.min(HELD_OUT_TOKENS_MAX, Math.max(HELD_OUT_TOKENS_MIN, epochTokens));
}

/** Step times remembered for the prediction: enough to see a hiccup, few enough to forget it. */
const RECENT_STEPS = 8;

/** Runs the steps of one epoch at a time. Calls must not overlap. */
export class LocalTrainer {
  readonly #init: LocalTrainerInit;
  readonly #buffers: GradientBuffers;
  readonly #recentMs: number[] = [];

  constructor(init: LocalTrainerInit) {
    this.#init = init;
    this.#buffers = init.buffers ?? new GradientBuffers(init.adapterSize);
  }

  /** As trainInPlace, on copies: `job` stays as it is. */
  async train(
    job: LocalJob,
    onProgress: (progress: TrainProgress) => void,
    signal: AbortSignal,
  ): Promise<LocalResult> {
    const { theta, optimiser } = job;
    const copy = {
      ...job,
      theta: theta.slice(),
      optimiser: optimiser && copyOptimiserState(optimiser),
    };
    return this.trainInPlace(copy, onProgress, signal);
  }

  /**
   * Changes `job.theta` and `job.optimiser`, which the result holds again: each is as large as the adapter, and a copy of
   * them would be three more. Steps epoch x stepsRef + i for i from 0, until `job.steps` are taken or the next would probably end
   * after `job.deadlineMs`; at least one. Gives way to the event loop after each step and between the parts
   * of its batch, so that `signal` is seen: then rejects with its reason. A step whose loss or gradient is not finite is left out; when
   * all are, or where the steps led out of the finite numbers, all of theta is NaN in the result, and the optimiser has
   * zero moments. Throws RangeError for sizes that differ, and for NaN or infinity in what it is given.
   */
  async trainInPlace(
    job: LocalJob,
    onProgress: (progress: TrainProgress) => void,
    signal: AbortSignal,
  ): Promise<LocalResult> {
    this.#checkSizes(job);
    const { training, run } = this.#init;
    const { theta } = job;
    const optimiser = job.optimiser ?? newOptimiserState(theta.length);
    if (training.resetMoments) resetOptimiserState(optimiser);
    const total = { steps: 0, skipped: 0, tokens: 0, targets: 0, loss: 0, ms: 0 };
    for (let i = 0; i < job.steps; i++) {
      signal.throwIfAborted();
      if (i > 0 && Date.now() + this.#predictedMs() > job.deadlineMs) break;
      const startMs = performance.now();
      const gradient = await this.#gradient(job.epoch * run.stepsRef + i, theta, signal);
      const step = this.#step(theta, optimiser, gradient, runProgress(run, job.epoch, i));
      const stepMs = performance.now() - startMs;
      this.#remember(stepMs);
      total.ms += stepMs;
      total.tokens += gradient.inputTokens;
      if (step === null) {
        total.skipped++;
      } else {
        total.steps++;
        total.targets += step.targets;
        total.loss += step.loss * step.targets;
        onProgress({ epoch: job.epoch, step: i + 1, steps: job.steps, loss: step.loss });
      }
      await setImmediate();
    }
    const { steps, skipped } = total;
    const isSound = isFiniteState(optimiser) && firstNotFinite(theta) === -1;
    if (!isSound) resetOptimiserState(optimiser);
    return {
      // As plain AdamW would leave it: a step that was never taken must not pass for a contribution.
      theta: steps === 0 || !isSound ? theta.fill(NaN) : theta,
      optimiser,
      steps: steps === 0 ? skipped : steps,
      tokens: total.tokens,
      loss: total.loss / total.targets,
      seconds: total.ms / 1000,
      skippedSteps: skipped,
    };
  }

  /** Mean loss of `theta` over the held-out targets, nats per token, NaN when it is not finite; null without any. */
  async evaluate(theta: Float32Array, signal: AbortSignal): Promise<number | null> {
    this.#checkSize(theta.length, 'theta');
    return meanLoss(this.#init.model, this.#init.heldOut, theta, signal);
  }

  /** Loss and gradient of step number `step` at `theta`. */
  async #gradient(step: number, theta: Float32Array, signal: AbortSignal): Promise<StepGradient> {
    const { model, training, trainingData, privateGradient } = this.#init;
    const buffers = this.#buffers;
    if (privateGradient) return privateGradient(theta, signal, buffers);
    const batch = trainingData.batch(step, training.batchSize);
    const { inputTokens } = batch;
    return { ...(await accumulatedGradient(model, batch, theta, signal, buffers)), inputTokens };
  }

  /** One AdamW step in place, or null when loss or gradient is not finite and nothing was changed. */
  #step(
    theta: Float32Array,
    optimiser: OptimiserState,
    { loss, targets, gradient }: StepGradient,
    progress: number,
  ): { loss: number; targets: number } | null {
    const { training } = this.#init;
    const norm = clipGradientNorm(gradient, training.gradientNormMax);
    if (!Number.isFinite(loss) || !Number.isFinite(norm)) return null;
    const { beta1, beta2, epsilon, weightDecay } = training;
    const learningRate = learningRateAt(training, progress);
    adamWStep(theta, gradient, optimiser, { learningRate, beta1, beta2, epsilon, weightDecay });
    return { loss, targets };
  }

  /** The slowest of the recent steps: a step that ends late costs the epoch, one left out little. */
  #predictedMs(): number {
    return Math.max(0, ...this.#recentMs);
  }

  #remember(stepMs: number): void {
    this.#recentMs.push(stepMs);
    if (this.#recentMs.length > RECENT_STEPS) this.#recentMs.shift();
  }

  #checkSizes(job: LocalJob): void {
    this.#checkSize(job.theta.length, 'theta');
    if (job.optimiser !== null) {
      this.#checkSize(job.optimiser.m.length, 'the first moment');
      this.#checkSize(job.optimiser.v.length, 'the second moment');
      if (!isFiniteState(job.optimiser)) throw new RangeError('the optimiser is not finite');
    }
    if (firstNotFinite(job.theta) !== -1) throw new RangeError('theta is not finite');
  }

  #checkSize(length: number, what: string): void {
    const { adapterSize } = this.#init;
    if (length === adapterSize) return;
    throw new RangeError(
      `${what} has ${length} coordinates, but the adapter of this run has ${adapterSize}`,
    );
  }
}

/**
 * Mean loss of `theta` ([adapterSize] float32) over all targets of `batches`, nats per token, NaN when it is
 * not finite; null when there are none. Rejects with `signal.reason` between two batches.
 */
export async function meanLoss(
  model: DifferentiableModel,
  batches: Iterable<Batch>,
  theta: Float32Array,
  signal: AbortSignal,
): Promise<number | null> {
  let [sum, count] = [0, 0];
  const lossOf = (batch: Batch): Promise<LossResult> => model.loss(batch, theta);
  for await (const { loss, targets } of inTurn(batches, lossOf, signal, model.replicas)) {
    sum += loss * targets;
    count += targets;
  }
  if (count === 0) return null;
  return Number.isFinite(sum) ? sum / count : NaN;
}
