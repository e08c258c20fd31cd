/**
 * A frozen language model with one LoRA adapter, as the trainer sees it: loss, gradient and logits for a
 * flat adapter. Each is one compiled graph, compiled when it is first asked for.
 */
import { adapterLayout } from '../../protocol/adapter.js';
import { gradients } from '../engine/autodiff.js';
import { ExecutorError, OutOfMemoryError } from '../engine/errors.js';
import type { CompiledGraph, Executor, Program, TensorData } from '../engine/executor.js';
import { constant, input, scalar, type Value } from '../engine/graph.js';
import {
  concat,
  div,
  equal,
  gather,
  linearCrossEntropy,
  matmul,
  maximum,
  mul,
  reshape,
  select,
  sum,
} from '../engine/ops/index.js';
import { UserError } from '../errors.js';
import type { ModelConfig } from './config.js';
import { decoderOf } from './families.js';
import type { BatchShape } from './family.js';
import { checkAdapter, type AdapterShape } from './lora.js';
import { sliceAdapter, type AdapterValues } from './lora-graph.js';
import type { WeightIndex } from './safetensors.js';
import { IGNORED_TARGET, type TokenBatch } from './token-batch.js';

/** What to open, and the shape of its batches. */
export interface LanguageModelOptions extends BatchShape {
  readonly config: ModelConfig;
  readonly weights: WeightIndex;
  readonly adapter: AdapterShape;
  /** What carries its graphs out. */
  readonly executor: Executor;
  /** What to compile at once; the rest is compiled at its first use. Default: nothing. */
  readonly compile?: readonly GraphName[];
}

/** The graphs of a model, each with its own copy of the weights: gradient and loss of a batch, logits. */
export type GraphName = 'gradient' | 'loss' | 'logits';

/** Loss of a batch. */
export interface LossResult {
  /** Mean over the trained tokens, nats; 0 when there are none. */
  loss: number;
  /** Trained tokens: targets that are not IGNORED_TARGET. */
  targets: number;
}

/** Loss of a batch and its gradient. */
export interface GradientResult extends LossResult {
  /** d loss / d theta: [adapterSize] float32. */
  gradient: Float32Array;
}

/**
 * Calls must not overlap. All throw ExecutorError when the executor fails, and after `dispose`; the first
 * of a kind compiles its graph and throws UserError when the model cannot be loaded.
 */
export interface LanguageModel extends BatchShape {
  readonly config: ModelConfig;
  /** Coordinates of the flat adapter. */
  readonly adapterSize: number;
  /** theta: [adapterSize] float32. Throws UserError for a token outside of the vocabulary. */
  gradient(batch: TokenBatch, theta: Float32Array): Promise<GradientResult>;
  /** As `gradient`, forward only. */
  loss(batch: TokenBatch, theta: Float32Array): Promise<LossResult>;
  /**
   * tokens: [T] int32, one sequence (what follows `position` does not matter, but must be token ids);
   * position: 0 to T - 1. Returns the logits of the next token: [V] float32.
   */
  logits(tokens: Int32Array, position: number, theta: Float32Array): Promise<Float32Array>;
  /** The graph `name` before it is compiled, to see what it takes. */
  program(name: GraphName): Program;
  /** What it runs on, e.g. "cpu (2 threads)". */
  describe(): string;
  /** Frees the weights. */
  dispose(): Promise<void>;
}

/**
 * Checks the model, and compiles what `compile` names. Throws UserError when weights or adapter do not fit
 * the config, when the sequence is longer than the model's positions, and when the model cannot be loaded.
 */
export async function openLanguageModel(options: LanguageModelOptions): Promise<LanguageModel> {
  const { config, sequenceLength } = options;
  if (sequenceLength > config.maxPositions) {
    throw new UserError(
      `sequence length ${sequenceLength} is more than the model's ${config.maxPositions} positions: choose at most ${config.maxPositions}`,
    );
  }
  checkAdapter(config, options.adapter);
  checkBlocks(config, options.weights);
  const model = new GraphLanguageModel(options);
  model.checkWeights();
  for (const name of options.compile ?? []) await model.graph(name);
  return model;
}

/** A config that stops short of the weights would give a cut model that computes, but badly. */
function checkBlocks({ layers }: ModelConfig, weights: WeightIndex): void {
  for (const [name, { file }] of weights) {
    const index = /(?:^|\.)(?:layers|h)\.(\d+)\./.exec(name)?.[1];
    if (index === undefined || Number(index) < layers) continue;
    throw new UserError(
      `${file} has the weight ${name}, but the model's config has only ${layers} layers: config.json and the weights are of different models`,
    );
  }
}

type Feeds = Record<string, TensorData>;

class GraphLanguageModel implements LanguageModel {
  readonly config: ModelConfig;
  readonly batchSize: number;
  readonly sequenceLength: number;
  readonly adapterSize: number;
  private readonly graphs = new Map<GraphName, Promise<CompiledGraph>>();
  private disposed = false;

  constructor(private readonly options: LanguageModelOptions) {
    ({
      config: this.config,
      batchSize: this.batchSize,
      sequenceLength: this.sequenceLength,
    } = options);
    this.adapterSize = adapterLayout(options.adapter).size;
  }

  /** Throws UserError for a weight that does not fit the config; costs no more than building the graph. */
  checkWeights(): void {
    this.outputs('logits');
  }

  async gradient(batch: TokenBatch, theta: Float32Array): Promise<GradientResult> {
    const targets = this.check(batch, theta);
    const results = await this.run('gradient', feeds(batch, theta, this.sequenceLength));
    return { loss: results['loss']![0]!, targets, gradient: floats(results['gradient']) };
  }

  async loss(batch: TokenBatch, theta: Float32Array): Promise<LossResult> {
    const targets = this.check(batch, theta);
    const results = await this.run('loss', feeds(batch, theta, this.sequenceLength));
    return { loss: results['loss']![0]!, targets };
  }

  async logits(tokens: Int32Array, position: number, theta: Float32Array): Promise<Float32Array> {
    this.checkTokens(tokens, this.sequenceLength);
    this.checkTheta(theta);
    if (!Number.isInteger(position) || position < 0 || position >= this.sequenceLength) {
      throw new RangeError(`position ${position} must be 0 to ${this.sequenceLength - 1}`);
    }
    const results = await this.run('logits', { tokens, position: Int32Array.of(position), theta });
    return floats(results['logits']);
  }

  program(name: GraphName): Program {
    return { outputs: this.outputs(name) };
  }

  describe(): string {
    return this.options.executor.device;
  }

  async dispose(): Promise<void> {
    this.disposed = true;
    const compiled = await Promise.allSettled(this.graphs.values());
    this.graphs.clear();
    for (const one of compiled) if (one.status === 'fulfilled') await one.value.dispose();
  }

  private async run(name: GraphName, inputs: Feeds): Promise<Record<string, TensorData>> {
    const graph = await this.graph(name);
    // Families without learned positions do not take them.
    const taken = Object.entries(inputs).filter(([input]) => graph.inputs.has(input));
    return graph.run(Object.fromEntries(taken));
  }

  /** The compiled graph. Throws UserError when the model cannot be loaded. */
  async graph(name: GraphName): Promise<CompiledGraph> {
    if (this.disposed) throw new ExecutorError('the language model was disposed');
    const known = this.graphs.get(name);
    if (known !== undefined) return known;
    const graph = this.options.executor.compile(this.program(name));
    this.graphs.set(name, graph);
    try {
      return await graph;
    } catch (error) {
      // Another attempt may find more memory.
      this.graphs.delete(name);
      if (!(error instanceof ExecutorError) || error instanceof OutOfMemoryError) throw error;
      throw new UserError(`the model could not be loaded: ${error.message}`, undefined, {
        cause: error,
      });
    }
  }

  private outputs(name: GraphName): Record<string, Value> {
    const { config, weights, adapter, batchSize, sequenceLength } = this.options;
    const theta = input('theta', 'float32', [this.adapterSize]);
    const values = sliceAdapter(theta, adapter);
    if (name === 'logits') return { logits: nextLogits(config, weights, values, sequenceLength) };
    const shape = [batchSize, sequenceLength];
    const tokens = input('tokens', 'int32', shape);
    const segments = input('segments', 'int32', shape);
    const targets = input('targets', 'int32', shape);
    const positions = input('positions', 'int32', shape);
    const inputs = { tokens, segments, positions };
    const { hidden, table } = decoderOf(config).build(weights, values, inputs);
    const loss = meanLoss(hidden, table, targets);
    if (name === 'loss') return { loss };
    const parts = gradients(loss, values.tensors).map((part) =>
      reshape(part, [part.shape.reduce((product, n) => product * n, 1)]),
    );
    return { loss, gradient: concat(parts, 0) };
  }

  /** Throws for a batch or adapter that does not fit; returns the number of trained tokens. */
  private check(batch: TokenBatch, theta: Float32Array): number {
    const size = this.batchSize * this.sequenceLength;
    this.checkTheta(theta);
    this.checkTokens(batch.tokens, size);
    if (batch.segments.length !== size || batch.targets.length !== size) {
      throw new RangeError(
        `a batch has ${size} positions, but got ${batch.targets.length} targets and ${batch.segments.length} segments`,
      );
    }
    const trained = batch.targets.filter((target) => target !== IGNORED_TARGET);
    this.checkTokens(trained, trained.length);
    return trained.length;
  }

  private checkTokens(tokens: Int32Array, size: number): void {
    if (tokens.length !== size) {
      throw new RangeError(`needs ${size} tokens, but got ${tokens.length}`);
    }
    const { vocabSize } = this.config;
    const outside = tokens.find((token) => token < 0 || token >= vocabSize);
    if (outside !== undefined) {
      throw new UserError(
        `token ${outside} is outside of the model's vocabulary of ${vocabSize}: the tokenizer belongs to another model`,
      );
    }
  }

  private checkTheta(theta: Float32Array): void {
    if (theta.length !== this.adapterSize) {
      throw new RangeError(
        `the adapter has ${this.adapterSize} coordinates, but got ${theta.length}`,
      );
    }
  }
}

/** hidden: [N, C], table: [V, C] float32, targets: [B, T] int32, N = B T -> mean nats, [] float32. */
function meanLoss(hidden: Value, table: Value, targets: Value): Value {
  const flat = reshape(targets, [hidden.shape[0]!]);
  const ignored = equal(flat, constant(Int32Array.of(IGNORED_TARGET), []));
  const trained = select(ignored, scalar(0), scalar(1)); // [N]
  const someToken = select(ignored, constant(Int32Array.of(0), []), flat);
  const nats = mul(trained, linearCrossEntropy(hidden, table, someToken)); // [N]
  return div(sum(nats, [0]), maximum(sum(trained, [0]), scalar(1)));
}

/** Logits after `position` of one sequence of T tokens: [V] float32. */
function nextLogits(
  config: ModelConfig,
  weights: WeightIndex,
  adapter: AdapterValues,
  length: number,
): Value {
  const tokens = input('tokens', 'int32', [1, length]);
  const segments = constant(new Int32Array(length), [1, length]);
  const positions = constant(
    Int32Array.from({ length }, (_, t) => t),
    [1, length],
  );
  const inputs = { tokens, segments, positions };
  const { hidden, table } = decoderOf(config).build(weights, adapter, inputs);
  const row = gather(hidden, input('position', 'int32', [1])); // [1, C]
  return reshape(matmul(row, table, { transB: true }), [config.vocabSize]);
}

/** What a batch feeds; positions restart in each segment, as if the segment stood alone. */
function feeds(
  { tokens, targets, segments }: TokenBatch,
  theta: Float32Array,
  length: number,
): Feeds {
  const positions = new Int32Array(segments.length);
  let seen = new Map<number, number>();
  for (const [i, segment] of segments.entries()) {
    if (i % length === 0) seen = new Map();
    positions[i] = seen.get(segment) ?? 0;
    seen.set(segment, positions[i] + 1);
  }
  return { tokens, targets, segments, positions, theta };
}

function floats(data: TensorData | undefined): Float32Array {
  if (!(data instanceof Float32Array)) throw new TypeError('the graph returned no float32');
  return data;
}
