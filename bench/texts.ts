/** Texts dealt out for a bench: what each peer trains on, and what nobody sees until adapters are measured on it. */
import { openChatTemplate } from '../node/data/chat-template.js';
import { openDataset, type Dataset } from '../node/data/dataset.js';
import { readRecords } from '../node/data/readers.js';
import type { DataRecord } from '../node/data/records.js';
import { openTokenizer } from '../node/data/tokenizer.js';
import { ortExecutor } from '../node/engine/ort.js';
import { cacheDirectoryOf } from '../node/hub/endpoint.js';
import { openLanguageModel } from '../node/model/language-model.js';
import { openModelDirectory } from '../node/model/model-directory.js';
import { writeHand } from '../node/sim/deal.js';
import { evaluate } from '../node/train/evaluate.js';
import { TrainingSession } from '../node/train/session.js';
import type { Run } from '../protocol/manifest.js';
import { Prng } from '../protocol/prng.js';

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
    ...{ run: { epochsMax, stepsRef }, device: 'cpu', heldOutShare: 0.1, dataSeed: seed },
  });
}

/** Losses of each adapter on each text, [texts][adapters] nats per token. */
export async function measure(
  { manifest }: Run,
  modelDir: string,
  test: readonly string[],
  thetas: Float32Array[],
  threads: number,
): Promise<number[][]> {
  const { adapter, training } = manifest;
  const { batchSize, sequenceLength } = training;
  const { dir, config, weights } = await openModelDirectory(modelDir);
  const executor = ortExecutor({ threads });
  const shape = { batchSize, sequenceLength };
  const model = await openLanguageModel({ config, weights, adapter, executor, ...shape });
  const reading = {
    ...{ tokenizer: await openTokenizer(dir, config), chatTemplate: await openChatTemplate(dir) },
    ...{ sequenceLength, heldOutShare: 0, seed: new Uint8Array(32) },
  };
  const datasets: Dataset[] = [];
  for (const file of test) datasets.push(await openDataset([file], reading));
  const { signal } = new AbortController();
  const measured = await evaluate({ model, batchSize, datasets, thetas }, () => undefined, signal);
  await model.dispose();
  return measured.map(({ losses }) => losses.map((loss) => loss ?? NaN));
}
