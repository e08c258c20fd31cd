/** The language model of a training session: planned, its weights packed where their format asks for it, then opened. */
import { adapterLayout } from '../../protocol/adapter.js';
import type { Dataset } from '../data/dataset.js';
import type { Executor } from '../engine/executor.js';
import { graphMemory } from '../engine/memory.js';
import type { BatchShape } from '../model/family.js';
import { openLanguageModel, type GraphName, type LanguageModel } from '../model/language-model.js';
import { separatesExamples } from '../model/lora.js';
import type { ModelDirectory } from '../model/model-directory.js';
import { openPackedWeights } from '../model/packed/open.js';
import type { WeightIndex } from '../model/safetensors.js';
import { placesFor } from '../model/trained-rows.js';
import type { WeightFormat } from '../model/weight-format.js';
import { fastestWays, microBatchSize } from './accumulate.js';
import { freeMemory } from './free-memory.js';
import type { GraphShape, MemoryPlan } from './memory-plan.js';
import { planMemory } from './memory.js';
import type { CallProgress, SessionOptions } from './messages.js';
import { formatsFor, isHalf, plannedWeights } from './weight-formats.js';

/** How opening is followed, and stopped between two pieces of work. */
export interface Opening {
  readonly onProgress: (progress: CallProgress<'open'>) => void;
  readonly signal: AbortSignal;
}

/** What there is before the model. */
export interface SessionParts {
  readonly options: SessionOptions;
  readonly directory: ModelDirectory;
  readonly data: Dataset;
  readonly executor: Executor;
}

/** A model whose graph of the training step is compiled. */
export interface SessionModel {
  readonly model: LanguageModel;
  readonly format: WeightFormat;
  /** Of private training's batches; undefined where training is not private. */
  readonly examples: BatchShape | undefined;
}

/**
 * What training will take is told before anything large is loaded; a device other than the CPU is tried without a
 * plan. Throws UserError for a model that cannot be used or does not fit into memory, and for packed weights that
 * cannot be written; `signal.reason`.
 */
export async function openSessionModel(
  parts: SessionParts,
  { onProgress, signal }: Opening,
): Promise<SessionModel> {
  const { options, directory, data } = parts;
  const models = new PlannedModels(parts);
  const formats = formatsFor(options.device, directory.weights);
  const trained: GraphName = options.privacy === undefined ? 'gradient' : 'examples';
  // The gradient's graph gives the loss as well.
  const hasLossGraph = trained === 'examples' && data.heldOut !== null;
  let shape: GraphShape = {
    microBatch: microBatchSize(options.training.batchSize, options.microBatch),
    sequenceLength: options.training.sequenceLength,
    memory: options.memory === 'auto' ? 'fast' : options.memory,
    format: options.weights === 'auto' ? formats[0] : options.weights,
  };
  let replicas = 1;
  // What is predicted is how the CPU executor uses the memory of the machine.
  if (options.device === 'cpu') {
    const plan = await planSession(parts, models, hasLossGraph ? [trained, 'loss'] : [trained]);
    onProgress(plan);
    ({ replicas, ...shape } = plan);
  }
  signal.throwIfAborted();
  const weights = await openPackedWeights({
    ...{ directory, format: shape.format, cacheDir: options.cacheDir, signal },
    onProgress: ({ done, total }) => onProgress({ packed: done, total }),
    say: (sentence) => onProgress({ sentence }),
  });
  const model = await models.open(shape, weights);
  model.replicas = replicas;
  // The first epoch shall not pay for compiling.
  await model.compile(trained);
  const { microBatch, format } = shape;
  return { model, format, examples: exampleShape(options, data, microBatch) };
}

/** The graphs that a plan was made with are those that are compiled, where their weights are the model's own files. */
class PlannedModels {
  readonly #parts: SessionParts;
  readonly #models = new Map<string, Promise<LanguageModel>>();
  readonly #weights = new Map<WeightFormat, WeightIndex>();

  constructor(parts: SessionParts) {
    this.#parts = parts;
  }

  planned(shape: GraphShape): Promise<LanguageModel> {
    const { microBatch, sequenceLength, memory, format } = shape;
    const key = `${microBatch} ${sequenceLength} ${memory} ${format}`;
    const model = this.#models.get(key) ?? this.#open(shape, this.#weightsOf(format));
    this.#models.set(key, model);
    return model;
  }

  open(shape: GraphShape, weights: WeightIndex): Promise<LanguageModel> {
    const isPlanned = weights === this.#parts.directory.weights;
    return isPlanned ? this.planned(shape) : this.#open(shape, weights);
  }

  #weightsOf(format: WeightFormat): WeightIndex {
    const weights = this.#weights.get(format) ?? plannedWeights(this.#parts.directory, format);
    this.#weights.set(format, weights);
    return weights;
  }

  #open(
    { microBatch, format, ...shape }: GraphShape,
    weights: WeightIndex,
  ): Promise<LanguageModel> {
    const { options, directory, data, executor } = this.#parts;
    const { sequenceLength, memory } = shape;
    const { adapter, training } = options;
    const examples = exampleShape(options, data, microBatch);
    // How many tokens are trained is known of data in sequences of the run's length.
    const isOfRun = sequenceLength === training.sequenceLength;
    return openLanguageModel({
      ...{ config: directory.config, weights, weightFormat: format, adapter, executor },
      ...{ sequenceLength, memory, batchSize: microBatch },
      trainedMost: isOfRun ? trainedMost(data, microBatch, sequenceLength) : null,
      ...(examples && { examples }),
    });
  }
}

/**
 * The records that go through the model at once in private training, where `microBatch` sequences of the run may:
 * as many positions, but at most half of a usual step, for what the last part lacks is computed all the same.
 */
function exampleShape(
  { privacy, training, adapter }: SessionOptions,
  { single: { longest } }: Dataset,
  microBatch: number,
): BatchShape | undefined {
  if (privacy === undefined) return undefined;
  const sequenceLength = Math.max(2, longest);
  const most = Math.floor((microBatch * training.sequenceLength) / sequenceLength);
  const half = Math.ceil(privacy.batchSize / 2);
  const batchSize = separatesExamples(adapter) ? Math.max(1, Math.min(most, half)) : 1;
  return { batchSize, sequenceLength };
}

/** How the session will use what memory is free now. Throws UserError when that is refused. */
function planSession(
  { options, directory }: SessionParts,
  models: PlannedModels,
  graphs: readonly GraphName[],
): Promise<MemoryPlan> {
  const { training, adapter, threads, device, refuseTooLarge } = options;
  const { batchSize, sequenceLength } = training;
  return planMemory(
    {
      ...{ batchSize, sequenceLength, adapterSize: adapterLayout(adapter).size },
      ...fastestWays(batchSize, sequenceLength, threads),
      ...{ formats: formatsFor(device, directory.weights), isHalf: isHalf(directory.weights) },
      isPrivate: options.privacy !== undefined,
      graphs: async (shape) => {
        const model = await models.planned(shape);
        return graphs.map((name) => graphMemory(model.program(name)));
      },
    },
    { most: options.microBatch, memory: options.memory, weights: options.weights },
    { processBytes: process.memoryUsage.rss(), free: freeMemory(), refuse: refuseTooLarge },
  );
}

/** Input tokens of the batches that are looked at. */
const SAMPLED_TOKENS = 65_536;

/** As LanguageModelOptions.trainedMost, as this peer's data are. */
function trainedMost(
  { training }: Dataset,
  batchSize: number,
  sequenceLength: number,
): number | null {
  const sample = [...training.batches(batchSize, SAMPLED_TOKENS)];
  return placesFor(
    batchSize * sequenceLength,
    sample.map(({ trainedTokens }) => trainedTokens),
  );
}
