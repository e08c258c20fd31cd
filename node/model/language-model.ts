/**
 * A frozen language model with one LoRA adapter, as the trainer sees it: loss and gradient for a flat
 * adapter. Each is one compiled graph, compiled when it is first asked for.
 */
import { gradients, propagate } from '../engine/autodiff.js';
import { ExecutorError } from '../engine/errors.js';
import type { CompiledGraph, Feeds, Program, RunOptions, TensorData } from '../engine/executor.js';
import { input, type Value } from '../engine/graph.js';
import { concat, gather, reshape } from '../engine/ops/index.js';
import type { CrossEntropyAttributes } from '../engine/ops/loss.js';
import type { ModelConfig } from './config.js';
import { decoderOf } from './families.js';
import type { BatchShape, ModelValues } from './family.js';
import { headProduct, type Arithmetic } from './frozen-product.js';
import { arithmeticOf, checkModel, checkVocabulary, loadGraph, type ModelToOpen } from './load.js';
import { exampleGradients, exampleLosses } from './example-gradients.js';
import { AdapterPorts } from './adapter-ports.js';
import type { LoraUse } from './lora-graph.js';
import { chunkedLoss, chunkedLossAndGradient, chunkTokens, meanLoss } from './loss-head.js';
import type { MemoryMode } from './memory-mode.js';
import { trainedRows } from './trained-rows.js';
import { IGNORED_TARGET, type TokenBatch } from './token-batch.js';

/** What to open, and the shape of its batches. */
export interface LanguageModelOptions extends BatchShape, ModelToOpen {
  /** Default: normal. */
  readonly memory?: MemoryMode;
  /**
   * Trained tokens of one run, from 1: fewer than the positions where most are a prompt, for the output layer is
   * large. A batch with more takes several runs. Default: all.
   */
  readonly trainedMost?: number | null;
  /** Examples of one run of exampleGradients, and the length of each; one whose adapter is on the output layer takes 1. */
  readonly examples?: BatchShape;
  /** What to compile at once; the rest is compiled at its first use. Default: nothing. */
  readonly compile?: readonly GraphName[];
}

/**
 * The graphs of a model, each with its own weights; `examples` gives each example's gradient. That of the gradient gives the loss alone as well, so that
 * the other is only compiled where no gradient is asked for.
 */
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
 * No more calls may overlap than there are replicas. All throw ExecutorError when the executor fails, and after `dispose`; the first
 * of a kind compiles its graph and throws UserError when the model cannot be loaded.
 */
export interface LanguageModel extends BatchShape {
  readonly config: ModelConfig;
  /** Coordinates of the flat adapter. */
  readonly adapterSize: number;
  /** As CompileOptions, of what is compiled from now on; 1 at first. */
  replicas: number;
  /** As CompileOptions, likewise; false at first. */
  isTight: boolean;
  /**
   * theta: [adapterSize] float32; `into` as large, where the gradient is to lie; else in an array of its own. Throws
   * UserError for a token outside of the vocabulary.
   */
  gradient(batch: TokenBatch, theta: Float32Array, into?: Float32Array): Promise<GradientResult>;
  /** batch: the shape of the option `examples`, an example a row; one row's gradient knows nothing of the others. */
  exampleGradients(batch: TokenBatch, theta: Float32Array): Promise<ExampleGradients>;
  /** As `gradient`, forward only. */
  loss(batch: TokenBatch, theta: Float32Array): Promise<LossResult>;
  /**
   * As `loss`, of each token by itself, 0 where the target is IGNORED_TARGET: [B T] float32, nats. Where a graph has
   * places for `trainedMost` tokens, more of them take several runs.
   */
  tokenLosses(batch: TokenBatch, theta: Float32Array): Promise<Float32Array>;
  /** The graph `name` before it is compiled, to see what it takes. */
  program(name: GraphName): Program;
  /** Compiles the graph `name` now and not at its first use. Throws UserError when the model cannot be loaded. */
  compile(name: GraphName): Promise<void>;
  /** What it runs on, e.g. "cpu (2 threads)" or "cpu (2 threads), int8". */
  describe(): string;
  /** As CompiledGraph.remark, of the last run; null before any. */
  readonly remark: string | null;
  /** Frees the weights. */
  dispose(): Promise<void>;
}

/**
 * Checks the model, and compiles what `compile` names. Throws UserError when weights or adapter do not fit
 * the config, when the sequence is longer than the model's positions, and when the model cannot be loaded.
 */
export async function openLanguageModel(options: LanguageModelOptions): Promise<LanguageModel> {
  checkModel(options, options.sequenceLength);
  const model = new GraphLanguageModel(options, await arithmeticOf(options));
  model.checkWeights();
  for (const name of options.compile ?? []) await model.graph(name);
  return model;
}

/** The forward pass, what it is compared with, and what its loss is differentiated by. */
interface Forward extends ModelValues {
  readonly targets: Value;
  readonly product: CrossEntropyAttributes;
  readonly tensors: readonly Value[];
}

class GraphLanguageModel implements LanguageModel {
  readonly config: ModelConfig;
  readonly batchSize: number;
  readonly sequenceLength: number;
  readonly adapterSize: number;
  replicas = 1;
  isTight = false;
  remark: string | null = null;
  private readonly ports: AdapterPorts;
  private built: Forward | null = null;
  private readonly programs = new Map<GraphName, Program>();
  private readonly graphs = new Map<GraphName, Promise<CompiledGraph>>();
  private disposed = false;

  constructor(
    private readonly options: LanguageModelOptions,
    private readonly arithmetic: Arithmetic,
  ) {
    ({
      config: this.config,
      batchSize: this.batchSize,
      sequenceLength: this.sequenceLength,
    } = options);
    const isInPlace = options.executor.isInPlace === true;
    this.ports = new AdapterPorts(options.adapter, { isInPlace });
    this.adapterSize = this.ports.size;
  }

  /** Throws UserError for a weight that does not fit the config; costs no more than building the graph. */
  checkWeights(): void {
    this.program('loss');
  }

  async gradient(
    batch: TokenBatch,
    theta: Float32Array,
    into = new Float32Array(theta.length),
  ): Promise<GradientResult> {
    const targets = this.check(batch, theta);
    const [first, ...rest] = this.runsOf(batch, theta);
    let loss = first!.share * (await this.gradientOf(first!.feeds, into));
    if (rest.length > 0) scale(into, first!.share);
    // Few batches have more trained tokens than a run takes.
    const part = rest.length > 0 ? new Float32Array(theta.length) : into;
    for (const { feeds, share } of rest) {
      loss += share * (await this.gradientOf(feeds, part));
      for (let i = 0; i < part.length; i++) into[i]! += share * part[i]!;
    }
    return { loss, targets, gradient: into };
  }

  /** Fills `gradient`; returns the loss. */
  private async gradientOf(fed: Feeds, gradient: Float32Array): Promise<number> {
    const results = await this.run('gradient', fed, { into: { gradient } });
    return results['loss']![0]!;
  }

  async exampleGradients(batch: TokenBatch, theta: Float32Array): Promise<ExampleGradients> {
    const shape = this.shapeOf('examples');
    this.check(batch, theta, shape);
    const fed = { ...feeds(batch, shape.sequenceLength), ...this.ports.feeds(theta) };
    const into = { gradients: new Float32Array(shape.batchSize * theta.length) };
    const results = await this.run('examples', fed, { into });
    return { losses: floats(results['losses']), gradients: floats(results['gradients']) };
  }

  async loss(batch: TokenBatch, theta: Float32Array): Promise<LossResult> {
    const targets = this.check(batch, theta);
    let loss = 0;
    for (const { feeds, share } of this.runsOf(batch, theta)) {
      loss += share * (await this.runForward(feeds))['loss']![0]!;
    }
    return { loss, targets };
  }

  async tokenLosses(batch: TokenBatch, theta: Float32Array): Promise<Float32Array> {
    this.check(batch, theta);
    const losses = new Float32Array(batch.targets.length);
    for (const { feeds, count } of this.runsOf(batch, theta)) {
      const nats = floats((await this.runForward(feeds))['nats']);
      const { rows } = feeds;
      if (rows === undefined) losses.set(nats);
      else for (let i = 0; i < count; i++) losses[rows[i]!] = nats[i]!;
    }
    return losses;
  }

  private runForward(feeds: Feeds): Promise<Record<string, TensorData>> {
    const name = this.graphs.has('gradient') ? 'gradient' : 'loss';
    return this.run(name, feeds, { brief: name === 'gradient' });
  }

  /** What the runs for `batch` are fed, how many of its trained tokens each has, and their share. */
  private runsOf(
    batch: TokenBatch,
    theta: Float32Array,
  ): { feeds: Feeds; share: number; count: number }[] {
    const fed = { ...feeds(batch, this.sequenceLength), ...this.ports.feeds(theta) };
    const { trainedMost } = this.options;
    if (!trainedMost) return [{ feeds: fed, share: 1, count: batch.targets.length }];
    const runs = trainedRows(batch, trainedMost);
    const total = Math.max(
      1,
      runs.reduce((sum, { count }) => sum + count, 0),
    );
    return runs.map(({ rows, targets, count }) => ({
      feeds: { ...fed, rows, targets },
      ...{ share: count / total, count },
    }));
  }

  program(name: GraphName): Program {
    const known = this.programs.get(name);
    if (known !== undefined) return known;
    const program = this.build(name);
    this.programs.set(name, program);
    return program;
  }

  private build(name: GraphName): Program {
    switch (name) {
      case 'loss':
        return this.buildLoss();
      case 'gradient':
        return this.buildGradient();
      case 'examples':
        return this.buildExamples();
    }
  }

  async compile(name: GraphName): Promise<void> {
    await this.graph(name);
  }

  describe(): string {
    const { executor, weightFormat = 'fp32' } = this.options;
    return weightFormat === 'fp32' ? executor.device : `${executor.device}, ${weightFormat}`;
  }

  async dispose(): Promise<void> {
    this.disposed = true;
    const compiled = await Promise.allSettled(this.graphs.values());
    this.graphs.clear();
    for (const one of compiled) if (one.status === 'fulfilled') await one.value.dispose();
  }

  private async run(
    name: GraphName,
    inputs: Feeds,
    options: RunOptions = {},
  ): Promise<Record<string, TensorData>> {
    const graph = await this.graph(name);
    // Families without learned positions do not take them.
    const taken = Object.entries(inputs).filter(([input]) => graph.inputs.has(input));
    const results = await graph.run(Object.fromEntries(taken), options);
    this.remark = graph.remark ?? null;
    return results;
  }

  /** The compiled graph. Throws UserError when the model cannot be loaded. */
  async graph(name: GraphName): Promise<CompiledGraph> {
    if (this.disposed) throw new ExecutorError('the language model was disposed');
    const known = this.graphs.get(name);
    if (known !== undefined) return known;
    const graph = loadGraph(this.options.executor, this.program(name), {
      ...{ replicas: this.replicas, isTight: this.isTight },
    });
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
    return (name === 'examples' ? this.options.examples : undefined) ?? this;
  }

  /** What the graphs of loss and gradient have in common. */
  private get forward(): Forward {
    this.built ??= this.buildForward();
    return this.built;
  }

  private buildForward(): Forward {
    const { config, weights, batchSize, sequenceLength, trainedMost } = this.options;
    const values = this.ports.values();
    const shape = [batchSize, sequenceLength];
    const inputs = inputsOf(this);
    const model = decoderOf(config).build(weights, values, inputs, this.arithmetic);
    const product = headProduct(model, this.arithmetic);
    const { tensors } = values;
    if (!trainedMost)
      return { ...model, product, tensors, targets: input('targets', 'int32', shape) };
    const hidden = gather(model.hidden, input('rows', 'int32', [trainedMost]));
    return {
      ...model,
      product,
      tensors,
      hidden,
      targets: input('targets', 'int32', [trainedMost]),
    };
  }

  private buildLoss(): Program {
    const { forward, isLow } = this;
    // Forward alone each weight has one product, whose layout takes the place of the plain copy; of a table that is read in
    // chunks each has its own, so that only many tokens are worth them.
    const few = 2 * chunkTokens(forward.table.shape[0]!);
    const isWhole = !isLow && (!this.isChunked || forward.hidden.shape[0]! <= few);
    const { loss, nats } = isWhole ? meanLoss(forward) : chunkedLoss(forward);
    return { outputs: { loss, nats }, plainWeights: !isWhole || this.arithmetic.isMapped };
  }

  private buildGradient(): Program {
    const { forward, isLow, isChunked, plainWeights } = this;
    const { outputs: brief } = this.program('loss');
    if (!isChunked) {
      const gradient = flattened(gradients(brief['loss']!, forward.tensors));
      return { outputs: { ...brief, gradient }, brief, plainWeights };
    }
    const { loss, nats, hidden, table } = chunkedLossAndGradient(forward);
    const known = new Map([
      [forward.hidden, hidden],
      [forward.table, table],
    ]);
    const parts = propagate(known, forward.tensors, isLow ? { stages: forward.stream } : {});
    return { outputs: { loss, nats, gradient: flattened(parts) }, brief, plainWeights };
  }

  private buildExamples(): Program {
    const { config, weights, adapter } = this.options;
    const uses = new Map<string, LoraUse>();
    const values = this.ports.values((module, use) => uses.set(module, use));
    const shape = this.shapeOf('examples');
    const model = decoderOf(config).build(weights, values, inputsOf(shape), this.arithmetic);
    const targets = input('targets', 'int32', [shape.batchSize, shape.sequenceLength]);
    const product = headProduct(model, this.arithmetic);
    const losses = exampleLosses({ ...model, product, targets }); // [B]
    const rows = exampleGradients(losses, values, uses, adapter);
    return { outputs: { losses, gradients: rows }, plainWeights: this.plainWeights };
  }

  private get isLow(): boolean {
    return this.options.memory === 'low';
  }

  /**
   * Logits exist for a few tokens at a time, which takes no longer. Not where each product has a copy of its own of the
   * table: those are as many as there are chunks.
   */
  private get isChunked(): boolean {
    return this.isLow || this.plainWeights;
  }

  /** Of graphs that multiply with a weight in both directions. */
  private get plainWeights(): boolean {
    const { memory = 'normal' } = this.options;
    return this.arithmetic.isMapped || memory !== 'fast';
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

/** Multiplies in place. */
function scale(values: Float32Array, factor: number): void {
  for (let i = 0; i < values.length; i++) values[i]! *= factor;
}

/** One after another: [size] float32. */
function flattened(parts: readonly Value[]): Value {
  const flat = parts.map((part) =>
    reshape(part, [part.shape.reduce((product, n) => product * n, 1)]),
  );
  return concat(flat, 0);
}

/** The inputs of a decoder for batches of this shape. */
function inputsOf({ batchSize, sequenceLength }: BatchShape): {
  tokens: Value;
  segments: Value;
  positions: Value;
} {
  const of = (name: string): Value => input(name, 'int32', [batchSize, sequenceLength]);
  return { tokens: of('tokens'), segments: of('segments'), positions: of('positions') };
}

/**
 * What a batch feeds; positions restart in each segment, as if the segment stood alone. Throws RangeError where a
 * segment of a row goes on after another one.
 */
function feeds({ tokens, targets, segments }: TokenBatch, length: number): Feeds {
  const positions = new Int32Array(segments.length);
  const ended = new Set<number>();
  for (const [i, segment] of segments.entries()) {
    const isFirst = i % length === 0;
    if (isFirst) ended.clear();
    if (!isFirst && segment === segments[i - 1]) {
      positions[i] = positions[i - 1]! + 1;
      continue;
    }
    if (ended.has(segment)) {
      throw new RangeError(`segment ${segment} of a row goes on after another: it must be whole`);
    }
    ended.add(segment);
  }
  return { tokens, targets, segments, positions };
}

function floats(data: TensorData | undefined): Float32Array {
  if (!(data instanceof Float32Array)) throw new TypeError('the graph returned no float32');
  return data;
}
