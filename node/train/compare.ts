/**
 * What sharing brought: per domain, the held-out loss of the untouched base, of the swarm's adapter, of an adapter
 * trained alone (own data, the same schedule and steps, no compression, no averaging), and of the mixture of both with
 * what continued from the swarm's on own data.
 */
import type { Batch } from '../data/packing.js';
import type { OptimiserState } from '../interfaces.js';
import { measureMixture, type TokenLossModel } from './mixture-loss.js';
import { meanLoss, type DifferentiableModel, type LocalTrainer } from './trainer.js';
import { firstNotFinite } from '../model/finite.js';

/** Losses in nats per held-out target; null where the domain holds nothing out or it is not finite. */
export interface DomainLosses {
  domain: string;
  base: number | null;
  alone: number | null;
  swarm: number | null;
  /** Of the mixture; also null where this peer holds nothing out to train its experts by. */
  personal: number | null;
}

/** What trains alone. */
export interface Loner {
  /** On this peer's own data. */
  trainer: LocalTrainer;
  /** lora_B = 0: [adapterSize] float32. */
  theta0: Float32Array;
  /** Steps by epoch; 0 leaves an epoch out, as a peer that was away does. */
  stepsByEpoch: readonly number[];
}

export interface Comparison {
  model: DifferentiableModel & TokenLossModel;
  /** theta0, the lone adapter and the swarm's, [adapterSize] float32 each. */
  theta0: Float32Array;
  alone: Float32Array;
  swarm: Float32Array;
  /** See personal.ts; null for none, and then there is no mixture. */
  continued: Float32Array | null;
  domains: readonly { name: string; heldOut: readonly Batch[] }[];
}

export interface ComparisonProgress {
  /** personal: see PersonalProgress; alone: optimiser steps; held-out: adapters measured. */
  stage: 'personal' | 'alone' | 'held-out';
  done: number;
  total: number;
}

/** Held-out input tokens read per domain and adapter: more than in an epoch, for this is done once. */
export const COMPARISON_TOKENS_MAX = 65_536;

/** Rejects with `signal.reason` between two batches. */
export async function compareAdapters(
  comparison: Comparison,
  onProgress: (progress: ComparisonProgress) => void,
  signal: AbortSignal,
): Promise<DomainLosses[]> {
  const { model, domains, theta0, alone, swarm, continued } = comparison;
  const losses: DomainLosses[] = [];
  const adapters = continued === null ? 3 : 4;
  const total = adapters * domains.length;
  for (const { name, heldOut } of domains) {
    const measure = async (theta: Float32Array): Promise<number | null> => {
      const loss = await meanLoss(model, heldOut, theta, signal);
      return told(loss);
    };
    const told = (loss: number | null): number | null => {
      done++;
      onProgress({ stage: 'held-out', done, total });
      return Number.isFinite(loss) ? loss : null;
    };
    const mixed = async (experts: readonly Float32Array[]): Promise<number | null> => {
      const { mixture, tokens } = await measureMixture(model, heldOut, experts, signal);
      return told(mixture / tokens);
    };
    let done = adapters * losses.length;
    losses.push({
      domain: name,
      base: await measure(theta0),
      alone: await measure(alone),
      swarm: await measure(swarm),
      personal: continued === null ? null : await mixed([swarm, continued, alone]),
    });
  }
  return losses;
}

/** The lone adapter: [adapterSize] float32. Rejects with `signal.reason` between two steps. Throws what LocalTrainer throws. */
export async function trainAlone(
  { trainer, theta0, stepsByEpoch }: Loner,
  onProgress: (progress: ComparisonProgress) => void,
  signal: AbortSignal,
): Promise<Float32Array> {
  const total = stepsByEpoch.reduce((sum, steps) => sum + steps, 0);
  const theta = theta0.slice();
  let optimiser: OptimiserState | null = null;
  let done = 0;
  for (const [epoch, steps] of stepsByEpoch.entries()) {
    if (steps === 0) continue;
    const before = done;
    const job = { epoch, theta, optimiser, steps, deadlineMs: Infinity };
    const result = await trainer.trainInPlace(
      job,
      ({ step }) => onProgress({ stage: 'alone', done: before + step, total }),
      signal,
    );
    done += steps;
    optimiser = result.optimiser;
    // No step leads on from there; its losses are then none.
    if (firstNotFinite(theta) !== -1) break;
  }
  return theta;
}
