/**
 * What a swarm learns beside the ways that it is compared with: peers with one kind of text each, their deltas averaged
 * in fp32 ("dense") or by the product's codec and fold, each peer alone, and one machine that has all texts. All of it
 * on text that nobody trained on; the learning rate of each is the one that did best on held-out text.
 *   npm run bench:learning -- --data a.txt b.txt --seeds 1,2,3 --rate 0.004,0.008 --json
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, extname, join } from 'node:path';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { EMBEDDED_MODEL_DIRECTORY } from '../node/version.js';
import type { TrainingSession } from '../node/train/session.js';
import { adapterLayout, initialAdapter } from '../protocol/adapter.js';
import type { Run } from '../protocol/manifest.js';
import { updateBytes } from '../protocol/row-format.js';
import { bareRun, trainAlone, trainTogether } from './bare-swarm.js';
import { deal, measure, openSession, type Dealt } from './texts.js';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    /** A text file a peer: here, or after the options. */
    data: { type: 'string', multiple: true, default: [] },
    /** Peers; more than texts: the first texts have two. Default: one for each text. */
    peers: { type: 'string' },
    /** Of "dense", "rot1", "central", "alone". */
    codec: { type: 'string', default: 'dense,rot1,central,alone' },
    rank: { type: 'string', default: '8' },
    steps: { type: 'string', default: '10' },
    epochs: { type: 'string', default: '30' },
    /** Learning rates, of which each way takes its best. */
    rate: { type: 'string', default: '0.004' },
    batch: { type: 'string', default: '4' },
    sequence: { type: 'string', default: '64' },
    /** Records of each text at most, and those that nobody has. */
    records: { type: 'string', default: '100000' },
    test: { type: 'string', default: '40' },
    seeds: { type: 'string', default: '1' },
    model: { type: 'string', default: EMBEDDED_MODEL_DIRECTORY },
    threads: { type: 'string', default: '1' },
    json: { type: 'boolean', default: false },
  },
});

const files = [...values.data, ...positionals];
if (files.length < 2) {
  process.stderr.write('error: needs two texts or more: --data a.txt b.txt\n');
  process.exit(2);
}
const names = files.map((file) => basename(file, extname(file)));
const peerCount = Number(values.peers ?? files.length);
const threads = Number(values.threads);
const rates = values.rate.split(',').map(Number);
const ways = values.codec.split(',');
const never = new AbortController().signal;
const say = (text: string): void => void process.stderr.write(`${text}\n`);

/** One adapter, measured. */
interface Measured {
  way: string;
  seed: number;
  rate: number;
  /** Mean over the peers' held-out parts, by which the rate is chosen; not reported. */
  heldOut: number;
  /** Nats per token on unseen text, by text. */
  losses: number[];
  /** Bytes that a peer sends in an epoch to each other one. */
  bytes: number;
}

interface Setting {
  seed: Uint8Array;
  seedNumber: number;
  rate: number;
  dealt: Dealt;
}

/** Peers of one text share it, record by record: each sees another order. */
async function openPeers(run: Run, { dealt, seed }: Setting): Promise<TrainingSession[]> {
  const peers: TrainingSession[] = [];
  for (let i = 0; i < peerCount; i++) {
    const own = dealt.own[i % files.length] ?? '';
    const order = seed.map((byte) => byte + 16 * Math.floor(i / files.length));
    peers.push(await openSession(run, values.model, [own], { seed: order, threads }));
  }
  return peers;
}

async function heldOutOf(peers: readonly TrainingSession[], theta: Float32Array): Promise<number> {
  let sum = 0;
  for (const peer of peers) sum += (await peer.evaluate(theta, never)) ?? NaN;
  return sum / peers.length;
}

/** The adapters of one way, by name; what each peer makes alone is one each. */
async function trainWay(
  way: string,
  run: Run,
  peers: readonly TrainingSession[],
  setting: Setting,
): Promise<{ name: string; theta: Float32Array }[]> {
  if (way === 'dense' || way === 'rot1') {
    const onEpoch = (epoch: number): void => say(`  ${way}: epoch ${epoch} done`);
    return [{ name: way, theta: await trainTogether(run, peers, onEpoch, way) }];
  }
  if (way === 'central') {
    const central = await openCentral(setting);
    const theta = await trainAlone(central.run, central.session);
    return [{ name: way, theta }];
  }
  if (way !== 'alone') throw new RangeError(`--codec ${way}: dense, rot1, central or alone`);
  const alone: { name: string; theta: Float32Array }[] = [];
  for (const [i, peer] of peers.entries())
    alone.push({ name: `alone ${i}`, theta: await trainAlone(run, peer) });
  return alone;
}

function runOf({ seed, rate }: Setting, batchSize: number): Promise<Run> {
  return bareRun({
    ...{ epochs: Number(values.epochs), steps: Number(values.steps), seed },
    ...{ batchSize, sequenceLength: Number(values.sequence), learningRate: rate },
    ...{ rank: Number(values.rank), modelDir: values.model },
  });
}

/** As many steps as each peer, on as many sequences as all of them. */
async function openCentral(setting: Setting): Promise<{ run: Run; session: TrainingSession }> {
  const run = await runOf(setting, peerCount * Number(values.batch));
  const options = { seed: setting.seed, threads };
  const session = await openSession(run, values.model, setting.dealt.own, options);
  return { run, session };
}

/** All ways at one rate. */
async function benchRate(setting: Setting): Promise<Measured[]> {
  const run = await runOf(setting, Number(values.batch));
  const peers = await openPeers(run, setting);
  const adapters = [{ name: 'base', theta: initialAdapter(run.manifest.adapter) }];
  for (const way of ways) adapters.push(...(await trainWay(way, run, peers, setting)));
  const thetas = adapters.map(({ theta }) => theta);
  const losses = await measure(run, values.model, setting.dealt.test, thetas, threads);
  const measured: Measured[] = [];
  for (const [column, { name, theta }] of adapters.entries()) {
    const dense = 4 * adapterLayout(run.manifest.adapter).size;
    measured.push({
      way: name,
      seed: setting.seedNumber,
      rate: setting.rate,
      heldOut: await heldOutOf(peers, theta),
      losses: losses.map((row) => row[column] ?? NaN),
      bytes: name === 'dense' ? dense : name === 'rot1' ? updateBytes(run) : 0,
    });
  }
  return measured;
}

async function benchSeed(seedNumber: number): Promise<Measured[]> {
  const seed = new Uint8Array(32).fill(seedNumber);
  const dir = await mkdtemp(join(tmpdir(), 'murmurate-learning-'));
  try {
    const sizes = { test: Number(values.test), records: Number(values.records) };
    const dealt = await deal(files, { dir, seed, ...sizes });
    const measured: Measured[] = [];
    for (const rate of rates) {
      say(`seed ${seedNumber}, learning rate ${rate}`);
      measured.push(...(await benchRate({ seed, seedNumber, rate, dealt })));
    }
    return measured;
  } finally {
    await rm(dir, { recursive: true });
  }
}

/** Of each way and seed the rate with the least loss on held-out text. */
function best(all: readonly Measured[]): Measured[] {
  const chosen = new Map<string, Measured>();
  for (const one of all) {
    const key = `${one.way} ${one.seed}`;
    const known = chosen.get(key);
    if (known === undefined || one.heldOut < known.heldOut) chosen.set(key, one);
  }
  return [...chosen.values()];
}

const mean = (numbers: readonly number[]): number =>
  numbers.reduce((sum, value) => sum + value, 0) / numbers.length;

/** "3.7604" of one seed, "3.7604 (3.7599 to 3.7610)" of several. */
function spread(numbers: readonly number[]): string {
  const middle = mean(numbers).toFixed(4);
  if (numbers.length === 1) return middle;
  return `${middle} (${Math.min(...numbers).toFixed(4)} to ${Math.max(...numbers).toFixed(4)})`;
}

function printTable(chosen: readonly Measured[]): void {
  const table = new Table({
    head: ['way', 'rate', 'loss', 'behind dense', 'bytes an epoch', ...names],
    style: { head: [], border: [], compact: true },
  });
  const rows = new Map<string, Measured[]>();
  for (const one of chosen) rows.set(one.way, [...(rows.get(one.way) ?? []), one]);
  const lossOf = (way: string, seed: number): number =>
    mean(rows.get(way)?.find((one) => one.seed === seed)?.losses ?? [NaN]);
  for (const [way, ofSeeds] of rows) {
    table.push([
      way,
      [...new Set(ofSeeds.map(({ rate }) => rate))].join(', '),
      spread(ofSeeds.map(({ losses }) => mean(losses))),
      spread(ofSeeds.map(({ losses, seed }) => mean(losses) - lossOf('dense', seed))),
      ofSeeds[0]?.bytes === 0 ? '-' : String(ofSeeds[0]?.bytes),
      ...names.map((_, text) => mean(ofSeeds.map(({ losses }) => losses[text] ?? NaN)).toFixed(4)),
    ]);
  }
  process.stdout.write(`${table.toString()}\n`);
}

say(JSON.stringify({ ...values, data: names }));
const measured: Measured[] = [];
for (const seed of values.seeds.split(',').map(Number)) measured.push(...(await benchSeed(seed)));
if (values.json)
  process.stdout.write(`${JSON.stringify({ options: values, measured }, null, 2)}\n`);
else printTable(best(measured));
process.exit(0);
