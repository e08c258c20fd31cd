/**
 * What a mixture of personal experts is worth: peers with one kind of text each fine-tune the embedded base together, and
 * each then makes its experts as `murmurate personal` does. All are measured on text of each kind that nobody trained on
 * and nothing was chosen by, each record by itself.
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
import { bareRun, trainTogether } from './bare-swarm.js';
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

/** As `measure` gives them. */
const COLUMNS = ['base', 'one adapter', 'swarm', 'continued', 'alone', 'mixture'];

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
    const base = initialAdapter(run.manifest.adapter);
    const rows: Row[][] = [];
    for (const [i, peer] of peers.entries()) {
      const stepsByEpoch = Array.from({ length: epochsMax }, () => stepsRef);
      const made = await peer.tunePersonal({ theta: swarm, stepsByEpoch }, () => undefined, never);
      if (made === null) {
        throw new RangeError(`${names[i]}: nothing is held out; give more --records`);
      }
      const { losses: held, end, share, rounds, single, continued, alone } = made;
      say(`${names[i]}: ${JSON.stringify({ held, end, share, rounds })}`);
      const experts = [swarm, continued, alone];
      const losses = await measure(run, model, test, [base, single], { threads, experts });
      rows.push(
        COLUMNS.map((adapter, column) => {
          const byText = losses.map((row) => row[column] ?? NaN);
          const others = byText.filter((_loss, text) => text !== i);
          const mean = others.reduce((sum, loss) => sum + loss, 0) / others.length;
          return { adapter, own: byText[i] ?? NaN, others: mean };
        }),
      );
    }
    return rows;
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
