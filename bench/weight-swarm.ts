/** What the format of the frozen weights changes in a swarm: the loss of its adapter on text that no peer has. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Table from 'cli-table3';
import { openDataset } from '../node/data/dataset.js';
import { openTokenizer } from '../node/data/tokenizer.js';
import { ortExecutor } from '../node/engine/ort.js';
import { cacheDirectoryOf } from '../node/hub/endpoint.js';
import { openLanguageModel } from '../node/model/language-model.js';
import { openModelDirectory } from '../node/model/model-directory.js';
import type { WeightFormat } from '../node/model/weight-format.js';
import { dealRecords, writeHand } from '../node/sim/deal.js';
import { evaluate } from '../node/train/evaluate.js';
import { TrainerHost } from '../node/train/host.js';
import { adapterSha256, initialAdapter } from '../protocol/adapter.js';
import type { Run } from '../protocol/manifest.js';
import { bareRun, trainTogether } from './bare-swarm.js';
import { openWeights } from './open-weights.js';

export interface SwarmOptions {
  modelDir: string;
  files: readonly string[];
  /** The formats of the peers of each swarm. */
  swarms: readonly (readonly WeightFormat[])[];
  epochs: number;
  /** Steps of a peer in an epoch. */
  steps: number;
  batchSize: number;
  sequenceLength: number;
  learningRate: number;
  /** Records that nobody has. */
  test: number;
  seed: Uint8Array;
}

const never = new AbortController().signal;
const ignore = (): void => undefined;
const PEERS = 3;
const SILENT = { debug: ignore, info: ignore, warn: console.error, error: console.error };

/** Trains a swarm of three for each of `swarms`, on the same text with the same seed, and prints a table. */
export async function compareSwarms(options: SwarmOptions): Promise<void> {
  const { modelDir, swarms, seed, epochs, steps } = options;
  const dir = await mkdtemp(join(tmpdir(), 'murmurate-weights-'));
  try {
    const [unseen = [], ...hands] = await dealRecords(options.files, PEERS + 1, 'lines', seed);
    const test = await writeHand(dir, 'test', unseen.slice(0, options.test));
    const own: string[] = [];
    for (const [i, hand] of hands.entries()) own.push(await writeHand(dir, `peer-${i}`, hand));
    const run = await bareRun(options);
    const adapters = [{ name: 'none', formats: ['fp32' as WeightFormat], theta: initial(run) }];
    for (const formats of swarms) {
      const name = [...new Set(formats)].join(' + ');
      const say = (epoch: number): void =>
        void process.stderr.write(`${name}: epoch ${epoch + 1} of ${epochs}\n`);
      const peers: TrainerHost[] = [];
      try {
        for (const [i, file] of own.entries()) {
          peers.push(
            await openPeer(run, modelDir, file, formats[i % formats.length] ?? 'fp32', seed),
          );
        }
        const { theta } = await trainTogether(run, peers, say);
        adapters.push({ name, formats: [...formats], theta });
      } finally {
        for (const peer of peers) await peer.close();
      }
    }
    const table = new Table({
      head: ['peers', 'adapter', 'loss with fp32 weights', 'with their own'],
      style: { head: [], border: [] },
    });
    const losses = await measure(run, options, test, 'fp32', adapters);
    for (const [i, { name, formats, theta }] of adapters.entries()) {
      const [format = 'fp32'] = formats;
      const isMixed = new Set(formats).size > 1;
      const [withOwn = NaN] = isMixed ? [] : await measure(run, options, test, format, [{ theta }]);
      const hash = adapterSha256(theta).slice(0, 8);
      const loss = (losses[i] ?? NaN).toFixed(4);
      table.push([name, hash, loss, isMixed ? '-' : withOwn.toFixed(4)]);
    }
    console.log(
      `${modelDir}, ${PEERS} peers, ${epochs} epochs of ${steps} steps of ${options.batchSize} x ${options.sequenceLength}, learning rate ${options.learningRate}; nats per token of ${options.test} records that no peer has`,
    );
    console.log(table.toString());
  } finally {
    await rm(dir, { recursive: true });
  }
}

const initial = ({ manifest }: Run): Float32Array => initialAdapter(manifest.adapter);

function openPeer(
  { manifest }: Run,
  modelDir: string,
  file: string,
  weights: WeightFormat,
  seed: Uint8Array,
): Promise<TrainerHost> {
  const { adapter, training, schedule } = manifest;
  const { epochsMax, stepsRef } = schedule;
  return TrainerHost.open({
    ...{ modelDir, dataFiles: [file], adapter, training, threads: 1, weights },
    ...{ microBatch: 'auto', memory: 'normal', logger: SILENT },
    cacheDir: cacheDirectoryOf(process.env),
    ...{ run: { epochsMax, stepsRef }, device: 'cpu', heldOutShare: 0, dataSeed: seed },
  });
}

/** Of each adapter, in nats per token. */
async function measure(
  run: Run,
  { modelDir, batchSize, sequenceLength, seed }: SwarmOptions,
  test: string,
  format: WeightFormat,
  adapters: readonly { theta: Float32Array }[],
): Promise<number[]> {
  const directory = await openModelDirectory(modelDir);
  const { dir, config } = directory;
  const model = await openLanguageModel({
    ...{ config, adapter: run.manifest.adapter, batchSize, sequenceLength },
    ...(await openWeights(directory, format)),
    executor: ortExecutor({ threads: 1 }),
  });
  const dataset = await openDataset([test], {
    ...{ tokenizer: await openTokenizer(dir, config), chatTemplate: null },
    ...{ sequenceLength, heldOutShare: 0, seed },
  });
  const thetas = adapters.map(({ theta }) => theta);
  const measured = await evaluate({ model, batchSize, datasets: [dataset], thetas }, ignore, never);
  await model.dispose();
  return measured[0]?.losses.map((loss) => loss ?? NaN) ?? [];
}
