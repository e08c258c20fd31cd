/**
 * What a private step costs beside one without privacy, on the same tokens: the gradient of a batch, the gradients of
 * its records one by one in one graph and in as many runs, clipping and noise. CPU time on one thread, the best of some
 * rounds in turn.   npm run bench:private -- --model DIR --batch 8 --length 128
 */
import { parseArgs } from 'node:util';
import { openModelDirectory } from '../node/model/model-directory.js';
import { ortExecutor } from '../node/engine/ort.js';
import { openLanguageModel, type LanguageModel } from '../node/model/language-model.js';
import { loraModules } from '../node/model/lora.js';
import type { SingleBatch } from '../node/data/single-rows.js';
import { privateGradient } from '../node/train/private-gradient.js';
import { cryptographic } from '../node/train/randomness.js';
import { EMBEDDED_MODEL_DIRECTORY } from '../node/version.js';
import { initialAdapter } from '../protocol/adapter.js';
import { Prng } from '../protocol/prng.js';

const { values } = parseArgs({
  options: {
    model: { type: 'string', default: EMBEDDED_MODEL_DIRECTORY },
    batch: { type: 'string', default: '8' },
    length: { type: 'string', default: '128' },
    rank: { type: 'string', default: '8' },
    rounds: { type: 'string', default: '7' },
  },
});
const [B, T, rank, rounds] = [values.batch, values.length, values.rank, values.rounds].map(
  Number,
) as [number, number, number, number];

const seed = new Uint8Array(32);
const { config, weights } = await openModelDirectory(values.model);
const adapter = {
  rank,
  alpha: 2 * rank,
  seed,
  targetModules: [],
  modules: loraModules(config, ['all-linear']),
};
const theta = initialAdapter(adapter);
const never = new AbortController().signal;

/** `rows` records that fill their rows. */
function batchOf(rows: number): SingleBatch {
  const random = new Prng(seed, 'tokens');
  const tokens = Int32Array.from({ length: rows * T }, () => random.nextBelow(config.vocabSize));
  const targets = tokens.map((_, i) => tokens[(i + 1) % tokens.length] ?? 0);
  const segments = new Int32Array(rows * T).fill(1);
  const counts = { trainedTokens: rows * T, inputTokens: rows * T };
  return { tokens, targets, segments, ...counts, rowTargets: new Array<number>(rows).fill(T) };
}

function open(rows: number): Promise<LanguageModel> {
  return openLanguageModel({
    ...{ config, weights, adapter, batchSize: B, sequenceLength: T },
    executor: ortExecutor({ threads: 1 }),
    examples: { batchSize: rows, sequenceLength: T },
  });
}

/** A step of B records, `rows` at a time, noise included. */
function privateStep(model: LanguageModel, rows: number): () => Promise<unknown> {
  const random = { ...cryptographic, sample: () => Array.from({ length: B }, (_, i) => i) };
  const records = {
    count: B,
    batch: (part: readonly number[]) => batchOf(Math.max(rows, part.length)),
  };
  const settings = { noise: 1, clip: 1, batchSize: B, sampleRate: 0.5 };
  const shape = { batchSize: rows, sequenceLength: T };
  return () => privateGradient({ model, shape, records, settings, random }, theta, never);
}

async function cpuMs(work: () => Promise<unknown>): Promise<number> {
  const before = process.cpuUsage();
  await work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}

const model = await open(B);
const oneByOne = await open(1);
const batch = batchOf(B);
const noise = new Float64Array(theta.length);
const cases: [name: string, work: () => Promise<unknown>][] = [
  ['gradient of the batch, without privacy', () => model.gradient(batch, theta)],
  ['gradients of the records, in one graph', () => model.exampleGradients(batch, theta)],
  ['a private step, in one graph', privateStep(model, B)],
  ['a private step, one record at a time', privateStep(oneByOne, 1)],
  ['noise alone', async () => cryptographic.addGaussians(noise, 1)],
];
const best = cases.map(() => Infinity);
for (let round = 0; round <= rounds; round++) {
  for (const [i, [, work]] of cases.entries()) {
    const ms = await cpuMs(work);
    // The first round compiles.
    if (round > 0) best[i] = Math.min(best[i] ?? Infinity, ms);
  }
}
process.stdout.write(
  `${values.model}, ${B} x ${T} tokens, LoRA r = ${rank} on all linear layers, one thread\n`,
);
for (const [i, [name]] of cases.entries()) {
  const ratio = (best[i] ?? NaN) / (best[0] ?? NaN);
  process.stdout.write(`${name}: ${best[i]?.toFixed(0)} ms, ${ratio.toFixed(2)} of the first\n`);
}
process.exit(0);
