/**
 * A frozen language model with one LoRA adapter, as the trainer sees it: loss and gradient for a flat
 * adapter. Each is one compiled graph, compiled when it is first asked for.
 */
import { adapterLayout } from '../../protocol/adapter.js';
import { gradients } from '../engine/autodiff.js';
import { ExecutorError } from '../engine/errors.js';
import type { CompiledGraph, Program, TensorData } from '../engine/executor.js';
import { input, scalar, type Value } from '../engine/graph.js';
import { concat, div, maximum, reshape, sum } from '../engine/ops/index.js';
import type { ModelConfig } from './config.js';
import { decoderOf } from './families.js';
import type { BatchShape } from './family.js';
import { checkModel, checkVocabulary, loadGraph, type ModelToOpen } from './load.js';
import { sliceAdapter, type LoraUse } from './lora-graph.js';
import { tokenLosses } from './token-losses.js';
import { exampleGradients, exampleLosses } from './example-gradients.js';
import type { Precision } from './precision.js';
import { IGNORED_TARGET, type TokenBatch } from './token-batch.js';

/** What to open, and the shape of its batches. */
export interface LanguageModelOptions extends BatchShape, ModelToOpen {
  /** Of its quantisable layers. Default: fp32. */
  readonly precision?: Precision;
  /** Examples of one run of exampleGradients, and the length of each; one whose adapter is on the output layer takes 1. */
  readonly examples?: BatchShape;
  /** What to compile at once; the rest is compiled at its first use. Default: nothing. */
  readonly compile?: readonly GraphName[];
}

/** The graphs of a model, each with its own copy of the weights. */
export type GraphName = 'gradient' | 'examples' | 'loss';

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

/** Loss and gradient of each of B examples by itself. */
export interface ExampleGradients {
  /** Mean over the example's trained tokens, nats; 0 when there are none: [B] float32. */
  losses: Float32Array;
  /** [B, adapterSize] float32, row after row. */
  gradients: Float32Array;
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
  /** batch: the shape of the option `examples`, an example a row; one row's gradient knows nothing of the others. */
  exampleGradients(batch: TokenBatch, theta: Float32Array): Promise<ExampleGradients>;
  /** As `gradient`, forward only. */
  loss(batch: TokenBatch, theta: Float32Array): Promise<LossResult>;
  /** The graph `name` before it is compiled, to see what it takes. */
  program(name: GraphName): Program;
  /** What it runs on, e.g. "cpu (2 threads)" or "cpu (2 threads), int8". */
  describe(): string;
  /** Frees the weights. */
  dispose(): Promise<void>;
}

/**
 * Checks the model, and compiles what `compile` names. Throws UserError when weights or adapter do not fit
 * the config, when the sequence is longer than the model's positions, and when the model cannot be loaded.
 */
export async function openLanguageModel(options: LanguageModelOptions): Promise<LanguageModel> {
  checkModel(options, options.sequenceLength);
  const model = new GraphLanguageModel(options);
  model.checkWeights();
  for (const name of options.compile ?? []) await model.graph(name);
  return model;
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
    this.outputs('loss');
  }

  async gradient(batch: TokenBatch, theta: Float32Array): Promise<GradientResult> {
    const targets = this.check(batch, theta);
    const results = await this.run('gradient', feeds(batch, theta, this.sequenceLength));
    return { loss: results['loss']![0]!, targets, gradient: floats(results['gradient']) };
  }

  async exampleGradients(batch: TokenBatch, theta: Float32Array): Promise<ExampleGradients> {
    const shape = this.shapeOf('examples');
    this.check(batch, theta, shape);
    const results = await this.run('examples', feeds(batch, theta, shape.sequenceLength));
    return { losses: floats(results['losses']), gradients: floats(results['gradients']) };
  }

  async loss(batch: TokenBatch, theta: Float32Array): Promise<LossResult> {
    const targets = this.check(batch, theta);
    const results = await this.run('loss', feeds(batch, theta, this.sequenceLength));
    return { loss: results['loss']![0]!, targets };
  }

  program(name: GraphName): Program {
    return { outputs: this.outputs(name) };
  }

  describe(): string {
    const { executor, precision } = this.options;
    return precision === 'int8' ? `${executor.device}, int8` : executor.device;
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
    const graph = loadGraph(this.options.executor, this.program(name));
    this.graphs.set(name, graph);
    try {
      return await graph;
    } catch (error) {
      // Another attempt may find more memory.
      this.graphs.delete(name);
      throw error;
    }
  }

  private shapeOf(name: GraphName): BatchShape {
    const { examples, batchSize, sequenceLength } = this.options;
    return (name === 'examples' ? examples : undefined) ?? { batchSize, sequenceLength };
  }

  private outputs(name: GraphName): Record<string, Value> {
    const { config, weights, adapter, precision } = this.options;
    const theta = input('theta', 'float32', [this.adapterSize]);
    const uses = new Map<string, LoraUse>();
    const values = sliceAdapter(theta, adapter, (module, use) => uses.set(module, use));
    const { batchSize, sequenceLength } = this.shapeOf(name);
    const shape = [batchSize, sequenceLength];
    const tokens = input('tokens', 'int32', shape);
    const segments = input('segments', 'int32', shape);
    const targets = input('targets', 'int32', shape);
    const positions = input('positions', 'int32', shape);
    const inputs = { tokens, segments, positions };
    const { hidden, table } = decoderOf(config).build(weights, values, inputs, precision);
    if (name === 'examples') {
      const losses = exampleLosses(hidden, table, targets); // [B]
      return { losses, gradients: exampleGradients(losses, values, uses, adapter) };
    }
    const loss = meanLoss(hidden, table, targets);
    if (name === 'loss') return { loss };
    const parts = gradients(loss, values.tensors).map((part) =>
      reshape(part, [part.shape.reduce((product, n) => product * n, 1)]),
    );
    return { loss, gradient: concat(parts, 0) };
  }

  /** Throws for a batch or adapter that does not fit; returns the number of trained tokens. */
  private check(batch: TokenBatch, theta: Float32Array, shape: BatchShape = this): number {
    const size = shape.batchSize * shape.sequenceLength;
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
    checkVocabulary(this.config, tokens);
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
  const { nats, trained } = tokenLosses(hidden, table, targets);
  return div(sum(nats, [0]), maximum(sum(trained, [0]), scalar(1)));
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
