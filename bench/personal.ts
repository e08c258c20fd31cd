/**
 * What a personal adapter is worth: peers with one kind of text each fine-tune the embedded base together, and each then
 * tunes the swarm's adapter as `export --personal` does. All adapters are measured on text of each kind that nobody
 * trained on and nothing was chosen by.
 *   npm run bench:personal -- --data a.txt b.txt c.txt --records 200 --seeds 1,2
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { openChatTemplate } from '../node/data/chat-template.js';
import { openDataset, type Dataset } from '../node/data/dataset.js';
import { readRecords } from '../node/data/readers.js';
import type { DataRecord } from '../node/data/records.js';
import { openTokenizer } from '../node/data/tokenizer.js';
import { ortExecutor } from '../node/engine/ort.js';
import { openLanguageModel } from '../node/model/language-model.js';
import { openModelDirectory } from '../node/model/model-directory.js';
import { writeHand } from '../node/sim/deal.js';
import { evaluate } from '../node/train/evaluate.js';
import { TrainingSession } from '../node/train/session.js';
import { EMBEDDED_MODEL_DIRECTORY } from '../node/version.js';
import { initialAdapter } from '../protocol/adapter.js';
import type { Run } from '../protocol/manifest.js';
import { Prng } from '../protocol/prng.js';
import { bareRun, trainAlone, trainTogether } from './bare-swarm.js';

const OFFICES = ['clinic', 'machine-shop', 'law-office'];
const OFFICE_DATA = new URL('../../examples/three-offices/data/', import.meta.url);

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    /** A data file a peer: here, or after the options. */
    data: { type: 'string', multiple: true, default: [] },
    /** Records of each peer at most, and those that nobody has. */
    records: { type: 'string', default: '200' },
    test: { type: 'string', default: '40' },
    epochs: { type: 'string', default: '24' },
    steps: { type: 'string', default: '10' },
    batch: { type: 'string', default: '8' },
    sequence: { type: 'string', default: '64' },
    rate: { type: 'string', default: '0.004' },
    seeds: { type: 'string', default: '1' },
    threads: { type: 'string', default: '1' },
  },
});

const given = [...values.data, ...positionals];
const files =
  given.length > 0
    ? given
    : OFFICES.map((office) => fileURLToPath(new URL(`${office}.jsonl`, OFFICE_DATA)));
const names = files.map((file) => basename(file, extname(file)));
const threads = Number(values.threads);
const never = new AbortController().signal;
const say = (text: string): void => void process.stderr.write(`${text}\n`);

/** Writes what each peer has, and what nobody has, to files of their own in `dir`. */
async function deal(dir: string, seed: Uint8Array): Promise<{ own: string[]; test: string[] }> {
  const [own, test]: string[][] = [[], []];
  for (const [i, file] of files.entries()) {
    const all: DataRecord[] = [];
    for await (const record of readRecords(file)) all.push(record);
    const order = new Prng(seed, `deal/${i}`).permutation(all.length);
    const shuffled = Array.from(order, (index) => all[index]).filter((one) => one !== undefined);
    const unseen = shuffled.slice(0, Number(values.test));
    const kept = shuffled.slice(unseen.length, unseen.length + Number(values.records));
    test?.push(await writeHand(dir, `test-${i}`, unseen));
    own?.push(await writeHand(dir, `own-${i}`, kept));
  }
  return { own: own ?? [], test: test ?? [] };
}

function openSessions(
  { manifest }: Run,
  own: string[],
  seed: Uint8Array,
): Promise<TrainingSession[]> {
  const { adapter, training, schedule } = manifest;
  const { epochsMax, stepsRef } = schedule;
  return Promise.all(
    own.map((file) =>
      TrainingSession.open({
        ...{ modelDir: EMBEDDED_MODEL_DIRECTORY, dataFiles: [file], adapter, training, threads },
        ...{ microBatch: 'auto', memory: 'auto', refuseTooLarge: true, weights: 'fp32' },
        ...{ run: { epochsMax, stepsRef }, device: 'cpu', heldOutShare: 0.1, dataSeed: seed },
      }),
    ),
  );
}

/** Losses by text of each adapter, nats per token. */
async function measure(run: Run, test: string[], thetas: Float32Array[]): Promise<number[][]> {
  const { adapter, training } = run.manifest;
  const { batchSize, sequenceLength } = training;
  const { dir, config, weights } = await openModelDirectory(EMBEDDED_MODEL_DIRECTORY);
  const executor = ortExecutor({ threads });
  const shape = { batchSize, sequenceLength };
  const model = await openLanguageModel({ config, weights, adapter, executor, ...shape });
  const reading = {
    ...{ tokenizer: await openTokenizer(dir, config), chatTemplate: await openChatTemplate(dir) },
    ...{ sequenceLength, heldOutShare: 0, seed: new Uint8Array(32) },
  };
  const datasets: Dataset[] = [];
  for (const file of test) datasets.push(await openDataset([file], reading));
  const measured = await evaluate({ model, batchSize, datasets, thetas }, () => undefined, never);
  await model.dispose();
  return measured.map(({ losses }) => losses.map((loss) => loss ?? NaN));
}

interface Row {
  adapter: string;
  /** On the peer's own kind of text, and the mean over the others. */
  own: number;
  others: number;
}

/** One seed: for each peer, each adapter. */
async function bench(seedNumber: number): Promise<Row[][]> {
  const seed = new Uint8Array(32).fill(seedNumber);
  const dir = await mkdtemp(join(tmpdir(), 'murmurate-personal-'));
  try {
    const { own, test } = await deal(dir, seed);
    const run = await bareRun({
      ...{ epochs: Number(values.epochs), steps: Number(values.steps), seed },
      ...{ batchSize: Number(values.batch), sequenceLength: Number(values.sequence) },
      learningRate: Number(values.rate),
    });
    const { epochsMax, stepsRef } = run.manifest.schedule;
    const peers = await openSessions(run, own, seed);
    const swarm = await trainTogether(run, peers, (epoch) => say(`epoch ${epoch} done`));
    const adapters = [
      { name: 'base', theta: initialAdapter(run.manifest.adapter) },
      { name: 'swarm', theta: swarm },
    ];
    for (const [i, peer] of peers.entries()) {
      const alone = await trainAlone(run, peer);
      const stepsByEpoch = Array.from({ length: epochsMax }, () => stepsRef);
      const tuned = await peer.tunePersonal({ theta: swarm, stepsByEpoch }, () => undefined, never);
      if (tuned === null) {
        throw new RangeError(`${names[i]}: nothing is held out; give more --records`);
      }
      const { losses: held, end, share, rounds, theta } = tuned;
      say(`${names[i]}: ${JSON.stringify({ held, end, share, rounds })}`);
      adapters.push({ name: `alone ${i}`, theta: alone }, { name: `personal ${i}`, theta });
    }
    const losses = await measure(
      run,
      test,
      adapters.map(({ theta }) => theta),
    );
    return names.map((_, i) =>
      adapters.flatMap(({ name }, column) => {
        const isShared = column < 2;
        if (!isShared && !name.endsWith(` ${i}`)) return [];
        const byText = losses.map((row) => row[column] ?? NaN);
        const others = byText.filter((_loss, text) => text !== i);
        const mean = others.reduce((sum, loss) => sum + loss, 0) / others.length;
        const adapter = isShared ? name : name.replace(/ \d+$/, '');
        return [{ adapter, own: byText[i] ?? NaN, others: mean }];
      }),
    );
  } finally {
    await rm(dir, { recursive: true });
  }
}

say(JSON.stringify({ ...values, data: names }));
for (const seed of values.seeds.split(',').map(Number)) {
  const table = new Table({
    head: ['peer', 'adapter', 'own text', 'other texts'],
    colAligns: ['left', 'left', 'right', 'right'],
    style: { head: [], border: [], compact: true },
  });
  for (const [i, rows] of (await bench(seed)).entries()) {
    for (const { adapter, own, others } of rows) {
      table.push([names[i] ?? '', adapter, own.toFixed(3), others.toFixed(3)]);
    }
  }
  process.stdout.write(
    `seed ${seed}, nats per token of text that nobody trained on\n${table.toString()}\n`,
  );
}
process.exit(0);
