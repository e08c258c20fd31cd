/**
 * Our side of bench/engine: see protocol.ts. Its one argument is the workload as JSON. The batch goes through
 * the model as a peer with so much memory free would have it.
 */
import { createInterface } from 'node:readline';
import { graphMemory } from '../../node/engine/memory.js';
import { ortExecutor } from '../../node/engine/ort.js';
import { openLanguageModel, type LanguageModel } from '../../node/model/language-model.js';
import { loraModules } from '../../node/model/lora.js';
import { openModelDirectory } from '../../node/model/model-directory.js';
import { IGNORED_TARGET } from '../../node/model/token-batch.js';
import { accumulatedGradient, fastestWays } from '../../node/train/accumulate.js';
import { freeMemory } from '../../node/train/free-memory.js';
import type { GraphShape } from '../../node/train/memory-plan.js';
import { planMemory } from '../../node/train/memory.js';
import { adamWStep, clipGradientNorm, newOptimiserState } from '../../node/train/optimiser.js';
import { isHalf } from '../../node/train/weight-formats.js';
import { adapterLayout, initialAdapter } from '../../protocol/adapter.js';
import { Prng } from '../../protocol/prng.js';
import { openWeights, parseFormats } from '../open-weights.js';
import type { Workload } from './protocol.js';

const workload = JSON.parse(process.argv[2] ?? '') as Workload;
const { batch, length, rank, threads } = workload;
const seed = new Uint8Array(32);
const random = new Prng(seed, 'bench/engine');
const directory = await openModelDirectory(workload.model);
const modules = loraModules(directory.config, ['all-linear']);
const adapter = { rank, alpha: 2 * rank, seed, targetModules: ['all-linear'], modules };
const [format = 'fp32'] = parseFormats('the format', workload.precision);
const opened = await openWeights(directory, format);
const open = ({ microBatch, memory }: GraphShape): Promise<LanguageModel> =>
  openLanguageModel({
    ...{ config: directory.config, adapter, batchSize: microBatch, memory },
    ...{ ...opened, sequenceLength: length, executor: ortExecutor({ threads }) },
  });
const plan = await planMemory(
  {
    ...{ batchSize: batch, sequenceLength: length, adapterSize: adapterLayout(adapter).size },
    ...fastestWays(batch, length, threads),
    ...{ formats: [format], isHalf: isHalf(directory.weights) },
    graphs: async (shape) => [graphMemory((await open(shape)).program('gradient'))],
  },
  { most: 'auto', memory: 'auto', weights: format },
  { processBytes: process.memoryUsage.rss(), free: freeMemory(), refuse: false },
);
const model = await open(plan);
model.replicas = plan.replicas;
await model.compile('gradient');
const theta = initialAdapter(adapter);
const optimiser = newOptimiserState(theta.length);
const tokens = Int32Array.from({ length: batch * length }, () =>
  random.nextBelow(directory.config.vocabSize),
);
const targets = tokens.map((_, i) =>
  (i + 1) % length === 0 ? IGNORED_TARGET : (tokens[i + 1] ?? IGNORED_TARGET),
);
const segments = new Int32Array(tokens.length);
const never = new AbortController().signal;
const settings = { learningRate: 1e-4, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.01 };

async function step(): Promise<number> {
  const whole = { tokens, targets, segments };
  const { loss, gradient } = await accumulatedGradient(model, whole, theta, never);
  clipGradientNorm(gradient, 1);
  adamWStep(theta, gradient, optimiser, settings);
  return loss;
}

for await (const line of createInterface({ input: process.stdin })) {
  const { steps } = JSON.parse(line) as { steps: number };
  const start = performance.now();
  const before = process.cpuUsage();
  let loss = NaN;
  for (let i = 0; i < steps; i++) loss = await step();
  const { user, system } = process.cpuUsage(before);
  const turn = { ms: performance.now() - start, cpuMs: (user + system) / 1000, loss };
  process.stdout.write(`${JSON.stringify(turn)}\n`);
}
await model.dispose();
