/**
 * What the codec and the fold cost on one core, in JavaScript and in WebAssembly, beside a plain copy of the same
 * vectors: one float64 a coordinate, for each author where it says fold. And what one late update costs, in epochs.
 *   npm run bench:protocol -- --codec rot1,rec20 --coordinates 290000,2440000,40000000 --peers 8,32
 */
import { parseArgs } from 'node:util';
import { adapterSha256, initialAdapter } from '../protocol/adapter.js';
import { EpochFold, type FoldSource } from '../protocol/epoch-fold.js';
import { Fold } from '../protocol/fold.js';
import { javascriptKernel, type Kernel } from '../protocol/kernel.js';
import { CODECS, type Compression, type Run } from '../protocol/manifest.js';
import { Prng } from '../protocol/prng.js';
import { takeUpdate } from '../protocol/residual.js';
import { RowFormats } from '../protocol/row-format.js';
import { checkUpdate, createUpdate, updateToWire, type Update } from '../protocol/update.js';
import { webassemblyKernel } from '../protocol/wasm-kernel.js';
import * as wire from '../protocol/wire/messages.js';
import { adapterSize, testIdentity, testRun } from '../test/support/runs.js';

/** The embedded base; SmolLM2-135M with r = 8 and a 7 B model with r = 16, both on all linear layers. */
const COORDINATES = '290000,2440000,40000000';

/** Each figure is the median of at least so many repetitions, and of a second's. */
const REPETITIONS_MIN = 3;
const SECOND_MS = 1000;

const RANK = 8;
const FEATURES_MAX = 1 << 20;

/** A robust fold is measured up to here, and with so many peers: it takes much longer. */
const ROBUST_COORDINATES_MAX = 3e6;
const ROBUST_PEERS = 16;
const TRIM_FRACTION = 0.2;

/** Late updates: how old, in how large an adapter. */
const AGES = [1, 80, 10_000];
const LATE_COORDINATES = 290_000;
const LATE_PEERS = 8;

const kernels: readonly Kernel[] = [javascriptKernel, webassemblyKernel()].filter(
  (kernel) => kernel !== null,
);

/** How rows are averaged, and how many. */
interface Variant {
  mode: 'mean' | 'filtered' | 'robust';
  codec: Compression['codec'];
  peers: number;
}

function runOf(coordinates: number, { mode, codec, peers }: Variant): Run {
  return testRun((manifest) => {
    const modules = modulesOf(coordinates);
    const adapter = { ...manifest.adapter, rank: RANK, modules };
    const members = Array.from({ length: peers }, (_, i) => testIdentity(i).peerId).sort();
    return {
      ...manifest,
      adapter: { ...adapter, initialSha256: adapterSha256(initialAdapter(adapter)) },
      schedule: { ...manifest.schedule, epochsMax: 100_000 },
      compression: { codec },
      fold: { ...manifest.fold, mode, trimFraction: mode === 'robust' ? TRIM_FRACTION : 0 },
      // A robust fold needs an allowlist.
      membership: {
        mode: 'allowlist',
        members: members.map((peerId) => ({ peerId, weight: 1 })),
      },
    };
  });
}

/** Square layers, each two matrices of rank x features. */
function modulesOf(coordinates: number): Run['manifest']['adapter']['modules'] {
  const modules: Run['manifest']['adapter']['modules'][number][] = [];
  for (let left = Math.round(coordinates / (2 * RANK)); left > 0; left -= FEATURES_MAX) {
    const features = Math.min(left, FEATURES_MAX);
    const name: string = `layers.${modules.length}.up_proj`;
    modules.push({ name, inFeatures: features, outFeatures: features });
  }
  return modules;
}

/** CPU time of `work` in ms, so that other processes count little. */
function cpuMs(work: () => unknown): number {
  const start = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(start);
  return (user + system) / 1000;
}

/** Median of several times that `work` takes; `prepare` is not counted. */
function median<T>(prepare: () => T, work: (input: T) => unknown): number {
  const times: number[] = [];
  for (let sumMs = 0; times.length < REPETITIONS_MIN || sumMs < SECOND_MS;) {
    const input = prepare();
    const ms = cpuMs(() => work(input));
    times.push(ms);
    sumMs += ms;
  }
  return times.sort((a, b) => a - b)[times.length >> 1] ?? NaN;
}

const nothing = (): undefined => undefined;

/** Copies a vector of `coordinates` float64. */
function copyMs(coordinates: number): number {
  const from = new Float64Array(coordinates).fill(1);
  const to = new Float64Array(coordinates);
  return median(nothing, () => to.set(from));
}

/** A vector as training leaves it: coordinates of about 1e-3 of both signs. */
function deltaOf(coordinates: number, label: string): Float64Array {
  const random = new Prng(new Uint8Array(32), label);
  const delta = new Float64Array(coordinates);
  for (let i = 0; i < coordinates; i++) delta[i] = 2e-3 * random.nextFloat() - 1e-3;
  return delta;
}

function updateOf(run: Run, formats: RowFormats, author: number): Update {
  const residual = deltaOf(adapterSize(run), `author ${author}`);
  const quantised = takeUpdate(residual, formats.at(0));
  return createUpdate(run, testIdentity(author), {
    ...{ epoch: 0, baseEpoch: 0, steps: 8, logDigest: new Uint8Array(32) },
    ...quantised,
  });
}

/** Prints one line: each kernel's time, and its ratio to `copies` copies. */
function print(what: string, times: readonly number[], copy: number): void {
  const cells = times.map(
    (ms) => `${ms.toFixed(2).padStart(10)} ms ${(ms / copy).toFixed(1).padStart(6)} x`,
  );
  console.log(`  ${what.padEnd(32)} ${cells.join('  ')}   copy ${copy.toFixed(2)} ms`);
}

/** One author's work for its own update, what a receiver does with it before the fold, and theta after it. */
function measureCodec(run: Run, copy: number): void {
  const formats = new RowFormats(run);
  const format = formats.at(0);
  const size = adapterSize(run);
  const delta = deltaOf(size, 'delta');
  const encode = kernels.map((kernel) =>
    median(
      () => delta.slice(),
      (residual) => takeUpdate(residual, format, kernel),
    ),
  );
  print('encode (with error feedback)', encode, copy);
  const update = updateOf(run, formats, 0);
  const decode = kernels.map((kernel) =>
    median(nothing, () => kernel.decode(update, format, 0, delta)),
  );
  print('decode', decode, copy);
  const encoded = wire.Update.encode(updateToWire(update));
  const check = median(nothing, () => checkUpdate(run, formats, wire.Update.decode(encoded)));
  print(`check of ${encoded.length} bytes received`, [check], copy);
  const fold = new Fold(run);
  const theta = fold.theta();
  print('adapter from the sum', [median(nothing, () => fold.theta(theta))], copy);
}

function sourceOf(updates: readonly Update[]): FoldSource {
  const sorted = updates.toSorted((a, b) => (a.author < b.author ? -1 : 1));
  return {
    newestEpoch: Math.max(...updates.map(({ epoch }) => epoch)),
    inEpoch: (epoch) => sorted.filter((update) => update.epoch === epoch),
    // Each header is a whole update here.
    read: (header) => header as Update,
  };
}

/** One epoch of `peers` updates: norms and decoding of all rows included. */
function measureFold(run: Run, peers: number, copy: number): void {
  const formats = new RowFormats(run);
  const updates = Array.from({ length: peers }, (_, author) => updateOf(run, formats, author));
  const times = kernels.map((kernel) =>
    median(
      () => {
        const fold = new Fold(run, new EpochFold(run, formats, kernel));
        // The pages of its sum are there before the first epoch of any peer but a new one.
        const base = { epoch: 0, sum: new Float64Array(adapterSize(run)) };
        fold.rebase(base, { isSame: false });
        return fold;
      },
      (fold) => fold.compute(sourceOf(updates)),
    ),
  );
  print(`fold, ${run.manifest.fold.mode} of ${peers} peers`, times, copy * peers);
}

/** One update of an old epoch beside all updates of a new one. Most epochs hold one update: only their number counts. */
function measureLate(codec: Compression['codec']): void {
  const run = runOf(LATE_COORDINATES, { mode: 'mean', codec, peers: LATE_PEERS });
  const formats = new RowFormats(run);
  const bodies = Array.from({ length: LATE_PEERS }, (_, author) => updateOf(run, formats, author));
  const newest = Math.max(...AGES);
  const sizes = new Map(AGES.map((age) => [newest - age, LATE_PEERS - 1]));
  const sorted = bodies.toSorted((a, b) => (a.author < b.author ? -1 : 1));
  const source = {
    newestEpoch: newest - 1,
    inEpoch: (epoch: number) =>
      sorted
        .slice(0, sizes.get(epoch) ?? 1)
        .map((update) => ({ ...update, epoch, baseEpoch: epoch, id: `${update.id}/${epoch}` })),
    read: (header: object) => header as Update,
  };
  for (const kernel of kernels) {
    const fold = new Fold(run, new EpochFold(run, formats, kernel));
    for (const age of AGES) sizes.set(newest - age, LATE_PEERS - 1);
    source.newestEpoch = newest - 1;
    fold.compute(source);
    const normal: number[] = [];
    for (let i = 0; i < 15; i++) {
      source.newestEpoch += 1;
      sizes.set(source.newestEpoch, LATE_PEERS);
      normal.push(cpuMs(() => fold.compute(source)));
    }
    const epoch = normal.sort((a, b) => a - b)[normal.length >> 1] ?? NaN;
    const ratios = AGES.map((age) => {
      const times = Array.from({ length: 15 }, (_, i) => {
        // It comes, is taken out, comes again: the cost is the same.
        sizes.set(newest - age, LATE_PEERS - (i % 2));
        fold.invalidate(newest - age);
        return cpuMs(() => fold.compute(source));
      });
      const late = times.sort((a, b) => a - b)[times.length >> 1] ?? NaN;
      return `${(late / epoch).toFixed(2)} at age ${age}`;
    });
    console.log(
      `  ${kernel.name.padEnd(12)} one epoch ${epoch.toFixed(2)} ms: ${ratios.join(', ')}`,
    );
  }
}

const { values } = parseArgs({
  options: {
    coordinates: { type: 'string', default: COORDINATES },
    peers: { type: 'string', default: '8,32' },
    codec: { type: 'string', default: CODECS.join() },
  },
});
const peerCounts = values.peers.split(',').map(Number);
const codecs = CODECS.filter((codec) => values.codec.split(',').includes(codec));
console.log(kernels.map(({ name }) => name).join(' | '));
for (const coordinates of values.coordinates.split(',').map(Number))
  for (const codec of codecs) {
    const peers = Math.max(...peerCounts);
    const run = runOf(coordinates, { mode: 'mean', codec, peers });
    const filtered = runOf(coordinates, { mode: 'filtered', codec, peers });
    const size = adapterSize(run);
    const copy = copyMs(size);
    console.log(`${codec}, ${size} coordinates`);
    measureCodec(run, copy);
    for (const peers of peerCounts) {
      measureFold(run, peers, copy);
      measureFold(filtered, peers, copy);
    }
    if (size > ROBUST_COORDINATES_MAX) continue;
    const robust = runOf(coordinates, { mode: 'robust', codec, peers: ROBUST_PEERS });
    measureFold(robust, ROBUST_PEERS, copy);
  }
for (const codec of codecs) {
  console.log(
    `${codec}: one late update of ${LATE_PEERS} peers, in epochs (${LATE_COORDINATES} coordinates)`,
  );
  measureLate(codec);
}
