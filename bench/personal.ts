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
import { EMBEDDED_MODEL_DIRECTORY } from '../node/version.js';
import { initialAdapter } from '../protocol/adapter.js';
import { bareRun, trainAlone, trainTogether } from './bare-swarm.js';
import { deal, measure, openSession } from './texts.js';

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
    const sizes = { test: Number(values.test), records: Number(values.records) };
    const { own, test } = await deal(files, { dir, seed, ...sizes });
    const run = await bareRun({
      ...{ epochs: Number(values.epochs), steps: Number(values.steps), seed },
      ...{ batchSize: Number(values.batch), sequenceLength: Number(values.sequence) },
      learningRate: Number(values.rate),
    });
    const { epochsMax, stepsRef } = run.manifest.schedule;
    const model = EMBEDDED_MODEL_DIRECTORY;
    const peers = await Promise.all(
      own.map((file) => openSession(run, model, [file], { seed, threads })),
    );
    const { theta: swarm } = await trainTogether(run, peers, (epoch) => say(`epoch ${epoch} done`));
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
    const thetas = adapters.map(({ theta }) => theta);
    const losses = await measure(run, model, test, thetas, { threads });
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
