/**
 * What the codec and the fold cost on one core, beside a plain copy of the same bytes: one float64 a coordinate,
 * for each author where it says fold.   npm run bench:protocol -- --coordinates 290000,2440000,4200000
 */
import { parseArgs } from 'node:util';
import { adapterSha256, initialAdapter } from '../protocol/adapter.js';
import { EpochFold } from '../protocol/epoch-fold.js';
import { Fold } from '../protocol/fold.js';
import { UpdateLog } from '../protocol/log.js';
import type { Run } from '../protocol/manifest.js';
import { Prng } from '../protocol/prng.js';
import { dequantise } from '../protocol/quantise.js';
import { takeSlice } from '../protocol/residual.js';
import { Slicer } from '../protocol/slice.js';
import { checkUpdate, createUpdate, updateToWire, type Update } from '../protocol/update.js';
import * as wire from '../protocol/wire/messages.js';
import { adapterSize, testIdentity, testRun } from '../test/support/runs.js';

/** The embedded base, SmolLM2-135M with r = 8 on all linear layers, and one about twice as large. */
const COORDINATES = '290000,2440000,4200000';

/** Each figure is the median of at least so many repetitions, and of a second's. */
const REPETITIONS_MIN = 5;
const SECOND_MS = 1000;

const RANK = 8;

/** Of 16 rows it bears 3 that lie. */
const TRIM_FRACTION = 0.2;

/** A robust fold needs an allowlist. */
const MEMBERS = Array.from({ length: 16 }, (_, i) => testIdentity(i).peerId)
  .sort()
  .map((peerId) => ({ peerId, weight: 1 }));

/** 1 bit or 4, and how rows are averaged. */
interface Variant {
  bits: 1 | 4;
  mode: 'mean' | 'robust';
}

function runOf(coordinates: number, { bits, mode }: Variant): Run {
  return testRun((manifest) => {
    // Two matrices of rank x features.
    const features = Math.round(coordinates / (2 * RANK));
    const modules = [{ name: 'layers.0.up_proj', inFeatures: features, outFeatures: features }];
    const adapter = { ...manifest.adapter, rank: RANK, modules };
    return {
      ...manifest,
      adapter: { ...adapter, initialSha256: adapterSha256(initialAdapter(adapter)) },
      compression: { ...manifest.compression, phases: [{ fromEpoch: 0, slices: 1, bits }] },
      fold: { ...manifest.fold, mode, trimFraction: mode === 'robust' ? TRIM_FRACTION : 0 },
      membership: { mode: 'allowlist', members: MEMBERS },
    };
  });
}

/** Median CPU time of `work` in ms, so that other processes count little; `prepare` is not counted. */
function median<T>(prepare: () => T, work: (input: T) => unknown): number {
  const times: number[] = [];
  for (let sumMs = 0; times.length < REPETITIONS_MIN || sumMs < SECOND_MS;) {
    const input = prepare();
    const start = process.cpuUsage();
    work(input);
    const { user, system } = process.cpuUsage(start);
    const ms = (user + system) / 1000;
    times.push(ms);
    sumMs += ms;
  }
  return times.sort((a, b) => a - b)[times.length >> 1] ?? NaN;
}

/** Copies `count` vectors of `coordinates` float64 one after another. */
function copyMs(coordinates: number, count: number): number {
  const from = new Float64Array(coordinates).fill(1);
  const to = new Float64Array(coordinates);
  return median(
    () => undefined,
    () => {
      for (let i = 0; i < count; i++) to.set(from);
    },
  );
}

/** A vector as training leaves it: coordinates of about 1e-3 of both signs. */
function deltaOf(coordinates: number, label: string): Float64Array {
  const random = new Prng(new Uint8Array(32), label);
  return Float64Array.from({ length: coordinates }, () => 2e-3 * random.nextFloat() - 1e-3);
}

function updateOf(run: Run, slicer: Slicer, author: number): Update {
  const residual = deltaOf(adapterSize(run), `author ${author}`);
  const quantised = takeSlice(residual, slicer.slice(0), new Prng(new Uint8Array(32), 'rounding'));
  return createUpdate(run, testIdentity(author), {
    ...{ epoch: 0, baseEpoch: 0, steps: 8, logDigest: new Uint8Array(32) },
    ...quantised,
  });
}

function print(what: string, ms: number, coordinates: number, copy: number): void {
  const perCoordinate = ((ms / coordinates) * 1e6).toFixed(2).padStart(6);
  console.log(
    `  ${what.padEnd(34)} ${ms.toFixed(1).padStart(9)} ms  ${perCoordinate} ns/coordinate  ` +
      `${(ms / copy).toFixed(1).padStart(6)} x copy (${copy.toFixed(2)} ms)`,
  );
}

/** One author's work for its own update, and what a receiver does with it before the fold. */
function measureCodec(run: Run): void {
  const slicer = new Slicer(run);
  const slice = slicer.slice(0);
  const size = adapterSize(run);
  const copy = copyMs(size, 1);
  const delta = deltaOf(size, 'delta');
  const random = new Prng(new Uint8Array(32), 'rounding');
  const encode = median(
    () => delta.slice(),
    (residual) => takeSlice(residual, slice, random),
  );
  print('encode (with error feedback)', encode, size, copy);
  const update = updateOf(run, slicer, 0);
  const row = new Float64Array(size);
  const decode = median(
    () => undefined,
    () => dequantise(update, slice, row),
  );
  print('decode', decode, size, copy);
  const encoded = wire.Update.encode(updateToWire(update));
  const check = median(
    () => undefined,
    () => checkUpdate(run, slicer, wire.Update.decode(encoded)),
  );
  print(`check of ${encoded.length} bytes received`, check, size, copy);
}

/** The fold of one epoch of `authors` updates: norms and decoding of all rows included. */
function measureFold(run: Run, authors: number): void {
  const slicer = new Slicer(run);
  const size = adapterSize(run);
  const updates = Array.from({ length: authors }, (_, author) => updateOf(run, slicer, author));
  const base = { epoch: 0, sum: new Float64Array(size) };
  const prepare = (): { fold: Fold; log: UpdateLog } => {
    const log = new UpdateLog();
    // Copies, because the norm of an update that was folded before is known.
    for (const update of updates) log.insert({ ...update });
    return { fold: new Fold(run, new EpochFold(run, slicer), base), log };
  };
  const ms = median(prepare, ({ fold, log }) => fold.compute(log));
  const { mode } = run.manifest.fold;
  print(`fold, ${mode} of ${authors} authors`, ms, size * authors, copyMs(size, authors));
}

const { values } = parseArgs({
  options: { coordinates: { type: 'string', default: COORDINATES } },
});
for (const coordinates of values.coordinates.split(',').map(Number)) {
  for (const bits of [1, 4] as const) {
    const mean = runOf(coordinates, { bits, mode: 'mean' });
    console.log(`${adapterSize(mean)} coordinates, ${bits} bit${bits === 1 ? '' : 's'}`);
    measureCodec(mean);
    for (const authors of [4, 16]) measureFold(mean, authors);
    measureFold(runOf(coordinates, { bits, mode: 'robust' }), 16);
  }
}
