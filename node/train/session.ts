/** All that a training process holds: the model on its device, this peer's data, and the trainer on both. */
import { initialAdapter } from '../../protocol/adapter.js';
import { openChatTemplate } from '../data/chat-template.js';
import { openDataset, type Dataset, type DatasetOptions } from '../data/dataset.js';
import { openTokenizer } from '../data/tokenizer.js';
import { openExecutor } from '../engine/open-executor.js';
import { openLanguageModel, type LanguageModel } from '../model/language-model.js';
import { openModelDirectory } from '../model/model-directory.js';
import type { TrainJob, TrainProgress } from '../interfaces.js';
import {
  COMPARISON_TOKENS_MAX,
  compareAdapters,
  type ComparisonProgress,
  type DomainLosses,
} from './compare.js';
import type { CallParams, CallResult, SessionOptions } from './messages.js';
import { heldOutTokensMax, LocalTrainer } from './trainer.js';

/** Steps whose time is measured after one to warm up, and how long that may take in all. */
const MEASURED_STEPS = 5;
const MEASURE_MS_MAX = 10_000;

export class TrainingSession {
  readonly #options: SessionOptions;
  readonly #model: LanguageModel;
  readonly #data: Dataset;
  readonly #dataOptions: DatasetOptions;
  readonly #trainer: LocalTrainer;

  private constructor(
    options: SessionOptions,
    model: LanguageModel,
    data: Dataset,
    dataOptions: DatasetOptions,
  ) {
    this.#options = options;
    this.#model = model;
    this.#data = data;
    this.#dataOptions = dataOptions;
    const { batchSize } = options.training;
    const heldOutTokens = heldOutTokensMax(options.run, options.training);
    this.#trainer = new LocalTrainer({
      model,
      training: options.training,
      run: options.run,
      trainingData: data.training,
      heldOut: [...(data.heldOut?.batches(batchSize, heldOutTokens) ?? [])],
      adapterSize: model.adapterSize,
    });
  }

  /** Throws UserError for a model or data that cannot be used; the data are read before the weights. */
  static async open(options: SessionOptions): Promise<TrainingSession> {
    const { training, adapter } = options;
    const directory = await openModelDirectory(options.modelDir);
    const dataOptions: DatasetOptions = {
      tokenizer: await openTokenizer(directory.dir, directory.config),
      chatTemplate: await openChatTemplate(directory.dir),
      sequenceLength: training.sequenceLength,
      heldOutShare: options.heldOutShare,
      seed: options.dataSeed,
    };
    const data = await openDataset(options.dataFiles, dataOptions);
    const { batchSize, sequenceLength } = training;
    const { config, weights } = directory;
    const shape = { batchSize, sequenceLength, executor: await openExecutor(options) };
    const model = await openLanguageModel({
      config,
      weights,
      adapter,
      ...shape,
      // The first epoch shall not pay for it.
      compile: ['gradient'],
    });
    return new TrainingSession(options, model, data, dataOptions);
  }

  /** What the steps run on, e.g. "cpu (2 threads)". */
  get device(): string {
    return this.#model.describe();
  }

  get stats(): Dataset['stats'] {
    return this.#data.stats;
  }

  async train(
    job: TrainJob,
    onProgress: (progress: TrainProgress) => void,
    signal: AbortSignal,
  ): Promise<CallResult<'train'>> {
    return this.#trainer.train(job, onProgress, signal);
  }

  async evaluate(theta: Float32Array, signal: AbortSignal): Promise<number | null> {
    return this.#trainer.evaluate(theta, signal);
  }

  /** Median time in ms of a whole step (batch, gradient, AdamW) after a warm-up; changes nothing. */
  async measureStepMs(signal: AbortSignal): Promise<number> {
    const theta = initialAdapter(this.#options.adapter);
    const job = { epoch: 0, theta, optimiser: null, steps: 1, deadlineMs: Infinity };
    const noProgress = (): void => undefined;
    await this.#trainer.train(job, noProgress, signal);
    const times: number[] = [];
    const endMs = performance.now() + MEASURE_MS_MAX;
    do {
      const { seconds } = await this.#trainer.train(job, noProgress, signal);
      times.push(seconds * 1000);
    } while (times.length < MEASURED_STEPS && performance.now() < endMs);
    times.sort((a, b) => a - b);
    return times[Math.floor(times.length / 2)]!;
  }

  /** See compare.ts. Throws UserError for domain files that cannot be used. */
  async compare(
    params: CallParams<'compare'>,
    onProgress: (progress: ComparisonProgress) => void,
    signal: AbortSignal,
  ): Promise<DomainLosses[]> {
    const { batchSize } = this.#options.training;
    const domains = [];
    for (const { name, files } of params.domains) {
      const { heldOut } = await openDataset(files, this.#dataOptions);
      const batches = [...(heldOut?.batches(batchSize, COMPARISON_TOKENS_MAX) ?? [])];
      domains.push({ name, heldOut: batches });
    }
    const comparison = {
      model: this.#model,
      trainer: this.#trainer,
      theta0: initialAdapter(this.#options.adapter),
      swarm: params.theta,
      domains,
      stepsByEpoch: params.stepsByEpoch,
    };
    return compareAdapters(comparison, onProgress, signal);
  }
}
