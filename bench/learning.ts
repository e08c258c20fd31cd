/**
 * What a swarm learns beside the ways that it is compared with: peers with one kind of text each, their deltas averaged
 * in fp32 ("dense") or by the product's codec and fold, each peer alone, and one machine that has all texts ("central"),
 * which takes the batches of all peers together in each step.
 * Each takes the learning rate and the epoch that did best on held-out text; what is reported is the loss on text that
 * nobody trained on and nothing was chosen by.
 *   npm run bench:learning -- --data a.txt b.txt --seeds 1,2,3 --rate 0.004,0.008 --out learning.json
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, extname, join, resolve } from 'node:path';
import {
  choice,
  integer,
  manyOption,
  option,
  real,
  switchOption,
  text,
  type OptionSpecs,
} from '../node/config.js';
import { EXIT_USAGE, UserError } from '../node/errors.js';
import { fileSha256 } from '../node/files.js';
import { unreadable } from '../node/json-file.js';
import type { TrainingSession } from '../node/train/session.js';
import { EMBEDDED_MODEL_DIRECTORY } from '../node/version.js';
import { initialAdapter } from '../protocol/adapter.js';
import { COHORTS_MAX, RANK_MAX } from '../protocol/limits.js';
import { CODECS, type Run } from '../protocol/manifest.js';
import { bareRun, trainAlone, trainTogether, type OnEpoch } from './bare-swarm.js';
import { Results, type Result, type Setting, type Wanted } from './learning-results.js';
import { listOf, readOptions, runBench, type BenchUsage } from './options.js';
import { deal, measure, openCentral, openSession, type Dealt, type Hand } from './texts.js';

const WAYS = ['dense', ...CODECS, 'central', 'alone'] as const;

const usage = {
  name: 'bench:learning',
  operands: '[TEXT...]',
  summary:
    'What a swarm learns, one kind of text a peer, beside dense averaging, one machine that has all texts, and each peer\n' +
    'alone. Rate and epoch are chosen on held-out text; the losses are on text that nobody saw, in nats a token.',
  options: {
    data: manyOption(text('FILE'), [], 'a text a peer: here, or after the options; two or more'),
    peers: option(
      integer('N', 2, 64),
      null,
      'peers; the first texts have two where there are more peers',
      'one a text',
    ),
    codec: option(listOf(choice(WAYS)), WAYS, 'ways to learn'),
    rank: option(
      listOf(integer('N', 1, RANK_MAX)),
      [8],
      'ranks of the adapter; its scale is twice the rank',
    ),
    cohorts: option(
      listOf(integer('N', 1, COHORTS_MAX)),
      [1],
      'of rot1: a peer publishes in every so many-th epoch',
    ),
    alpha: option(listOf(real('X', 0.001, 1)), [1], 'of rot1: how often an epoch counts'),
    steps: option(integer('N', 1, 10_000), 10, 'steps of a peer in an epoch'),
    epochs: option(integer('N', 1, 10_000), 30, 'epochs'),
    rate: option(
      listOf(real('X', 1e-9, 10)),
      [0.004],
      'learning rates, of which each way takes its best',
    ),
    batch: option(integer('N', 1, 1024), 4, 'sequences of a peer in a step'),
    sequence: option(integer('TOKENS', 8, 1 << 17), 64, 'tokens in a sequence'),
    records: option(
      integer('N', 2, 10_000_000),
      100_000,
      'records of each text that are trained on, at most',
    ),
    test: option(integer('N', 1, 100_000), 40, 'records of each text that nobody has'),
    testTokens: option(
      integer('N', 64, 100_000_000),
      16_384,
      'tokens of these that are measured, at most',
    ),
    looks: option(
      integer('N', 1, 100),
      4,
      'times that a way is measured on held-out text, the last at its end',
    ),
    seeds: option(listOf(integer('N', 0, 255)), [1], 'seeds of deal, adapter and order'),
    model: option(text('DIR'), EMBEDDED_MODEL_DIRECTORY, 'the base model', 'the embedded one'),
    threads: option(integer('N', 1, 1024), 1, 'threads that compute'),
    out: option(
      text('FILE'),
      null,
      'where results are kept, way by way; those that are there are not measured again',
    ),
    json: switchOption('print the results instead of a table'),
  },
} satisfies BenchUsage<OptionSpecs>;

type Options = ReturnType<typeof readOptions<(typeof usage)['options']>>['options'];

const never = new AbortController().signal;

/** What was trained: each adapter with the peers whose text it is for. */
interface Trained {
  adapters: readonly { theta: Float32Array; peers: readonly number[] }[];
  bytes: number;
  heldOut: number;
  bestEpoch: number;
}

class LearningBench {
  readonly #options: Options;
  readonly #files: readonly string[];
  readonly #peerCount: number;
  readonly #results: Results;

  constructor(options: Options, files: readonly string[], results: Results) {
    this.#options = options;
    this.#files = files;
    this.#peerCount = options.peers ?? files.length;
    this.#results = results;
  }

  async run(): Promise<void> {
    for (const seed of this.#options.seeds) await this.#runSeed(seed);
  }

  async #runSeed(seed: number): Promise<void> {
    const wanted = this.#wanted(seed).filter((one) => !this.#results.has(one));
    if (wanted.length === 0) return;
    const dir = await mkdtemp(join(tmpdir(), 'murmurate-learning-'));
    try {
      const { test, records } = this.#options;
      const dealt = await deal(this.#files, { dir, seed: seedOf(seed), test, records });
      for (const one of wanted) {
        const startMs = performance.now();
        const result =
          one.way === 'base' ? await this.#base(dealt, one) : await this.#learn(dealt, one);
        await this.#results.add({
          ...one,
          ...result,
          seconds: Math.round((performance.now() - startMs) / 1000),
        });
      }
    } finally {
      await rm(dir, { recursive: true });
    }
  }

  #wanted(seed: number): Wanted[] {
    const { codec, rank: ranks, rate: rates, steps, epochs } = this.#options;
    const plain = { cohorts: 1, alpha: 1 };
    const base = { way: 'base', seed, rank: 0, steps: 0, epochs: 0, rate: 0, ...plain };
    const wanted: Wanted[] = [base];
    for (const way of codec)
      for (const rank of ranks)
        for (const rate of rates)
          for (const turns of way === 'rot1' ? this.#turns() : [plain])
            wanted.push({ way, seed, rank, steps, epochs, rate, ...turns });
    return wanted;
  }

  #turns(): Pick<Wanted, 'cohorts' | 'alpha'>[] {
    const { cohorts: counts, alpha: alphas } = this.#options;
    return counts.flatMap((cohorts) => alphas.map((alpha) => ({ cohorts, alpha })));
  }

  async #base(dealt: Dealt, wanted: Wanted): Promise<Measured> {
    const run = await this.#runOf({ ...wanted, rank: 1, steps: 1, epochs: 1, rate: 1 });
    const theta = initialAdapter(run.manifest.adapter);
    const adapters = [{ theta, peers: [] }];
    return this.#measure(run, dealt, { adapters, bytes: 0, heldOut: NaN, bestEpoch: 0 });
  }

  async #learn(dealt: Dealt, wanted: Wanted): Promise<Measured> {
    const run = await this.#runOf(wanted);
    const { model, threads } = this.#options;
    const hands = this.#hands(dealt, wanted.seed);
    const peers: TrainingSession[] = [];
    for (const { file, seed } of hands)
      peers.push(await openSession(run, model, [file], { seed, threads }));
    const trained = await this.#train(wanted, run, peers, hands);
    return this.#measure(run, dealt, trained);
  }

  #runOf({ seed, rank, steps, epochs, rate, cohorts: count, alpha }: Wanted): Promise<Run> {
    const { batch, sequence, model } = this.#options;
    return bareRun({
      ...{ epochs, steps, rank, seed: seedOf(seed), modelDir: model },
      ...{ batchSize: batch, sequenceLength: sequence, learningRate: rate },
      ...((count > 1 || alpha !== 1) && { cohorts: { count, alpha, members: this.#peerCount } }),
    });
  }

  /** Peers of one text share it, record by record: each sees another order. */
  #hands({ own }: Dealt, seed: number): Hand[] {
    const texts = this.#files.length;
    return Array.from({ length: this.#peerCount }, (_, i) => ({
      file: own[i % texts] ?? '',
      seed: seedOf(seed + 16 * Math.floor(i / texts)),
    }));
  }

  async #train(
    wanted: Wanted,
    run: Run,
    peers: readonly TrainingSession[],
    hands: readonly Hand[],
  ): Promise<Trained> {
    const everybody = [...peers.keys()];
    const { model, threads } = this.#options;
    if (wanted.way === 'alone') return this.#trainEachAlone(wanted, run, peers);
    const watch = new Watch(wanted, this.#options.looks, peers);
    if (wanted.way === 'central') {
      await trainAlone(run, await openCentral(run, model, hands, threads), watch.onEpoch);
      return { adapters: [{ theta: watch.theta, peers: everybody }], bytes: 0, ...watch.best };
    }
    const codec = [...CODECS, 'dense' as const].find((one) => one === wanted.way);
    const { bytes } = await trainTogether(run, peers, watch.onEpoch, codec);
    return { adapters: [{ theta: watch.theta, peers: everybody }], bytes, ...watch.best };
  }

  /** Each chooses on its own held-out text. */
  async #trainEachAlone(
    wanted: Wanted,
    run: Run,
    peers: readonly TrainingSession[],
  ): Promise<Trained> {
    const adapters: { theta: Float32Array; peers: number[] }[] = [];
    let [heldOut, bestEpoch] = [0, 0];
    for (const [i, peer] of peers.entries()) {
      const watch = new Watch({ ...wanted, way: `alone ${i + 1}` }, this.#options.looks, [peer]);
      await trainAlone(run, peer, watch.onEpoch);
      adapters.push({ theta: watch.theta, peers: [i] });
      heldOut += watch.best.heldOut / peers.length;
      bestEpoch = Math.max(bestEpoch, watch.best.bestEpoch);
    }
    return { adapters, bytes: 0, heldOut, bestEpoch };
  }

  async #measure(run: Run, dealt: Dealt, trained: Trained): Promise<Measured> {
    const { model, threads, testTokens: tokensMax } = this.#options;
    const { adapters, bytes, heldOut, bestEpoch } = trained;
    const thetas = adapters.map(({ theta }) => theta);
    const losses = await measure(run, model, dealt.test, thetas, { threads, tokensMax });
    const isOwn = (text: number, adapter: number): boolean =>
      adapters.length === 1 ||
      (adapters[adapter]?.peers.some((peer) => peer % this.#files.length === text) ?? false);
    const others = losses.flatMap((row, text) => row.filter((_, adapter) => !isOwn(text, adapter)));
    return {
      losses: losses.map((row, text) =>
        finite(mean(row.filter((_, adapter) => isOwn(text, adapter)))),
      ),
      others: others.length === 0 ? null : finite(mean(others)),
      ...{ bytes, heldOut: finite(heldOut), bestEpoch },
    };
  }
}

type Measured = Pick<Result, 'losses' | 'others' | 'bytes' | 'heldOut' | 'bestEpoch'>;

/** Looks at held-out text a few times in a training, keeps the best adapter, and says how far it is. */
class Watch {
  readonly #wanted: Wanted;
  readonly #looks: number;
  readonly #peers: readonly TrainingSession[];
  readonly #startMs = performance.now();
  #theta: Float32Array | null = null;
  #best = { heldOut: Infinity, bestEpoch: 0 };

  constructor(wanted: Wanted, looks: number, peers: readonly TrainingSession[]) {
    this.#wanted = wanted;
    this.#looks = looks;
    this.#peers = peers;
  }

  get theta(): Float32Array {
    if (this.#theta === null) throw new Error('no epoch has ended');
    return this.#theta;
  }

  get best(): { heldOut: number; bestEpoch: number } {
    return this.#best;
  }

  readonly onEpoch: OnEpoch = async (epoch, theta) => {
    const { epochs } = this.#wanted;
    const done = epoch + 1;
    // Evenly, the last at the end.
    const looksBy = (count: number): number => Math.floor((count * this.#looks) / epochs);
    const isLook = looksBy(done) > looksBy(epoch);
    if (isLook) await this.#look(done, theta());
    this.#say(done, isLook);
  };

  async #look(done: number, theta: Float32Array): Promise<void> {
    const losses: number[] = [];
    for (const peer of this.#peers) losses.push((await peer.evaluate(theta, never)) ?? NaN);
    const heldOut = mean(losses);
    // The last one where none is a number: it shows that the way diverged.
    if (this.#theta !== null && !(heldOut < this.#best.heldOut)) return;
    this.#theta = theta.slice();
    this.#best = { heldOut, bestEpoch: done };
  }

  /** On a terminal one line that changes, else a line for each look. */
  #say(done: number, isLook: boolean): void {
    const { way, seed, rank, rate, epochs } = this.#wanted;
    const seconds = (performance.now() - this.#startMs) / 1000;
    const left = Math.round((seconds / done) * (epochs - done));
    const line = `seed ${seed}, ${way}, r = ${rank}, rate ${rate}: epoch ${done} of ${epochs}, ${left} s left`;
    const { isTTY } = process.stderr;
    if (isTTY) process.stderr.write(`\r${line}\u001b[K${done === epochs ? '\n' : ''}`);
    else if (isLook) process.stderr.write(`${line}, held-out ${this.#best.heldOut.toFixed(4)}\n`);
  }
}

function seedOf(seed: number): Uint8Array {
  return new Uint8Array(32).fill(seed);
}

function mean(numbers: readonly number[]): number {
  return numbers.reduce((sum, value) => sum + value, 0) / numbers.length;
}

function finite(value: number): number | null {
  return Number.isFinite(value) ? value : null;
}

await runBench(async () => {
  const { options, operands } = readOptions(usage);
  const files = [...options.data, ...operands];
  if (files.length < 2) {
    throw new UserError(
      `--data names ${files.length} texts; it must be two or more, one a peer`,
      EXIT_USAGE,
    );
  }
  const { batch, sequence, records, test, testTokens, looks } = options;
  const texts: Setting['texts'] = [];
  for (const file of files) {
    const sha256 = await fileSha256(file).catch((cause: unknown) => {
      throw unreadable(file, 'the text', cause);
    });
    texts.push({ name: basename(file, extname(file)), sha256 });
  }
  const setting = {
    ...{ texts, model: basename(resolve(options.model)), peers: options.peers ?? files.length },
    ...{ batch, sequence, records, test, testTokens, looks },
  };
  const results = await Results.open(setting, options.out);
  await new LearningBench(options, files, results).run();
  process.stdout.write(`${options.json ? results.json() : results.table()}\n`);
});
