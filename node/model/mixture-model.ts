/**
 * A mixture of experts that reads one text and says what comes next, as a NextTokenModel: its logits are the
 * mixture's log-probabilities. The weights are a function of the tokens that it remembers, so that whoever reads the
 * same text again, or goes on from a beginning of it, has the same weights: nothing else is kept of a conversation.
 */
import type { CompiledGraph, Feeds } from '../engine/executor.js';
import type { Value } from '../engine/graph.js';
import { HeldKeys } from './cache.js';
import type { ModelConfig } from './config.js';
import {
  EXPERTS_INPUT,
  openExpertGraph,
  sideBySide,
  type ExpertGraphOptions,
} from './expert-graph.js';
import { checkVocabulary } from './load.js';
import { MixtureWeights, mixRows } from './mixture.js';
import type { NextTokenModel } from './next-token-model.js';

/** A NextTokenModel that can say who speaks. */
export interface MixtureModel extends NextTokenModel {
  /** The weights after the tokens that it remembers: [K], together 1. */
  readonly weights: readonly number[];
}

/** One copy of a model's weights for several mixtures; calls of its readers must not overlap. */
export interface MixtureGraph {
  /** A reader with a memory of its own. thetas: K of [adapterSize] float32; its `dispose` frees the graph for all. */
  reader(thetas: readonly Float32Array[]): MixtureModel;
  /** Frees the weights. */
  dispose(): Promise<void>;
}

/** With experts that stay. Throws as openNextTokenModel. */
export async function openMixtureModel(
  options: Omit<ExpertGraphOptions, 'experts'> & { thetas: readonly Float32Array[] },
): Promise<MixtureModel> {
  const whole = { ...options, experts: options.thetas.length };
  const { graph, rows } = await openExpertGraph(whole);
  return new CachedMixture(whole, graph, rows, {});
}

/** With experts that are fed: see openNextTokenGraph. */
export async function openMixtureGraph(
  options: Omit<ExpertGraphOptions, 'thetas'>,
): Promise<MixtureGraph> {
  const { graph, rows } = await openExpertGraph(options);
  return {
    reader: (thetas) =>
      new CachedMixture(options, graph, rows, {
        [EXPERTS_INPUT]: sideBySide(options.adapter, thetas),
      }),
    dispose: () => graph.dispose(),
  };
}

class CachedMixture implements MixtureModel {
  readonly config: ModelConfig;
  readonly capacity: number;
  length = 0;
  private readonly chunk: number;
  private readonly experts: number;
  private readonly cache: HeldKeys;
  /** The tokens that are remembered. */
  private readonly held: Int32Array;
  /** Logarithms of the weights after so many of them: [capacity + 1, K]. */
  private readonly logs: Float64Array;
  /** [K, V] log-probabilities after the last token; null where that has to be read again. */
  private next: Float32Array | null = null;

  constructor(
    { config, capacity, chunk, experts }: ExpertGraphOptions,
    private readonly graph: CompiledGraph,
    rows: Readonly<Record<string, Value>>,
    /** The adapters, where they are fed. */
    private readonly feeds: Feeds,
  ) {
    this.config = config;
    this.capacity = capacity;
    this.chunk = chunk;
    this.experts = experts;
    this.cache = new HeldKeys(graph, rows);
    this.held = new Int32Array(capacity);
    this.logs = new Float64Array((capacity + 1) * experts);
    this.logs.set(new MixtureWeights().logs);
  }

  get weights(): readonly number[] {
    return Array.from(this.logsAt(this.length), Math.exp);
  }

  async read(tokens: readonly number[], signal?: AbortSignal): Promise<Float32Array> {
    const room = this.capacity - this.length;
    if (tokens.length === 0 || tokens.length > room) {
      throw new RangeError(`got ${tokens.length} tokens, but must be 1 to the ${room} that fit`);
    }
    checkVocabulary(this.config, tokens);
    // What its experts say after a token is not kept for every one: where it is wanted again, that token is read again.
    const again = this.next === null && this.length > 0 ? [this.held[this.length - 1]!] : [];
    const unread = [...again, ...tokens];
    for (let start = 0; start < unread.length; start += this.chunk) {
      signal?.throwIfAborted();
      const place = start === 0 ? this.length - again.length : this.length;
      await this.readChunk(unread.slice(start, start + this.chunk), place);
    }
    return mixRows(this.next!, this.logsAt(this.length));
  }

  forget(keep = 0): void {
    if (keep < 0 || keep > this.length) {
      throw new RangeError(`cannot keep ${keep} of ${this.length} tokens`);
    }
    if (keep !== this.length) this.next = null;
    this.length = keep;
  }

  async dispose(): Promise<void> {
    await this.graph.dispose();
  }

  /** tokens: 1 to `chunk`, the first of them at `place`. */
  private async readChunk(tokens: readonly number[], place: number): Promise<void> {
    const { chunk, experts, next: before } = this;
    const { vocabSize } = this.config;
    const last = tokens.length - 1;
    // As in the model without experts, the last token fills what is left over.
    const fill = (valueOf: (i: number) => number): Int32Array =>
      Int32Array.from({ length: experts * chunk }, (_, i) => valueOf(Math.min(i % chunk, last)));
    const picks = fill((i) => tokens[Math.min(i + 1, last)]!);
    const { next, picked, ...rows } = await this.graph.run({
      ...this.feeds,
      ...this.cache.feeds,
      tokens: fill((i) => tokens[i]!),
      positions: fill((i) => place + i),
      held: Int32Array.of(place),
      ends: Int32Array.from({ length: experts }, (_, k) => k * chunk + last),
      ...(chunk > 1 && { picks: picks.map((token, row) => row * vocabSize + token) }),
    });
    if (!(next instanceof Float32Array)) throw new TypeError('the graph returned no float32');
    this.cache.write(rows, place, tokens.length);
    for (const [i, token] of tokens.entries()) {
      const logs = Array.from({ length: experts }, (_, k) =>
        i === 0 ? before?.[k * vocabSize + token] : picked?.[k * chunk + i - 1],
      );
      this.take(token, place + i, logs);
    }
    this.next = next;
  }

  /** The token at `place`, and the log-probability that each expert gave to it. */
  private take(token: number, place: number, logs: readonly (number | undefined)[]): void {
    // One that was read before has its weights. Nobody predicts the first token of all.
    if (place === this.length) {
      const weights = new MixtureWeights();
      weights.logs.set(this.logsAt(place));
      if (place > 0) weights.observe(logs.map((log) => log ?? NaN));
      this.logsAt(place + 1).set(weights.logs);
      this.held[place] = token;
    }
    this.length = place + 1;
  }

  private logsAt(length: number): Float64Array {
    return this.logs.subarray(length * this.experts, (length + 1) * this.experts);
  }
}
