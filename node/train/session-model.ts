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
import { gpuMemory, isGpu, onGpu } from './gpu-memory.js';
import { needed, type GraphShape, type MachineMemory, type MemoryPlan } from './memory-plan.js';
import { planMemory } from './memory.js';
import type { CallProgress, SessionOptions } from './messages.js';
import { isHalf, plannedFormats, plannedWeights } from './weight-formats.js';

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
 * What training will take is told before anything large is loaded. Throws UserError for a model that cannot be used or does not fit into memory, and for packed weights that
 * cannot be written; `signal.reason`.
 */
export async function openSessionModel(
  parts: SessionParts,
  { onProgress, signal }: Opening,
): Promise<SessionModel> {
  const { options, directory, data } = parts;
  const models = new PlannedModels(parts);
  const trained: GraphName = options.privacy === undefined ? 'gradient' : 'examples';
  // The gradient's graph gives the loss as well.
  const hasLossGraph = trained === 'examples' && data.heldOut !== null;
  const graphs: GraphName[] = hasLossGraph ? [trained, 'loss'] : [trained];
  const plan = options.device === 'tfjs' ? null : await planSession(parts, models, graphs);
  if (plan !== null) onProgress(plan);
  const { replicas, ...shape } = plan ?? { replicas: 1, ...unplannedShape(options) };
  signal.throwIfAborted();
  const weights = await openPackedWeights({
    ...{ directory, format: shape.format, cacheDir: options.cacheDir, signal },
    onProgress: ({ done, total }) => onProgress({ packed: done, total }),
    say: (sentence) => onProgress({ sentence }),
  });
  const model = await models.open(shape, weights);
  model.replicas = replicas;
  // A second graph for losses alone would hold the weights once more.
  model.isTight = plan !== null && plan.gpu !== null && needed(plan) + plan.weights > plan.free;
  // The first epoch shall not pay for compiling.
  await model.compile(trained);
  const { microBatch, format } = shape;
  return { model, format, examples: exampleShape(options, data, microBatch) };
}

/** TensorFlow.js has its own ways with memory, of which nothing is predicted. */
function unplannedShape({ training, microBatch, memory }: SessionOptions): GraphShape {
  return {
    microBatch: microBatchSize(training.batchSize, microBatch),
    sequenceLength: training.sequenceLength,
    memory: memory === 'auto' ? 'fast' : memory,
    format: 'fp32',
  };
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
async function planSession(
  { options, directory }: SessionParts,
  models: PlannedModels,
  graphs: readonly GraphName[],
): Promise<MemoryPlan> {
  const { training, adapter, threads, device } = options;
  const { batchSize, sequenceLength } = training;
  const isOnGpu = isGpu(device);
  return planMemory(
    {
      ...{ batchSize, sequenceLength, adapterSize: adapterLayout(adapter).size },
      ...(isOnGpu
        ? { fastest: batchSize, replications: [] }
        : fastestWays(batchSize, sequenceLength, threads)),
      formats: plannedFormats(device, directory.weights),
      ...{ isHalf: isHalf(directory.weights), isPrivate: options.privacy !== undefined },
      graphs: async (shape) => {
        const model = await models.planned(shape);
        return graphs.map((name) => graphMemory(model.program(name)));
      },
    },
    { most: options.microBatch, memory: options.memory, weights: options.weights },
    await machineOf(options),
  );
}

async function machineOf({
  device,
  gpuMemory: asked,
  refuseTooLarge: refuse,
}: SessionOptions): Promise<MachineMemory> {
  if (isGpu(device)) return onGpu(device, await gpuMemory(device, asked ?? null), refuse);
  return { processBytes: process.memoryUsage.rss(), free: freeMemory(), refuse };
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
