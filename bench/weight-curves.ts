/** What the format of the frozen weights changes in training: the first gradient, and the loss of each step. */
import cliProgress from 'cli-progress';
import Table from 'cli-table3';
import { openDataset } from '../node/data/dataset.js';
import { openTokenizer } from '../node/data/tokenizer.js';
import { ortExecutor } from '../node/engine/ort.js';
import { openLanguageModel, type LanguageModel } from '../node/model/language-model.js';
import { loraModules } from '../node/model/lora.js';
import { openModelDirectory } from '../node/model/model-directory.js';
import type { WeightFormat } from '../node/model/weight-format.js';
import type { OptimiserState } from '../node/interfaces.js';
import { adamWStep, clipGradientNorm, newOptimiserState } from '../node/train/optimiser.js';
import { initialAdapter, type AdapterSpec } from '../protocol/adapter.js';
import { openWeights } from './open-weights.js';

export interface CurveOptions {
  modelDir: string;
  files: readonly string[];
  /** All but fp32, which comes first. */
  formats: readonly WeightFormat[];
  batchSize: number;
  sequenceLength: number;
  steps: number;
  learningRate: number;
  seed: Uint8Array;
}

interface Curve {
  format: WeightFormat;
  model: LanguageModel;
  theta: Float32Array;
  optimiser: OptimiserState;
  firstGradient: Float32Array;
  losses: number[];
  cpuMs: number;
}

const RANK = 8;
/** Steps at the end whose mean loss is compared. */
const LAST = 20;

async function openCurve(
  options: CurveOptions,
  adapter: AdapterSpec,
  format: WeightFormat,
): Promise<Curve> {
  const { batchSize, sequenceLength } = options;
  const directory = await openModelDirectory(options.modelDir);
  const model = await openLanguageModel({
    ...{ config: directory.config, adapter, batchSize, sequenceLength },
    ...(await openWeights(directory, format)),
    executor: ortExecutor({ threads: 1 }),
    compile: ['gradient'],
  });
  const theta = initialAdapter(adapter);
  const optimiser = newOptimiserState(theta.length);
  const empty = { firstGradient: new Float32Array(), losses: [], cpuMs: 0 };
  return { format, model, theta, optimiser, ...empty };
}

/** Trains one adapter for each format on the same batches, step by step in turn, and prints a table. */
export async function compareCurves(options: CurveOptions): Promise<void> {
  const { formats, batchSize, steps, learningRate, seed } = options;
  const { dir, config } = await openModelDirectory(options.modelDir);
  const modules = loraModules(config, ['all-linear']);
  const adapter = { rank: RANK, alpha: 2 * RANK, seed, targetModules: ['all-linear'], modules };
  const { training } = await openDataset(options.files, {
    tokenizer: await openTokenizer(dir, config),
    chatTemplate: null,
    sequenceLength: options.sequenceLength,
    heldOutShare: 0,
    seed,
  });
  const curves: Curve[] = [];
  for (const format of ['fp32', ...formats] as const) {
    curves.push(await openCurve(options, adapter, format));
  }
  const settings = { learningRate, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0 };
  const bar = new cliProgress.SingleBar({
    format: 'step {value} of {total} {bar} {eta_formatted}',
  });
  bar.start(steps, 0);
  for (let step = 0; step < steps; step++) {
    const batch = training.batch(step, batchSize);
    for (const curve of curves) {
      const before = process.cpuUsage();
      const { loss, gradient } = await curve.model.gradient(batch, curve.theta);
      const { user, system } = process.cpuUsage(before);
      // The first step fills the memory pools.
      if (step > 0) curve.cpuMs += (user + system) / 1000;
      if (step === 0) curve.firstGradient = gradient.slice();
      curve.losses.push(loss);
      clipGradientNorm(gradient, 1);
      adamWStep(curve.theta, gradient, curve.optimiser, settings);
    }
    bar.update(step + 1);
  }
  bar.stop();
  for (const { model } of curves) await model.dispose();
  console.log(
    `${dir}, ${steps} steps of ${batchSize} x ${options.sequenceLength}, learning rate ${learningRate}, LoRA r = ${RANK} on all linear layers`,
  );
  console.log(tableOf(curves));
}

function tableOf([reference, ...others]: readonly Curve[]): string {
  if (reference === undefined) throw new TypeError('there is no curve');
  const table = new Table({
    head: [
      ...['weights', 'first gradient off by', 'deviation of a step', 'with sign', 'largest'],
      ...['first loss', `last ${LAST}`, 'gap', 'CPU ms a step', 'ratio'],
    ],
    style: { head: [], border: [] },
  });
  const stepMs = ({ cpuMs, losses }: Curve): number => cpuMs / Math.max(1, losses.length - 1);
  const end = ({ losses }: Curve): number => mean(losses.slice(-LAST));
  for (const curve of [reference, ...others]) {
    const deviations = curve.losses.map((loss, i) => loss / (reference.losses[i] ?? NaN) - 1);
    const sizes = deviations.map(Math.abs);
    table.push([
      curve.format,
      relativeError(curve.firstGradient, reference.firstGradient).toExponential(2),
      percent(mean(sizes)),
      percent(mean(deviations)),
      percent(Math.max(...sizes)),
      (curve.losses[0] ?? NaN).toFixed(5),
      end(curve).toFixed(5),
      (end(curve) - end(reference)).toFixed(5),
      stepMs(curve).toFixed(0),
      (stepMs(curve) / stepMs(reference)).toFixed(2),
    ]);
  }
  return table.toString();
}

/** |a - b| / |b|, L2. */
function relativeError(a: Float32Array, b: Float32Array): number {
  const norm = (of: (i: number) => number): number =>
    Math.sqrt(b.reduce((sum, _, i) => sum + of(i) ** 2, 0));
  return norm((i) => (a[i] ?? NaN) - (b[i] ?? NaN)) / norm((i) => b[i] ?? NaN);
}

const percent = (x: number): string => `${(100 * x).toFixed(3)} %`;
const mean = (xs: readonly number[]): number => xs.reduce((sum, x) => sum + x, 0) / xs.length;
