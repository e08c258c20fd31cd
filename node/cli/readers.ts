/** What writes text: one graph that reads with the base, with the adapter, and with --personal as the mixture. */
import type { Program } from '../engine/executor.js';
import { expertProgram } from '../model/expert-graph.js';
import { openMixtureGraph, openMixtureModel } from '../model/mixture-model.js';
import {
  nextTokenProgram,
  openNextTokenGraph,
  openNextTokenModel,
  type NextTokenGraphOptions,
  type NextTokenModel,
} from '../model/next-token-model.js';
import { expertsOf, type ChosenModel } from './chosen-model.js';

type Chosen = Pick<ChosenModel, 'own' | 'theta'>;

/** Readers of one graph, whose calls must not overlap. */
export interface Readers {
  /** The base model alone. */
  base(): NextTokenModel;
  /** With `theta`, [adapterSize] float32, mixed with this peer's own experts where those were asked for. */
  adapted(theta: Float32Array): NextTokenModel;
  /** Frees the weights. */
  dispose(): Promise<void>;
}

/**
 * Tokens in a run, where one adapter takes `chunk`: each is a row for every expert, and what counts are rows
 * (docs/ENGINE.md, Generation).
 */
export function chunkOf({ own }: Pick<Chosen, 'own'>, chunk: number): number {
  return own === null ? chunk : Math.max(1, chunk / 2);
}

/** The graph before it is compiled. Throws UserError as nextTokenProgram. */
export function readersProgram(chosen: Chosen, options: NextTokenGraphOptions): Promise<Program> {
  const experts = expertsOf(chosen, chosen.theta);
  if (experts === null) return nextTokenProgram(options);
  return expertProgram({ ...options, experts: experts.length });
}

/** For several adapters. Throws as openNextTokenGraph. */
export async function openReaders(
  chosen: Chosen,
  options: NextTokenGraphOptions,
): Promise<Readers> {
  const zero = new Float32Array(chosen.theta.length);
  const experts = expertsOf(chosen, zero);
  if (experts === null) {
    const graph = await openNextTokenGraph(options);
    const adapted = (theta: Float32Array): NextTokenModel => graph.reader(theta);
    return { base: () => adapted(zero), adapted, dispose: () => graph.dispose() };
  }
  const graph = await openMixtureGraph({ ...options, experts: experts.length });
  return {
    // A mixture of equals is each of them; a graph without experts would hold the weights once more.
    base: () => graph.reader(experts.map(() => zero)),
    adapted: (theta) => graph.reader(expertsOf(chosen, theta) ?? []),
    dispose: () => graph.dispose(),
  };
}

/** With the chosen adapter for good, which takes less time than one of several. Throws as openNextTokenModel. */
export function openReader(
  chosen: Chosen,
  options: NextTokenGraphOptions,
): Promise<NextTokenModel> {
  const { theta } = chosen;
  const thetas = expertsOf(chosen, theta);
  if (thetas === null) return openNextTokenModel({ ...options, theta });
  return openMixtureModel({ ...options, thetas });
}
