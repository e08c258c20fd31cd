/** The loss of whole data files, read and packed as in training, under one adapter or several, and their mixture. */
import type { Dataset } from '../data/dataset.js';
import { measureMixture, type TokenLossModel } from './mixture-loss.js';
import { meanLoss, type DifferentiableModel } from './trainer.js';

/** Nats per trained token and the number of these. */
export interface MeasuredLoss {
  /** Trained tokens. */
  tokens: number;
  /** Of each adapter, in the order given, then of each expert and of their mixture; null when it is not finite. */
  losses: (number | null)[];
}

export interface EvaluateOptions {
  model: DifferentiableModel & TokenLossModel;
  /** Rows in one batch of the model. */
  batchSize: number;
  /** One for each file. */
  datasets: readonly Pick<Dataset, 'training' | 'stats'>[];
  /** The adapters: [adapterSize] float32 each. */
  thetas: readonly Float32Array[];
  /** More of them, which are mixed as well: see measureMixture; none: no mixture. */
  experts?: readonly Float32Array[];
}

/**
 * Measures each data set, everything in it. `onProgress` counts batches. Rejects with `signal.reason`
 * between two batches.
 */
export async function evaluate(
  { model, batchSize, datasets, thetas, experts = [] }: EvaluateOptions,
  onProgress: (done: number, total: number) => void,
  signal: AbortSignal,
): Promise<MeasuredLoss[]> {
  const batchesOf = ({ training }: (typeof datasets)[number]): number =>
    Math.ceil(training.rows / batchSize);
  const passes = thetas.length + experts.length;
  const total = passes * datasets.reduce((sum, one) => sum + batchesOf(one), 0);
  let done = 0;
  const measured: MeasuredLoss[] = [];
  for (const { training, stats } of datasets) {
    const losses: (number | null)[] = [];
    for (const theta of thetas) {
      const batches = training.batches(batchSize, Infinity);
      const counted = (function* () {
        for (const batch of batches) {
          yield batch;
          onProgress(++done, total);
        }
      })();
      const loss = await meanLoss(model, counted, theta, signal);
      losses.push(Number.isFinite(loss) ? loss : null);
    }
    if (experts.length > 0) {
      const batches = training.batches(batchSize, Infinity);
      const tell = (): void => onProgress(++done, total);
      const nats = await measureMixture(model, batches, experts, signal, tell);
      for (const sum of [...nats.experts, nats.mixture]) {
        losses.push(Number.isFinite(sum / nats.tokens) ? sum / nats.tokens : null);
      }
    }
    measured.push({ tokens: stats.trainedTokens, losses });
  }
  return measured;
}

/** The loss over the tokens of all of them. */
export function overall(measured: readonly MeasuredLoss[]): MeasuredLoss {
  const tokens = measured.reduce((sum, one) => sum + one.tokens, 0);
  const adapters = measured[0]?.losses.length ?? 0;
  const losses = Array.from({ length: adapters }, (_, adapter) => {
    // One that is not finite makes the mean so too.
    const nats = measured.reduce((sum, one) => sum + one.tokens * (one.losses[adapter] ?? NaN), 0);
    return Number.isNaN(nats) ? null : nats / tokens;
  });
  return { tokens, losses };
}
