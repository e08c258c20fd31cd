/** What a mixture of experts loses on data, each text by itself: its weights begin anew with every record. */
import { MixtureWeights } from '../model/mixture.js';
import type { LanguageModel } from '../model/language-model.js';
import { IGNORED_TARGET, type TokenBatch } from '../model/token-batch.js';
import { inTurn } from './in-turn.js';

/** What it takes of a language model; without `replicas` there is one. */
export type TokenLossModel = Pick<LanguageModel, 'tokenLosses' | 'sequenceLength'> &
  Partial<Pick<LanguageModel, 'replicas'>>;

/** Nats over `tokens` trained tokens; NaN where they are not finite. */
export interface MixtureNats {
  tokens: number;
  /** Of each expert by itself. */
  experts: number[];
  mixture: number;
}

/**
 * The batch with a target at every token that has another one of its text behind it: the experts are weighed by the
 * prompt too, which is not trained. `length`: positions of a row.
 */
export function withAllTargets(batch: TokenBatch, length: number): TokenBatch {
  const { tokens, segments } = batch;
  const targets = batch.targets.map((target, i) => {
    const isInside = (i + 1) % length !== 0 && segments[i] !== 0 && segments[i] === segments[i + 1];
    return target === IGNORED_TARGET && isInside ? (tokens[i + 1] ?? IGNORED_TARGET) : target;
  });
  return { tokens, segments, targets };
}

/**
 * What `batch`, rows of `length` positions, loses by its own targets. nats: of each expert, all its tokens', as
 * LanguageModel.tokenLosses gives them for withAllTargets: [B T] float32 each.
 */
export function mixtureNats(
  batch: TokenBatch,
  nats: readonly Float32Array[],
  length: number,
): MixtureNats {
  const { targets } = withAllTargets(batch, length);
  const total: MixtureNats = { tokens: 0, experts: nats.map(() => 0), mixture: 0 };
  let weights = new MixtureWeights();
  for (const [i, target] of targets.entries()) {
    const isFirst = i % length === 0 || batch.segments[i] !== batch.segments[i - 1];
    if (isFirst) weights = new MixtureWeights();
    if (target === IGNORED_TARGET) continue;
    const own = nats.map((one) => one[i] ?? NaN);
    const log = weights.observe(own.map((one) => -one));
    if (batch.targets[i] === IGNORED_TARGET) continue;
    total.tokens += 1;
    total.mixture -= log;
    for (const [k, one] of own.entries()) total.experts[k]! += one;
  }
  return total;
}

/**
 * Over all batches, of each expert (thetas: [adapterSize] float32 each) and of their mixture. `onBatch` is told after
 * each pass of an expert over a batch. Rejects with `signal.reason` between two of them.
 */
export async function measureMixture(
  model: TokenLossModel,
  batches: Iterable<TokenBatch>,
  thetas: readonly Float32Array[],
  signal: AbortSignal,
  onBatch: () => void = () => undefined,
): Promise<MixtureNats> {
  const { sequenceLength, replicas } = model;
  const total: MixtureNats = { tokens: 0, experts: thetas.map(() => 0), mixture: 0 };
  const passes = (function* () {
    for (const batch of batches) {
      const whole = withAllTargets(batch, sequenceLength);
      for (const theta of thetas) yield { batch, whole, theta };
    }
  })();
  let nats: Float32Array[] = [];
  const run = async ({
    batch,
    whole,
    theta,
  }: {
    batch: TokenBatch;
    whole: TokenBatch;
    theta: Float32Array;
  }) => ({
    batch,
    own: await model.tokenLosses(whole, theta),
  });
  for await (const { batch, own } of inTurn(passes, run, signal, replicas)) {
    nats.push(own);
    onBatch();
    if (nats.length < thetas.length) continue;
    const part = mixtureNats(batch, nats, sequenceLength);
    nats = [];
    total.tokens += part.tokens;
    total.mixture += part.mixture;
    for (const [k, one] of part.experts.entries()) total.experts[k]! += one;
  }
  return total;
}
