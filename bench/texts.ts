/** Texts dealt out for a bench: what each peer trains on, and what nobody sees until adapters are measured on it. */
import { openChatTemplate } from '../node/data/chat-template.js';
import { openDataset, type Dataset, type DatasetOptions } from '../node/data/dataset.js';
import type { Batch } from '../node/data/packing.js';
import { readRecords } from '../node/data/readers.js';
import type { DataRecord } from '../node/data/records.js';
import { openTokenizer } from '../node/data/tokenizer.js';
import { ortExecutor } from '../node/engine/ort.js';
import { cacheDirectoryOf } from '../node/hub/endpoint.js';
import { openLanguageModel, type LanguageModel } from '../node/model/language-model.js';
import { openModelDirectory } from '../node/model/model-directory.js';
import { writeHand } from '../node/sim/deal.js';
import { measureMixture } from '../node/train/mixture-loss.js';
import { TrainingSession } from '../node/train/session.js';
import { LocalTrainer, meanLoss } from '../node/train/trainer.js';
import type { Manifest, Run } from '../protocol/manifest.js';
import { Prng } from '../protocol/prng.js';

/** As the program has it where nobody says otherwise. */
const HELD_OUT_SHARE = 0.1;

/** Files by number of the text. */
export interface Dealt {
  readonly own: readonly string[];
  readonly test: readonly string[];
}

/**
 * Shuffles the records of each file by `seed`, and writes `test` of them, and then at most `records` others, to files of
 * their own in `dir`.
 */
export async function deal(
  files: readonly string[],
  { dir, seed, test, records }: { dir: string; seed: Uint8Array; test: number; records: number },
): Promise<Dealt> {
  const [own, unseen]: string[][] = [[], []];
  for (const [i, file] of files.entries()) {
    const all: DataRecord[] = [];
    for await (const record of readRecords(file)) all.push(record);
    const order = new Prng(seed, `deal/${i}`).permutation(all.length);
    const shuffled = Array.from(order, (index) => all[index]).filter((one) => one !== undefined);
    unseen?.push(await writeHand(dir, `test-${i}`, shuffled.slice(0, test)));
    own?.push(await writeHand(dir, `own-${i}`, shuffled.slice(test, test + records)));
  }
  return { own: own ?? [], test: unseen ?? [] };
}

/** A training session on `dataFiles`, as a peer of `run` opens it. */
export function openSession(
  { manifest }: Run,
  modelDir: string,
  dataFiles: readonly string[],
  { seed, threads }: { seed: Uint8Array; threads: number },
): Promise<TrainingSession> {
  const { adapter, training, schedule } = manifest;
  const { epochsMax, stepsRef } = schedule;
  return TrainingSession.open({
    ...{ modelDir, dataFiles: [...dataFiles], adapter, training, threads },
    ...{ microBatch: 'auto', memory: 'auto', refuseTooLarge: true, weights: 'fp32' },
    cacheDir: cacheDirectoryOf(process.env),
    ...{
      run: { epochsMax, stepsRef },
      device: 'cpu',
      heldOutShare: HELD_OUT_SHARE,
      dataSeed: seed,
    },
  });
}

/** What one peer trains on. */
export interface Hand {
  readonly file: string;
  /** Decides which records are held out, and the order of the others. */
  readonly seed: Uint8Array;
}

/**
 * A trainer that takes, in each step, the batches of all `hands` together: as if their peers averaged after every
 * step, from one optimiser.
 */
export async function openCentral(
  { manifest }: Run,
  modelDir: string,
  hands: readonly Hand[],
  threads: number,
): Promise<LocalTrainer> {
  const { training, schedule } = manifest;
  const { model, reading } = await openModel(manifest, modelDir, threads);
  const peers: Dataset[] = [];
  for (const { file, seed } of hands)
    peers.push(await openDataset([file], { ...reading, heldOutShare: HELD_OUT_SHARE, seed }));
  const batch = (step: number): Batch =>
    joined(peers.map(({ training: rows }) => rows.batch(step, training.batchSize)));
  return new LocalTrainer({
    ...{ model, training, run: schedule, adapterSize: model.adapterSize },
    ...{ trainingData: { batch }, heldOut: [] },
  });
}

function joined(batches: readonly Batch[]): Batch {
  const join = (of: (batch: Batch) => Int32Array): Int32Array =>
    Int32Array.from(batches.flatMap((batch) => [...of(batch)]));
  const sum = (of: (batch: Batch) => number): number =>
    batches.reduce((total, batch) => total + of(batch), 0);
  return {
    tokens: join(({ tokens }) => tokens),
    targets: join(({ targets }) => targets),
    segments: join(({ segments }) => segments),
    trainedTokens: sum(({ trainedTokens }) => trainedTokens),
    inputTokens: sum(({ inputTokens }) => inputTokens),
  };
}

/** The model with the run's adapter, and how its texts are read. */
async function openModel(
  { adapter, training }: Manifest,
  modelDir: string,
  threads: number,
): Promise<{
  model: LanguageModel;
  reading: Omit<DatasetOptions, 'heldOutShare' | 'seed'>;
}> {
  const { batchSize, sequenceLength } = training;
  const { dir, config, weights } = await openModelDirectory(modelDir);
  const executor = ortExecutor({ threads });
  const shape = { batchSize, sequenceLength };
  const model = await openLanguageModel({ config, weights, adapter, executor, ...shape });
  const tokenizer = await openTokenizer(dir, config);
  return {
    model,
    reading: { tokenizer, chatTemplate: await openChatTemplate(dir), sequenceLength },
  };
}

/**
 * Losses of each adapter on each text, at most about `tokensMax` of it, then of each of `experts` and of their mixture:
 * [texts][adapters] nats per token.
 */
export async function measure(
  { manifest }: Run,
  modelDir: string,
  test: readonly string[],
  thetas: readonly Float32Array[],
  {
    threads,
    tokensMax = Infinity,
    experts = [],
  }: { threads: number; tokensMax?: number; experts?: readonly Float32Array[] },
): Promise<number[][]> {
  const { batchSize } = manifest.training;
  const { model, reading } = await openModel(manifest, modelDir, threads);
  const whole = { ...reading, heldOutShare: 0, seed: new Uint8Array(32) };
  const losses: number[][] = [];
  const { signal } = new AbortController();
  for (const file of test) {
    const { training: rows } = await openDataset([file], whole);
    const ofText: number[] = [];
    for (const theta of thetas) {
      const batches = rows.batches(batchSize, tokensMax);
      ofText.push((await meanLoss(model, batches, theta, signal)) ?? NaN);
    }
    if (experts.length > 0) {
      const batches = rows.batches(batchSize, tokensMax);
      const { tokens, ...nats } = await measureMixture(model, batches, experts, signal);
      ofText.push(...[...nats.experts, nats.mixture].map((sum) => sum / tokens));
    }
    losses.push(ofText);
  }
  await model.dispose();
  return losses;
}
