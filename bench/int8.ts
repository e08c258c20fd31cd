/**
 * What 8-bit weights change in training: the error of the first gradient, and the loss of each step beside fp32's on the same batches.
 * AdamW, LoRA r = 8 on all linear layers, one thread.
 *   npm run bench:int8 -- TEXT... [--model DIR] [--batch 8] [--length 128] [--steps 200] [--learning-rate 4e-3]
 */
import { parseArgs } from 'node:util';
import cliProgress from 'cli-progress';
import { openDataset } from '../node/data/dataset.js';
import { openTokenizer } from '../node/data/tokenizer.js';
import { ortExecutor } from '../node/engine/ort.js';
import { openLanguageModel, type LanguageModel } from '../node/model/language-model.js';
import { loraModules } from '../node/model/lora.js';
import { openModelDirectory } from '../node/model/model-directory.js';
import { PRECISIONS, type Precision } from '../node/model/precision.js';
import { adamWStep, clipGradientNorm, newOptimiserState } from '../node/train/optimiser.js';
import { EMBEDDED_MODEL_DIRECTORY } from '../node/version.js';
import { initialAdapter } from '../protocol/adapter.js';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    model: { type: 'string', default: EMBEDDED_MODEL_DIRECTORY },
    batch: { type: 'string', default: '8' },
    length: { type: 'string', default: '128' },
    steps: { type: 'string', default: '200' },
    'learning-rate': { type: 'string', default: '4e-3' },
  },
});
const [batchSize, sequenceLength, steps, learningRate] = [
  values.batch,
  values.length,
  values.steps,
  values['learning-rate'],
].map(Number) as [number, number, number, number];

const RANK = 8;
const seed = new Uint8Array(32);
const { dir, config, weights } = await openModelDirectory(values.model);
const adapter = {
  rank: RANK,
  alpha: 2 * RANK,
  seed,
  targetModules: ['all-linear'],
  modules: loraModules(config, ['all-linear']),
};
const { training } = await openDataset(positionals, {
  tokenizer: await openTokenizer(dir, config),
  chatTemplate: null,
  sequenceLength,
  heldOutShare: 0,
  seed,
});

function open(precision: Precision): Promise<LanguageModel> {
  return openLanguageModel({
    ...{ config, weights, adapter, batchSize, sequenceLength, precision },
    executor: ortExecutor({ threads: 1 }),
    compile: ['gradient'],
  });
}

interface Curve {
  firstGradient: Float32Array;
  losses: number[];
  ms: number;
}

async function train(precision: Precision): Promise<Curve> {
  const model = await open(precision);
  const theta = initialAdapter(adapter);
  const optimiser = newOptimiserState(theta.length);
  const settings = { learningRate, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0 };
  const losses: number[] = [];
  let firstGradient = new Float32Array();
  const bar = new cliProgress.SingleBar({ format: `${precision} {bar} {value}/{total}` });
  bar.start(steps, 0);
  const begin = performance.now();
  for (let step = 0; step < steps; step++) {
    const { loss, gradient } = await model.gradient(training.batch(step, batchSize), theta);
    if (step === 0) firstGradient = gradient.slice();
    losses.push(loss);
    clipGradientNorm(gradient, 1);
    adamWStep(theta, gradient, optimiser, settings);
    bar.update(step + 1);
  }
  const ms = performance.now() - begin;
  bar.stop();
  await model.dispose();
  return { firstGradient, losses, ms };
}

/** |a - b| / |b|, L2. */
function relativeError(a: Float32Array, b: Float32Array): number {
  const norm = (of: (i: number) => number): number =>
    Math.sqrt(b.reduce((sum, _, i) => sum + of(i) ** 2, 0));
  return norm((i) => (a[i] ?? NaN) - (b[i] ?? NaN)) / norm((i) => b[i] ?? NaN);
}

const percent = (x: number): string => `${(100 * x).toFixed(2)} %`;
const mean = (xs: readonly number[]): number => xs.reduce((sum, x) => sum + x, 0) / xs.length;

const [fp32, int8] = [await train(PRECISIONS[0]), await train(PRECISIONS[1])];
const deviations = int8.losses.map((loss, i) => loss / (fp32.losses[i] ?? NaN) - 1);
console.log(
  `${dir}, ${steps} steps of ${batchSize} x ${sequenceLength}, learning rate ${learningRate}`,
);
console.log(
  `loss of the first and the last ten steps: ${mean(fp32.losses.slice(0, 10)).toFixed(4)}, ${mean(fp32.losses.slice(-10)).toFixed(4)}`,
);
console.log(
  `first gradient off by                     ${relativeError(int8.firstGradient, fp32.firstGradient).toFixed(3)}`,
);
console.log(`average deviation of a step's loss        ${percent(mean(deviations.map(Math.abs)))}`);
console.log(`with its sign                             ${percent(mean(deviations))}`);
const magnitudes = deviations.map(Math.abs);
const worst = magnitudes.indexOf(Math.max(...magnitudes));
const inWorst = ({ losses }: Curve): string => (losses[worst] ?? NaN).toFixed(4);
console.log(
  `largest                                   ${percent(Math.max(...magnitudes))}, step ${worst + 1}: ${inWorst(int8)} instead of ${inWorst(fp32)}`,
);
console.log(`time of a step against fp32's             ${(int8.ms / fp32.ms).toFixed(2)}`);
