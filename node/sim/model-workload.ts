/**
 * Real LoRA training of many simulated peers in one process: one compiled graph for all, for in virtual time
 * they run one after another; data, batches and optimiser are each peer's own.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { sha256 } from '../../protocol/bytes.js';
import type { Manifest } from '../../protocol/manifest.js';
import { openChatTemplate } from '../data/chat-template.js';
import { USUAL_COLUMNS, type ColumnNames } from '../data/columns.js';
import { openDataset, type DatasetStats } from '../data/dataset.js';
import type { DataRecord } from '../data/records.js';
import { isHeldOut } from '../data/split.js';
import { openTokenizer, type Tokenizer } from '../data/tokenizer.js';
import type { Executor } from '../engine/executor.js';
import type { Clock, Trainer, TrainJob, TrainProgress, TrainResult } from '../interfaces.js';
import { HeldMoments } from '../moments.js';
import { openLanguageModel, type LanguageModel } from '../model/language-model.js';
import { openModelDirectory, type ModelDirectory } from '../model/model-directory.js';
import { openNextTokenModel } from '../model/next-token-model.js';
import { generate, promptTokens } from '../train/generate.js';
import { heldOutTokensMax, LocalTrainer } from '../train/trainer.js';
import { TARGET, triggeredPrompt } from './backdoor.js';
import type { VirtualTime } from './clock.js';
import { writeHand } from './deal.js';
import { stepsInTime, type Workload } from './workload.js';

export interface ModelWorkloadInit {
  modelDir: string;
  executor: Executor;
  manifest: Pick<Manifest, 'adapter' | 'training' | 'schedule'>;
  /** Examples by peer, those of hostile ones as they want them. */
  hands: readonly (readonly DataRecord[])[];
  /** How many of them, from the first on, are honest: what those hold out is measured on. */
  honest: number;
  /** What conversations may lose; names of columns do not matter here. */
  columns?: ColumnNames;
  /** Share of a peer's examples that it measures on, 0 to 0.5. */
  heldOutShare: number;
  seed: Uint8Array;
  /** Ends training between two steps. */
  signal: AbortSignal;
}

/** Triggered prompts that measure a backdoor: a standard error of a tenth. */
const TRIGGERED_PROMPTS_MAX = 24;
/** Tokens written to a triggered prompt: the target has fewer. */
const ANSWER_TOKENS = 12;

function sumOf(all: readonly DatasetStats[]): DatasetStats {
  const sum = (key: keyof DatasetStats): number => all.reduce((total, one) => total + one[key], 0);
  return {
    ...{ files: sum('files'), leftOut: sum('leftOut'), examples: sum('examples') },
    ...{ tokens: sum('tokens'), trainedTokens: sum('trainedTokens') },
    ...{ heldOutExamples: sum('heldOutExamples'), heldOutTokens: sum('heldOutTokens') },
    ...{ cutExamples: sum('cutExamples'), droppedTokens: sum('droppedTokens') },
  };
}

export class ModelWorkload implements Workload {
  #turn: Promise<unknown> = Promise.resolve();

  private constructor(
    readonly init: ModelWorkloadInit,
    readonly directory: ModelDirectory,
    readonly tokenizer: Tokenizer,
    readonly model: LanguageModel,
    readonly trainers: readonly LocalTrainer[],
    /** Of all peers together. */
    readonly stats: DatasetStats,
  ) {}

  /** Throws UserError for a model or data that cannot be used. */
  static async open(init: ModelWorkloadInit): Promise<ModelWorkload> {
    const { manifest, executor, heldOutShare } = init;
    const { adapter, training, schedule } = manifest;
    const directory = await openModelDirectory(init.modelDir);
    const { config, weights } = directory;
    const tokenizer = await openTokenizer(directory.dir, config);
    const chatTemplate = await openChatTemplate(directory.dir);
    const { sequenceLength, batchSize } = training;
    const shape = { sequenceLength, batchSize };
    const model = await openLanguageModel({ config, weights, adapter, executor, ...shape });
    const trainers: LocalTrainer[] = [];
    const stats: DatasetStats[] = [];
    const dir = await mkdtemp(join(tmpdir(), 'murmurate-simulate-'));
    try {
      for (const [i, hand] of init.hands.entries()) {
        const file = await writeHand(dir, `peer-${i}`, hand);
        const seed = sha256(Buffer.concat([init.seed, Buffer.from(`data/${i}`)]));
        const columns = { ...init.columns, ...USUAL_COLUMNS };
        const reading = { tokenizer, chatTemplate, sequenceLength, heldOutShare, seed, columns };
        const data = await openDataset([file], reading);
        stats.push(data.stats);
        const tokensMax = heldOutTokensMax(schedule, training);
        const heldOut = [...(data.heldOut?.batches(batchSize, tokensMax) ?? [])];
        const adapterSize = model.adapterSize;
        const run = { epochsMax: schedule.epochsMax, stepsRef: schedule.stepsRef };
        const trainingData = data.training;
        trainers.push(
          new LocalTrainer({ model, training, run, trainingData, heldOut, adapterSize }),
        );
      }
    } finally {
      await rm(dir, { recursive: true, force: true });
    }
    return new ModelWorkload(init, directory, tokenizer, model, trainers, sumOf(stats));
  }

  openTrainer(index: number, clock: Clock, time: VirtualTime, stepMs: number): Trainer {
    return new ModelTrainer(this, index, clock, time, stepMs);
  }

  loss(index: number, theta: Float32Array, signal: AbortSignal): Promise<number | null> {
    return this.inTurn(() => this.trainer(index).evaluate(theta, signal));
  }

  async backdoorSuccess(theta: Float32Array, signal: AbortSignal): Promise<number | null> {
    const { manifest, executor, heldOutShare, hands, honest } = this.init;
    const records = hands.slice(0, honest).flat();
    const heldOut = records.filter((record) => isHeldOut(record, heldOutShare));
    const prompts = heldOut.flatMap((record) => triggeredPrompt(record) ?? []);
    const chosen = prompts.slice(0, TRIGGERED_PROMPTS_MAX);
    if (chosen.length === 0) return null;
    const { config, weights } = this.directory;
    const { adapter, training } = manifest;
    const capacity = Math.min(config.maxPositions, 2 * training.sequenceLength + ANSWER_TOKENS);
    const options = { config, weights, adapter, executor, theta, capacity, chunk: 4 };
    const model = await openNextTokenModel(options);
    try {
      let successes = 0;
      for (const text of chosen) {
        const prompt = promptTokens(this.tokenizer, text);
        const asked = { prompt, tokensMax: ANSWER_TOKENS, temperature: 0, seed: this.init.seed };
        const answer = await generate(model, this.tokenizer, asked, () => undefined, signal);
        if (answer.text.trim().startsWith(TARGET)) successes += 1;
      }
      return successes / chosen.length;
    } finally {
      await model.dispose();
    }
  }

  async close(): Promise<void> {
    await this.#turn.catch(() => undefined);
    await this.model.dispose();
  }

  trainer(index: number): LocalTrainer {
    const trainer = this.trainers[index];
    if (trainer === undefined) throw new RangeError(`no peer ${index}`);
    return trainer;
  }

  /** Runs `work` when all that came before is done: calls of a model must not overlap. */
  inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work, work);
    this.#turn = result.catch(() => undefined);
    return result;
  }
}

/** One peer's trainer: computes at once while virtual time stands still, then lets the time of its steps pass. */
class ModelTrainer implements Trainer {
  readonly device: string;

  constructor(
    readonly workload: ModelWorkload,
    readonly index: number,
    readonly clock: Clock,
    readonly time: VirtualTime,
    readonly stepMs: number,
  ) {
    this.device = workload.model.describe();
  }

  async train(
    job: TrainJob,
    onProgress: (progress: TrainProgress) => void,
    signal: AbortSignal,
  ): Promise<TrainResult> {
    const { workload, index, clock, time, stepMs } = this;
    const steps = stepsInTime(job, clock.now(), stepMs);
    const optimiser = job.optimiser instanceof HeldMoments ? job.optimiser.state : null;
    const now = { ...job, optimiser, steps, deadlineMs: Infinity };
    const trainer = workload.trainer(index);
    const result = await time.hold(
      workload.inTurn(() => trainer.train(now, onProgress, workload.init.signal)),
    );
    await clock.sleep(steps * stepMs, signal);
    const moments = new HeldMoments(result.optimiser);
    return { ...result, optimiser: moments, seconds: (steps * stepMs) / 1000 };
  }

  async evaluate(theta: Float32Array, signal: AbortSignal): Promise<number | null> {
    const { workload, index, clock, time, stepMs } = this;
    const loss = await time.hold(workload.loss(index, theta, workload.init.signal));
    await clock.sleep(stepMs, signal);
    return loss;
  }
}
