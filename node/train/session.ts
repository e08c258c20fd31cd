/** All that a training process holds: the model on its device, this peer's data, and the trainer on both. */
import { initialAdapter } from '../../protocol/adapter.js';
import { openChatTemplate } from '../data/chat-template.js';
import { openDataset, type Dataset, type DatasetOptions } from '../data/dataset.js';
import type { Batch } from '../data/packing.js';
import { openTokenizer } from '../data/tokenizer.js';
import { openExecutor } from '../engine/open-executor.js';
import type { LanguageModel } from '../model/language-model.js';
import { checkWeightsFinite, checkWeightsOnDevice } from '../model/broken-weights.js';
import type { BatchShape } from '../model/family.js';
import { openModelDirectory } from '../model/model-directory.js';
import type { WeightIndex } from '../model/safetensors.js';
import type { WeightFormat } from '../model/weight-format.js';
import type { TrainProgress } from '../interfaces.js';
import { GradientBuffers } from './accumulate.js';
import {
  COMPARISON_TOKENS_MAX,
  compareAdapters,
  trainAlone,
  type ComparisonProgress,
  type DomainLosses,
} from './compare.js';
import type { AdapterParams, CallProgress, SessionOptions } from './messages.js';
import { tellReading } from './reading-progress.js';
import { openSessionModel, type Opening } from './session-model.js';
import { measureMixture } from './mixture-loss.js';
import { privateGradient, type PrivateTraining } from './private-gradient.js';
import {
  personalTraining,
  tunePersonal,
  type PersonalExperts,
  type PersonalProgress,
  type Tuned,
} from './personal.js';
import {
  heldOutTokensMax,
  LocalTrainer,
  type LocalJob,
  type LocalResult,
  type LocalTrainerInit,
} from './trainer.js';

/** Steps whose time is measured after one to warm up, and how long all may take before no more is begun. */
const MEASURED_STEPS = 5;
const MEASURE_MS_MAX = 4_000;

const NEVER = new AbortController().signal;

/** With the format that was chosen. */
type OpenedOptions = SessionOptions & { weights: WeightFormat };

export class TrainingSession {
  readonly #options: OpenedOptions;
  readonly #model: LanguageModel;
  readonly #data: Dataset;
  readonly #dataOptions: DatasetOptions;
  readonly #trainer: LocalTrainer;
  readonly #buffers: GradientBuffers;
  readonly #weights: WeightIndex;
  readonly #heldOut: readonly Batch[];
  #areWeightsFinite = false;

  private constructor(
    options: OpenedOptions,
    model: LanguageModel,
    weights: WeightIndex,
    data: Dataset,
    dataOptions: DatasetOptions,
    shape: BatchShape | undefined,
  ) {
    this.#options = options;
    this.#model = model;
    this.#weights = weights;
    this.#data = data;
    this.#dataOptions = dataOptions;
    const { batchSize } = model;
    const heldOutTokens = heldOutTokensMax(options.run, options.training);
    this.#heldOut = [...(data.heldOut?.batches(batchSize, heldOutTokens) ?? [])];
    this.#buffers = new GradientBuffers(model.adapterSize);
    this.#trainer = new LocalTrainer({
      model,
      buffers: this.#buffers,
      training: options.training,
      run: options.run,
      trainingData: data.training,
      heldOut: this.#heldOut,
      adapterSize: model.adapterSize,
      ...this.#privately(shape),
    });
  }

  #privately(shape: BatchShape | undefined): Pick<LocalTrainerInit, 'privateGradient'> {
    const settings = this.privacy;
    if (settings === null || shape === undefined) return {};
    const init = { model: this.#model, shape, records: this.#data.single, settings };
    return {
      privateGradient: (theta, signal, buffers) => privateGradient(init, theta, signal, buffers),
    };
  }

  /**
   * Throws UserError for a model or data that cannot be used or do not fit into memory; the data are read before the
   * weights, and `onProgress` is told how far all of that is.
   */
  static async open(
    options: SessionOptions,
    { onProgress = () => undefined, signal = NEVER }: Partial<Opening> = {},
  ): Promise<TrainingSession> {
    const directory = await openModelDirectory(options.modelDir);
    const dataOptions: DatasetOptions = {
      tokenizer: await openTokenizer(directory.dir, directory.config),
      chatTemplate: await openChatTemplate(directory.dir),
      sequenceLength: options.training.sequenceLength,
      heldOutShare: options.heldOutShare,
      seed: options.dataSeed,
      ...(options.columns && { columns: options.columns }),
    };
    const data = await openDataset(options.dataFiles, {
      ...dataOptions,
      onExample: tellReading(onProgress),
    });
    const executor = await openExecutor(options);
    const parts = { options, directory, data, executor };
    const { model, format, examples } = await openSessionModel(parts, { onProgress, signal });
    return new TrainingSession(
      { ...options, weights: format },
      ...([model, directory.weights, data, dataOptions, examples] as const),
    );
  }

  /** As LanguageModel.describe. */
  get device(): string {
    return this.#model.describe();
  }

  /** Of the frozen weights. */
  get weights(): WeightFormat {
    return this.#options.weights;
  }

  /** As LanguageModel.remark. */
  get remark(): string | null {
    return this.#model.remark;
  }

  get stats(): Dataset['stats'] {
    return this.#data.stats;
  }

  /** How records are hidden; null where they are not. */
  get privacy(): PrivateTraining | null {
    const { privacy } = this.#options;
    if (privacy === undefined) return null;
    const sampleRate = Math.min(1, privacy.batchSize / this.#data.single.count);
    return { ...privacy, sampleRate: privacy.sampleRate ?? sampleRate };
  }

  /** As LocalTrainer.train. Throws UserError when weights of the base model are broken, also below. */
  async train(
    job: LocalJob,
    onProgress: (progress: TrainProgress) => void,
    signal: AbortSignal,
  ): Promise<LocalResult> {
    const result = await this.#trainer.train(job, onProgress, signal);
    await this.#explain(result.loss);
    return result;
  }

  /** As LocalTrainer.trainInPlace. */
  async trainInPlace(
    job: LocalJob,
    onProgress: (progress: TrainProgress) => void,
    signal: AbortSignal,
  ): Promise<LocalResult> {
    const result = await this.#trainer.trainInPlace(job, onProgress, signal);
    await this.#explain(result.loss);
    return result;
  }

  async evaluate(theta: Float32Array, signal: AbortSignal): Promise<number | null> {
    const loss = await this.#trainer.evaluate(theta, signal);
    await this.#explain(loss);
    return loss;
  }

  /**
   * Throws UserError when a loss is not finite because weights of the base are not. Looked up only
   * then, and once, for it reads the whole model.
   */
  async #explain(loss: number | null): Promise<void> {
    if (loss === null || Number.isFinite(loss) || this.#areWeightsFinite) return;
    await checkWeightsFinite(this.#weights);
    await checkWeightsOnDevice(this.#weights, this.#options.device);
    this.#areWeightsFinite = true;
  }

  /**
   * Median time in ms of a whole step (batch, gradient, AdamW) after a warm-up, or of the first where a step takes so long
   * that warming up is little of it; changes nothing.
   */
  async measureStepMs(signal: AbortSignal): Promise<number> {
    const theta = initialAdapter(this.#options.adapter);
    const job = { epoch: 0, theta, optimiser: null, steps: 1, deadlineMs: Infinity };
    const noProgress = (): void => undefined;
    const endMs = performance.now() + MEASURE_MS_MAX;
    const warmUp = await this.train(job, noProgress, signal);
    const { optimiser } = warmUp;
    const times: number[] = [];
    while (times.length < MEASURED_STEPS && performance.now() < endMs) {
      const again = { ...job, theta: theta.slice(), optimiser };
      const { seconds } = await this.#trainer.trainInPlace(again, noProgress, signal);
      times.push(seconds * 1000);
    }
    times.sort((a, b) => a - b);
    return times[Math.floor(times.length / 2)] ?? warmUp.seconds * 1000;
  }

  /**
   * The peer's own experts beside the swarm's adapter, trained without noise: see personal.ts. Null without held-out
   * text. Rejects with `signal.reason` between two steps.
   */
  async tunePersonal(
    { theta: swarm, theta0 = this.#initial(), stepsByEpoch }: AdapterParams<'personal'>,
    onProgress: (progress: CallProgress<'personal'>) => void,
    signal: AbortSignal,
  ): Promise<PersonalExperts | null> {
    const onStep = ({ done, total }: ComparisonProgress): void =>
      onProgress({ stage: 'alone', done, total });
    const onRound = ({ done, total }: PersonalProgress): void =>
      onProgress({ stage: 'personal', done, total });
    if (this.#heldOut.length === 0) return null;
    const trainer = this.#trainer;
    const alone = await trainAlone({ trainer, theta0, stepsByEpoch }, onStep, signal);
    const tuned = await this.#tune(swarm, alone, onRound, signal);
    if (tuned === null) return null;
    const experts = [swarm, tuned.continued, alone];
    const { tokens, mixture } = await measureMixture(this.#model, this.#heldOut, experts, signal);
    return { ...tuned, alone, losses: { ...tuned.losses, mixture: mixture / tokens } };
  }

  #initial(): Float32Array {
    return initialAdapter(this.#options.adapter);
  }

  /** See personal.ts. */
  async #tune(
    swarm: Float32Array,
    alone: Float32Array,
    onProgress: (progress: PersonalProgress) => void,
    signal: AbortSignal,
  ): Promise<Tuned | null> {
    const { run, training } = this.#options;
    const personal = personalTraining(training, run);
    const { stepsRef } = run;
    const offset = run.epochsMax * stepsRef;
    const data = this.#data.training;
    const trainer = new LocalTrainer({
      model: this.#model,
      buffers: this.#buffers,
      ...personal,
      // Where the run left off: text that it did not get to comes first.
      trainingData: { batch: (step, batchSize) => data.batch(offset + step, batchSize) },
      heldOut: this.#heldOut,
      adapterSize: this.#model.adapterSize,
    });
    const noProgress = (): void => undefined;
    return tunePersonal(
      {
        swarm,
        alone,
        rounds: personal.run.epochsMax,
        train: (epoch, theta, optimiser) => {
          // What it starts from is the best so far, or the swarm's.
          const copy = theta.slice();
          const job = { epoch, theta: copy, optimiser, steps: stepsRef, deadlineMs: Infinity };
          return trainer.trainInPlace(job, noProgress, signal);
        },
        evaluate: (theta) => trainer.evaluate(theta, signal),
      },
      onProgress,
    );
  }

  /** See compare.ts. Throws UserError for domain files that cannot be used. */
  async compare(
    params: AdapterParams<'compare'>,
    onProgress: (progress: ComparisonProgress) => void,
    signal: AbortSignal,
  ): Promise<DomainLosses[]> {
    const { batchSize } = this.#model;
    const domains = [];
    for (const { name, files } of params.domains) {
      const { heldOut } = await openDataset(files, this.#dataOptions);
      const batches = [...(heldOut?.batches(batchSize, COMPARISON_TOKENS_MAX) ?? [])];
      domains.push({ name, heldOut: batches });
    }
    const onRound = ({ done, total }: PersonalProgress): void =>
      onProgress({ stage: 'personal', done, total });
    const { theta: swarm, theta0 = this.#initial(), stepsByEpoch } = params;
    const trainer = this.#trainer;
    const alone = await trainAlone({ trainer, theta0, stepsByEpoch }, onProgress, signal);
    const tuned = await this.#tune(swarm, alone, onRound, signal);
    const continued = tuned?.continued ?? null;
    const comparison = { model: this.#model, theta0, alone, swarm, continued, domains };
    return compareAdapters(comparison, onProgress, signal);
  }
}
