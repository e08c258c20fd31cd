/**
 * A frozen language model that reads one text and says what comes next. It keeps what attention needs of
 * the tokens read (the key/value cache), so that each is read once. One graph, one copy of the weights:
 * it takes a few tokens at a time, which cost little more than one, and long prompts come in such pieces.
 */
import type { CompiledGraph, Feeds, Program, TensorData } from '../engine/executor.js';
import { constant, input, type Value } from '../engine/graph.js';
import { gather, reshape, softcap } from '../engine/ops/index.js';
import { HeldKeys, KeyValueCache } from './cache.js';
import type { ModelConfig } from './config.js';
import { decoderOf } from './families.js';
import { frozenProduct } from './frozen-product.js';
import { arithmeticOf, checkModel, checkVocabulary, loadGraph, type ModelToOpen } from './load.js';
import { adapterLayout } from '../../protocol/adapter.js';
import { constantAdapter, sliceAdapter, type AdapterValues } from './lora-graph.js';

/** What to open, whatever the adapter. */
export interface NextTokenGraphOptions extends ModelToOpen {
  /** Tokens that it can remember, 1 to the model's maxPositions. */
  readonly capacity: number;
  /** Tokens that one run takes, 1 or more: see `chunkFor`. */
  readonly chunk: number;
}

/** What to open with one adapter. */
export interface NextTokenModelOptions extends NextTokenGraphOptions {
  /** [adapterSize] float32, for good. */
  readonly theta: Float32Array;
}

/**
 * The chunk that takes the least time for a text of so many tokens that are known and so many that are
 * written one by one. A larger chunk costs more a run and less a token, as the weights come from memory
 * once for all of it: see docs/ENGINE.md for the measurement of which these are the break-even points.
 */
export function chunkFor(known: number, written: number): number {
  const ratio = known / written;
  if (ratio < 0.5) return 1;
  return ratio < 2 ? 4 : 8;
}

/** Calls must not overlap. */
export interface NextTokenModel {
  readonly config: ModelConfig;
  /** Tokens that it can remember. */
  readonly capacity: number;
  /** Tokens that it remembers, 0 to capacity. */
  readonly length: number;
  /**
   * Reads on: tokens follow those read before. Returns the logits of the token after them, [V] float32.
   * Throws RangeError for no tokens and for more than there is room for, UserError for a token outside of
   * the vocabulary, ExecutorError when the executor fails. Rejects with `signal.reason` between two runs.
   */
  read(tokens: readonly number[], signal?: AbortSignal): Promise<Float32Array>;
  /** Forgets what was read but for the first `keep` tokens, 0 to length; none when not given. */
  forget(keep?: number): void;
  /** Frees the weights. */
  dispose(): Promise<void>;
}

/** One copy of a model's weights for several adapters; calls of its readers must not overlap. */
export interface NextTokenGraph {
  /** A reader with a memory of its own. theta: [adapterSize] float32; its `dispose` frees the graph for all. */
  reader(theta: Float32Array): NextTokenModel;
  /** Frees the weights. */
  dispose(): Promise<void>;
}

/**
 * Compiles the model. Throws UserError when weights or adapter do not fit the config, when `capacity` is
 * more than the model's positions, and when the model cannot be loaded.
 */
export async function openNextTokenModel(options: NextTokenModelOptions): Promise<NextTokenModel> {
  const { theta, adapter } = options;
  const { graph, rows } = await openGraph(options, () => constantAdapter(theta, adapter));
  return new CachedModel(options, graph, rows, {});
}

/** As openNextTokenModel, for adapters that are fed: a little slower, as each run cuts theta into its tensors. */
export async function openNextTokenGraph(options: NextTokenGraphOptions): Promise<NextTokenGraph> {
  const { graph, rows } = await openGraph(options, fedAdapter(options));
  return {
    reader: (theta) => new CachedModel(options, graph, rows, { [THETA]: theta }),
    dispose: () => graph.dispose(),
  };
}

/** The graph of openNextTokenGraph before it is compiled, to see what it takes. Throws UserError as that does. */
export async function nextTokenProgram(options: NextTokenGraphOptions): Promise<Program> {
  return (await buildProgram(options, fedAdapter(options))).program;
}

function fedAdapter({ adapter }: NextTokenGraphOptions): () => AdapterValues {
  const { size } = adapterLayout(adapter);
  return () => sliceAdapter(input(THETA, 'float32', [size]), adapter);
}

const THETA = 'theta';

async function openGraph(
  options: NextTokenGraphOptions,
  adapterOf: () => AdapterValues,
): Promise<{ graph: CompiledGraph; rows: Readonly<Record<string, Value>> }> {
  const { program, rows } = await buildProgram(options, adapterOf);
  return { graph: await loadGraph(options.executor, program), rows };
}

async function buildProgram(
  options: NextTokenGraphOptions,
  adapterOf: () => AdapterValues,
): Promise<{ program: Program; rows: Readonly<Record<string, Value>> }> {
  const { config, weights, capacity, chunk } = options;
  checkModel(options, capacity);
  const cache = new KeyValueCache(capacity, input('held', 'int32', [1]));
  const tokens = input('tokens', 'int32', [1, chunk]);
  const positions = input('positions', 'int32', [1, chunk]);
  const segments = constant(new Int32Array(chunk), [1, chunk]);
  const inputs = { tokens, positions, segments, cache };
  const arithmetic = await arithmeticOf(options);
  const {
    hidden,
    table,
    logitCap = null,
  } = decoderOf(config).build(weights, adapterOf(), inputs, arithmetic);
  const row = gather(hidden, input('last', 'int32', [1])); // [1, C]
  const free = reshape(frozenProduct(row, table, true, true, arithmetic), [config.vocabSize]);
  const logits = logitCap === null ? free : softcap(free, logitCap);
  const program = { outputs: { logits, ...cache.rows }, plainWeights: arithmetic.isMapped };
  return { program, rows: cache.rows };
}

class CachedModel implements NextTokenModel {
  readonly config: ModelConfig;
  readonly capacity: number;
  private readonly chunk: number;
  length = 0;
  private readonly cache: HeldKeys;

  constructor(
    { config, capacity, chunk }: NextTokenGraphOptions,
    private readonly graph: CompiledGraph,
    rows: Readonly<Record<string, Value>>,
    /** The adapter, where it is fed. */
    private readonly feeds: Feeds,
  ) {
    this.config = config;
    this.capacity = capacity;
    this.chunk = chunk;
    this.cache = new HeldKeys(graph, rows);
  }

  async read(tokens: readonly number[], signal?: AbortSignal): Promise<Float32Array> {
    const room = this.capacity - this.length;
    if (tokens.length === 0 || tokens.length > room) {
      throw new RangeError(`got ${tokens.length} tokens, but must be 1 to the ${room} that fit`);
    }
    checkVocabulary(this.config, tokens);
    let logits: TensorData | undefined;
    for (let start = 0; start < tokens.length; start += this.chunk) {
      signal?.throwIfAborted();
      logits = await this.readChunk(tokens.slice(start, start + this.chunk));
    }
    if (!(logits instanceof Float32Array)) throw new TypeError('the graph returned no float32');
    return logits;
  }

  forget(keep = 0): void {
    if (keep < 0 || keep > this.length) {
      throw new RangeError(`cannot keep ${keep} of ${this.length} tokens`);
    }
    // What lies beyond `length` is masked: it need not be erased.
    this.length = keep;
  }

  async dispose(): Promise<void> {
    await this.graph.dispose();
  }

  /** tokens: 1 to `chunk`. */
  private async readChunk(tokens: readonly number[]): Promise<TensorData | undefined> {
    const last = tokens.length - 1;
    // The rest of the chunk repeats the last token after it, which no token before it can see.
    const fill = (valueOf: (i: number) => number): Int32Array =>
      Int32Array.from({ length: this.chunk }, (_, i) => valueOf(Math.min(i, last)));
    const { logits, ...rows } = await this.graph.run({
      ...this.feeds,
      ...this.cache.feeds,
      tokens: fill((i) => tokens[i]!),
      positions: fill((i) => this.length + i),
      last: Int32Array.of(last),
      held: Int32Array.of(this.length),
    });
    this.cache.write(rows, this.length, tokens.length);
    this.length += tokens.length;
    return logits;
  }
}
