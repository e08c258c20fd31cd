/**
 * The gradient of differentially private training (DP-SGD: Abadi et al., 1607.00133, of an adapter: Yu et al.,
 * 2110.06500): records drawn by Poisson sampling, the gradient of each clipped, noise on their sum.
 */
import type { SingleBatch, SingleRows } from '../data/single-rows.js';
import type { BatchShape } from '../model/family.js';
import type { ExampleGradients, GradientResult, LanguageModel } from '../model/language-model.js';
import { refuseNotFinite } from '../model/finite.js';
import { GradientBuffers } from './accumulate.js';
import { inTurn } from './in-turn.js';
import { cryptographic, type Randomness } from './randomness.js';

/** How a peer hides its records. */
export interface PrivateTraining {
  /** Standard deviation of the noise as a multiple of `clip`. */
  noise: number;
  /** L2 norm, over the whole adapter, that the gradient of one record is cut to. */
  clip: number;
  /** Records in a step, on average. */
  batchSize: number;
  /** Probability of each record to be in a step. */
  sampleRate: number;
}

/** Loss and gradient of one step, and positions that were no padding. */
export interface StepGradient extends GradientResult {
  inputTokens: number;
}

export interface PrivateGradientInit {
  model: Pick<LanguageModel, 'exampleGradients'> & Partial<Pick<LanguageModel, 'replicas'>>;
  /** Records that go through the model at once, and their length. */
  shape: BatchShape;
  records: Pick<SingleRows, 'count' | 'batch'>;
  settings: PrivateTraining;
  /** Default: cryptographic. */
  random?: Randomness;
}

/**
 * Draws the records of one step and returns (sum of their clipped gradients + noise) / batchSize at `theta`
 * ([adapterSize] float32): always finite, also when no record was drawn, and of a record whose own gradient is not
 * finite nothing. The loss is for the user alone: it has no noise. Rejects with `signal.reason` between two parts.
 *
 * Clipping and noise are computed here in float64, so that whatever computed the gradients, and however exactly, no
 * record moves the sum by more than `clip`. The gradient lies in `buffers`, until they are used again.
 */
export async function privateGradient(
  { model, shape, records, settings, random = cryptographic }: PrivateGradientInit,
  theta: Float32Array,
  signal: AbortSignal,
  buffers = new GradientBuffers(theta.length),
): Promise<StepGradient> {
  const { noise, clip, batchSize, sampleRate } = settings;
  const sum = buffers.exactSum.fill(0);
  const total = { nats: 0, targets: 0, inputTokens: 0 };
  const drawn = random.sample(records.count, sampleRate);
  const measure = async (part: readonly number[]): Promise<ExampleGradients & SingleBatch> => {
    const batch = records.batch(part, shape, (count) => random.below(count));
    return { ...batch, ...(await model.exampleGradients(batch, theta)) };
  };
  const count = Math.ceil(drawn.length / shape.batchSize);
  const parts = Array.from({ length: count }, (_, i) =>
    drawn.slice(i * shape.batchSize, (i + 1) * shape.batchSize),
  );
  for await (const part of inTurn(parts, measure, signal, model.replicas)) {
    const { losses, gradients, rowTargets, inputTokens } = part;
    for (let i = 0; i < rowTargets.length; i++) {
      addClipped(sum, gradients.subarray(i * theta.length, (i + 1) * theta.length), clip);
      const targets = rowTargets[i]!;
      if (!Number.isFinite(losses[i])) continue;
      total.nats += targets * losses[i]!;
      total.targets += targets;
    }
    total.inputTokens += inputTokens;
  }
  random.addGaussians(sum, noise * clip);
  const gradient = buffers.sum;
  for (let i = 0; i < gradient.length; i++) gradient[i] = sum[i]! / batchSize;
  refuseNotFinite(
    gradient,
    'the noise of private training',
    `found the run with less of it: noise ${noise} x clip ${clip} is more than 32 bits hold`,
  );
  return {
    loss: total.targets === 0 ? 0 : total.nats / total.targets,
    targets: total.targets,
    gradient,
    inputTokens: total.inputTokens,
  };
}

/** Adds `gradient`, scaled down to the norm `clip` where it is longer; nothing when it is not finite. */
function addClipped(sum: Float64Array, gradient: Float32Array, clip: number): void {
  let squares = 0;
  for (let i = 0; i < gradient.length; i++) squares += gradient[i]! * gradient[i]!;
  const norm = Math.sqrt(squares);
  if (!Number.isFinite(norm)) return;
  const scale = norm > clip ? clip / norm : 1;
  for (let i = 0; i < gradient.length; i++) sum[i]! += scale * gradient[i]!;
}
