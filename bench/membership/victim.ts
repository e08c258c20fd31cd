/** A peer that trains alone, and the candidates whose membership is asked for, on the real engine and codec. */
import { cacheDirectoryOf } from '../../node/hub/endpoint.js';
import { openModelDirectory } from '../../node/model/model-directory.js';
import { openDataset } from '../../node/data/dataset.js';
import type { SingleRows } from '../../node/data/single-rows.js';
import { openTokenizer } from '../../node/data/tokenizer.js';
import { ortExecutor } from '../../node/engine/ort.js';
import type { OptimiserState } from '../../node/interfaces.js';
import { openLanguageModel, type LanguageModel } from '../../node/model/language-model.js';
import { loraModules } from '../../node/model/lora.js';
import type { SessionOptions } from '../../node/train/messages.js';
import { TrainingSession } from '../../node/train/session.js';
import { EMBEDDED_MODEL_DIRECTORY } from '../../node/version.js';
import { adapterSha256, initialAdapter } from '../../protocol/adapter.js';
import { Fold } from '../../protocol/fold.js';
import { UpdateLog } from '../../protocol/log.js';
import type { Run } from '../../protocol/manifest.js';
import { accumulate, takeUpdate } from '../../protocol/residual.js';
import { RowFormats } from '../../protocol/row-format.js';
import { createUpdate } from '../../protocol/update.js';
import { testIdentity, testRun } from '../../test/support/runs.js';

/** Tokens in a row; a note has some 30. */
const SEQUENCE_LENGTH = 64;
/** Candidates that go through the model at once. */
const CANDIDATES_AT_ONCE = 16;

export interface VictimSettings {
  epochs: number;
  steps: number;
  /** Notes in a step, on average. */
  notesPerStep: number;
  learningRate: number;
  rank: number;
  threads: number;
  seed: Uint8Array;
  privacy: SessionOptions['privacy'] | null;
}

export async function makeRun(settings: VictimSettings): Promise<Run> {
  const { config } = await openModelDirectory(EMBEDDED_MODEL_DIRECTORY);
  const modules = loraModules(config, ['all-linear']);
  const targetModules = [...new Set(modules.map(({ name }) => name.split('.').at(-1) ?? ''))];
  const { rank, seed, learningRate, epochs, steps, notesPerStep } = settings;
  const adapter = { rank, alpha: 2 * rank, seed, targetModules, modules };
  return testRun((manifest) => ({
    ...manifest,
    adapter: { ...adapter, initialSha256: adapterSha256(initialAdapter(adapter)) },
    schedule: { ...manifest.schedule, epochsMax: epochs, stepsRef: steps },
    training: {
      ...manifest.training,
      sequenceLength: SEQUENCE_LENGTH,
      // Two notes fill a packed row.
      batchSize: Math.ceil(notesPerStep / 2),
      learningRate,
    },
  }));
}

/** The fold before each update, and after the last: what any member of the run can compute. */
export async function trainVictim(
  run: Run,
  settings: VictimSettings,
  dataFile: string,
): Promise<Float32Array[]> {
  const { manifest } = run;
  const session = await TrainingSession.open({
    modelDir: EMBEDDED_MODEL_DIRECTORY,
    dataFiles: [dataFile],
    adapter: manifest.adapter,
    training: manifest.training,
    microBatch: 'auto',
    memory: 'normal',
    refuseTooLarge: true,
    run: { epochsMax: settings.epochs, stepsRef: settings.steps },
    device: 'cpu',
    threads: settings.threads,
    cacheDir: cacheDirectoryOf(process.env),
    weights: 'fp32',
    heldOutShare: 0,
    dataSeed: settings.seed,
    ...(settings.privacy && { privacy: settings.privacy }),
  });
  const [formats, fold, log] = [new RowFormats(run), new Fold(run), new UpdateLog()];
  const residual = new Float64Array(initialAdapter(manifest.adapter).length);
  const folds = [fold.theta()];
  let optimiser: OptimiserState | null = null;
  for (let epoch = 0; epoch < settings.epochs; epoch++) {
    const theta = Float32Array.from(folds.at(-1) ?? []);
    const job = { epoch, theta, optimiser, steps: settings.steps, deadlineMs: Infinity };
    const result = await session.train(job, () => undefined, new AbortController().signal);
    optimiser = result.optimiser;
    accumulate(residual, { from: theta, to: result.theta, scale: 1 });
    const quantised = takeUpdate(residual, formats.at(epoch));
    const fields = { epoch, baseEpoch: epoch, steps: job.steps, logDigest: new Uint8Array(32) };
    log.insert(createUpdate(run, testIdentity(0), { ...fields, ...quantised }));
    fold.compute(log);
    folds.push(fold.theta());
  }
  return folds;
}

/** The base with the notes of one file, to ask for the loss and gradient of each. */
export class Candidates {
  private constructor(
    private readonly model: LanguageModel,
    private readonly rows: SingleRows,
  ) {}

  static async open({ manifest }: Run, file: string, threads: number): Promise<Candidates> {
    const { dir, config, weights } = await openModelDirectory(EMBEDDED_MODEL_DIRECTORY);
    const { single } = await openDataset([file], {
      tokenizer: await openTokenizer(dir, config),
      chatTemplate: null,
      sequenceLength: SEQUENCE_LENGTH,
      heldOutShare: 0,
      seed: new Uint8Array(32),
    });
    const sequenceLength = single.longest;
    const model = await openLanguageModel({
      ...{ config, weights, adapter: manifest.adapter, batchSize: 1, sequenceLength },
      executor: ortExecutor({ threads }),
      examples: { batchSize: CANDIDATES_AT_ONCE, sequenceLength },
    });
    return new Candidates(model, single);
  }

  /** `visit` is called for each note in the order of the file; the gradient is [adapterSize], gone after the call. */
  async forEach(
    theta: Float32Array,
    visit: (index: number, loss: number, gradient: Float32Array) => void,
  ): Promise<void> {
    const { rows, model } = this;
    const shape = { batchSize: CANDIDATES_AT_ONCE, sequenceLength: rows.longest };
    for (let start = 0; start < rows.count; start += CANDIDATES_AT_ONCE) {
      const length = Math.min(CANDIDATES_AT_ONCE, rows.count - start);
      const part = Array.from({ length }, (_, i) => start + i);
      const batch = rows.batch(part, shape, () => 0);
      const { losses, gradients } = await model.exampleGradients(batch, theta);
      for (const [i, index] of part.entries()) {
        const gradient = gradients.subarray(i * theta.length, (i + 1) * theta.length);
        visit(index, losses[i] ?? NaN, gradient);
      }
    }
  }
}
