/**
 * One part of bench/gpu: train steps on one device, in one format of the frozen weights. Its one argument is a StepJob as
 * JSON; its last line of output is a StepResult as JSON.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import type { Device } from '../../node/engine/devices.js';
import { openExecutor } from '../../node/engine/open-executor.js';
import { openLanguageModel } from '../../node/model/language-model.js';
import { loraModules } from '../../node/model/lora.js';
import { openModelDirectory } from '../../node/model/model-directory.js';
import { openPackedWeights } from '../../node/model/packed/open.js';
import type { WeightFormat } from '../../node/model/weight-format.js';
import {
  adamWStep,
  clipGradientNorm,
  l2Norm,
  newOptimiserState,
} from '../../node/train/optimiser.js';
import { initialAdapter } from '../../protocol/adapter.js';
import { Prng } from '../../protocol/prng.js';

export interface StepJob {
  readonly model: string;
  readonly device: Device;
  readonly format: WeightFormat;
  readonly batch: number;
  readonly length: number;
  readonly rank: number;
  readonly threads: number;
  /** Steps are taken until so much time is over, at least one after a first one that compiles. */
  readonly ms: number;
  readonly cacheDir: string;
  /** The first gradient is compared with the one in this file; written there where there is none. */
  readonly gradientFile: string | null;
}

export interface StepResult {
  readonly tokensPerSecond: number;
  readonly stepMs: number;
  readonly steps: number;
  /** From the start of the process to the end of the first step. */
  readonly firstMs: number;
  /** Of the first step. */
  readonly loss: number;
  /** Distance of the first gradient from that of the file, relative in norm; null for the first one of its kind. */
  readonly gradientError: number | null;
  /** Resident memory of the process, at most. */
  readonly processMb: number;
}

const STEPS_MAX = 20;

function distanceFrom(file: string | null, gradient: Float32Array): number | null {
  if (file === null) return null;
  if (!existsSync(file)) {
    const { buffer, byteOffset, byteLength } = gradient;
    writeFileSync(file, new Uint8Array(buffer, byteOffset, byteLength));
    return null;
  }
  const expected = new Float32Array(Uint8Array.from(readFileSync(file)).buffer);
  if (expected.length !== gradient.length) throw new Error(`${file} is of another adapter`);
  return l2Norm(gradient.map((value, i) => value - (expected[i] ?? NaN))) / l2Norm(expected);
}

async function measure(job: StepJob): Promise<StepResult> {
  const directory = await openModelDirectory(job.model);
  const { config } = directory;
  const { format, cacheDir } = job;
  const weights = await openPackedWeights({ directory, format, cacheDir });
  const seed = new Uint8Array(32);
  const modules = loraModules(config, ['all-linear']);
  const adapter = { rank: job.rank, alpha: 16, seed, targetModules: ['all-linear'], modules };
  const model = await openLanguageModel({
    ...{ config, weights, adapter, batchSize: job.batch, sequenceLength: job.length },
    executor: await openExecutor(job),
    ...{ memory: 'low', weightFormat: format },
  });
  const random = new Prng(seed, 'bench/gpu');
  const count = job.batch * job.length;
  const integers = (): Int32Array =>
    Int32Array.from({ length: count }, () => random.nextBelow(config.vocabSize));
  const batch = { tokens: integers(), targets: integers(), segments: new Int32Array(count) };
  const theta = initialAdapter(adapter);
  const optimiser = newOptimiserState(theta.length);
  const settings = { learningRate: 1e-4, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0 };
  const step = async (): Promise<{ loss: number; gradient: Float32Array }> => {
    const { loss, gradient } = await model.gradient(batch, theta);
    return { loss, gradient };
  };
  const first = await step();
  const firstMs = performance.now();
  const gradientError = distanceFrom(job.gradientFile, first.gradient);
  const times: number[] = [];
  const begun = performance.now();
  while (times.length < STEPS_MAX && (times.length === 0 || performance.now() - begun < job.ms)) {
    const start = performance.now();
    const { gradient } = await step();
    clipGradientNorm(gradient, 1);
    adamWStep(theta, gradient, optimiser, settings);
    times.push(performance.now() - start);
  }
  await model.dispose();
  const stepMs = times.sort((a, b) => a - b)[Math.floor(times.length / 2)] ?? NaN;
  return {
    ...{ tokensPerSecond: (1000 * count) / stepMs, stepMs, steps: times.length, firstMs },
    ...{ loss: first.loss, gradientError },
    processMb: process.resourceUsage().maxRSS / 1024,
  };
}

console.log(JSON.stringify(await measure(JSON.parse(process.argv[2] ?? '') as StepJob)));
process.exit();
