/** Runs one directory made by make_fixtures.py and measures how far the engine is from PyTorch + PEFT. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Executor } from '../../node/engine/executor.js';
import { readModelConfig } from '../../node/model/config.js';
import { openLanguageModel, type LanguageModel } from '../../node/model/language-model.js';
import type { ModelToOpen } from '../../node/model/load.js';
import { openNextTokenModel, type NextTokenModel } from '../../node/model/next-token-model.js';
import { IGNORED_TARGET, type TokenBatch } from '../../node/model/token-batch.js';
import { loraModules } from '../../node/model/lora.js';
import { readPeftAdapter } from '../../node/model/peft.js';
import { readSafetensorsHeader, readTensorF32 } from '../../node/model/safetensors.js';
import { openWeights } from '../../node/model/weight-index.js';
import { adamWStep, l2Norm, newOptimiserState } from '../../node/train/optimiser.js';
import { adapterLayout, type AdapterLayout } from '../../protocol/adapter.js';

/** What is compared, and the largest difference that passes. */
export const BOUNDS = {
  'logits, absolute': 2e-4,
  'loss, relative': 1e-4,
  'each adapter gradient, relative in norm': 2e-3,
  'losses of ten AdamW steps, relative': 1e-4,
  // Of what training changed, not of the adapter, most of which is where it was.
  'movement of the final adapter, relative in norm': 1e-3,
} as const;
export type Measure = keyof typeof BOUNDS;
export const MEASURES = Object.keys(BOUNDS) as Measure[];

/** Largest difference of each kind. */
export type Differences = Record<Measure, number>;

interface CaseFile {
  batch: number;
  length: number;
  loss: number;
  losses: number[];
  rank: number;
  alpha: number;
  target_modules: string[];
  adamw: { lr: number; beta1: number; beta2: number; eps: number; weight_decay: number };
}

type Tensors = ReadonlyMap<string, Float32Array | Int32Array>;

/** A case with its models, which whoever opens it must dispose. */
export interface OpenCase {
  file: CaseFile;
  tensors: Tensors;
  layout: AdapterLayout;
  theta: Float32Array;
  /** What is trained, and what writes text. */
  model: LanguageModel;
  reader: NextTokenModel;
  batch: TokenBatch;
}

/** Throws UserError for a model or adapter that cannot be read, and when a tensor is missing. */
export async function compareWithReference(dir: string, executor: Executor): Promise<Differences> {
  const opened = await openCase(dir, executor);
  try {
    return {
      'logits, absolute': await logitsDifference(opened),
      'loss, relative': await lossDifference(opened),
      'each adapter gradient, relative in norm': await gradientDifference(opened),
      ...(await trainingDifference(opened)),
    };
  } finally {
    await opened.model.dispose();
    await opened.reader.dispose();
  }
}

/** `given`: weights instead of the base's own. Throws UserError for a model or adapter that cannot be read. */
export async function openCase(
  dir: string,
  executor: Executor,
  given?: Pick<ModelToOpen, 'weights' | 'weightFormat'>,
): Promise<OpenCase> {
  const file = JSON.parse(await readFile(join(dir, 'case.json'), 'utf8')) as CaseFile;
  const configPath = join(dir, 'base', 'config.json');
  const config = readModelConfig(await readFile(configPath), configPath);
  const modules = loraModules(config, file.target_modules);
  const adapter = { rank: file.rank, alpha: file.alpha, modules };
  const { theta } = await readPeftAdapter(join(dir, 'adapter'), adapter);
  const tensors = await readTensors(join(dir, 'reference.safetensors'));
  const frozen = given ?? { weights: await openWeights(join(dir, 'base')) };
  const toOpen = { config, adapter, executor, ...frozen };
  const shape = { batchSize: file.batch, sequenceLength: file.length };
  const model = await openLanguageModel({ ...toOpen, ...shape });
  const reader = await openNextTokenModel({ ...toOpen, theta, capacity: file.length, chunk: 1 });
  const [tokens, labels] = [integers(tensors, 'input_ids'), integers(tensors, 'labels')];
  const targets = labels.map((_, i) =>
    (i + 1) % file.length === 0 ? IGNORED_TARGET : labels[i + 1]!,
  );
  const batch = { tokens, targets, segments: new Int32Array(tokens.length) };
  return { file, tensors, layout: adapterLayout(adapter), theta, model, reader, batch };
}

/** Tensors of a safetensors file by name, integers included. */
export async function readTensors(file: string): Promise<Tensors> {
  const tensors = new Map<string, Float32Array | Int32Array>();
  const bytes = await readFile(file);
  for (const entry of (await readSafetensorsHeader(file)).tensors) {
    if (entry.dtype === 'I64') {
      const count = entry.length / 8;
      const read = (_: unknown, i: number): number =>
        Number(bytes.readBigInt64LE(entry.offset + 8 * i));
      tensors.set(entry.name, Int32Array.from({ length: count }, read));
    } else tensors.set(entry.name, await readTensorF32(entry));
  }
  return tensors;
}

export function integers(tensors: Tensors, name: string): Int32Array {
  const tensor = tensors.get(name);
  if (tensor instanceof Int32Array) return tensor;
  throw new Error(`the reference has no integers called ${name}`);
}

/** The flat adapter of tensors called `prefix` + PEFT's name. */
export function flatten(
  { layout, tensors }: Pick<OpenCase, 'layout' | 'tensors'>,
  prefix: string,
): Float32Array {
  const theta = new Float32Array(layout.size);
  for (const { name, offset, length } of layout.tensors) {
    const tensor = tensors.get(prefix + name);
    if (tensor?.length !== length) throw new Error(`the reference has no ${prefix}${name}`);
    theta.set(tensor, offset);
  }
  return theta;
}

/** Each sequence read token by token. */
export async function logitsDifference({
  file,
  tensors,
  reader,
  batch,
}: Pick<OpenCase, 'tensors' | 'reader'> & {
  file: Pick<CaseFile, 'length'>;
  batch: Pick<TokenBatch, 'tokens'>;
}): Promise<number> {
  const expected = tensors.get('logits');
  if (expected?.length !== batch.tokens.length * reader.config.vocabSize) {
    throw new Error('the reference has no logits [B, T, V]');
  }
  let worst = 0;
  for (const [row, token] of batch.tokens.entries()) {
    if (row % file.length === 0) reader.forget();
    const logits = await reader.read([token]);
    for (const [i, logit] of logits.entries()) {
      worst = largest(worst, Math.abs(logit - expected[row * logits.length + i]!));
    }
  }
  return worst;
}

/** With and without gradient. */
async function lossDifference({ file, model, batch, theta }: OpenCase): Promise<number> {
  const forward = await model.loss(batch, theta);
  const backward = await model.gradient(batch, theta);
  return [forward, backward].reduce(
    (worst, { loss }) => largest(worst, Math.abs(loss / file.loss - 1)),
    0,
  );
}

async function gradientDifference(opened: OpenCase): Promise<number> {
  const { gradient } = await opened.model.gradient(opened.batch, opened.theta);
  const expected = flatten(opened, 'grad.');
  return opened.layout.tensors.reduce((worst, { offset, length }) => {
    const wanted = expected.subarray(offset, offset + length);
    return largest(worst, distance(gradient.subarray(offset, offset + length), wanted));
  }, 0);
}

async function trainingDifference(
  opened: OpenCase,
): Promise<
  Pick<
    Differences,
    'losses of ten AdamW steps, relative' | 'movement of the final adapter, relative in norm'
  >
> {
  const { file, model, batch, theta, layout } = opened;
  const { lr, beta1, beta2, eps, weight_decay } = file.adamw;
  const settings = { learningRate: lr, beta1, beta2, epsilon: eps, weightDecay: weight_decay };
  const trained = theta.slice();
  const state = newOptimiserState(layout.size);
  let worst = 0;
  for (const expected of file.losses) {
    const { loss, gradient } = await model.gradient(batch, trained);
    worst = largest(worst, Math.abs(loss / expected - 1));
    adamWStep(trained, gradient, state, settings);
  }
  const moved = flatten(opened, 'final.').map((value, i) => value - theta[i]!);
  return {
    'losses of ten AdamW steps, relative': worst,
    'movement of the final adapter, relative in norm': distance(
      trained.map((value, i) => value - theta[i]!),
      moved,
    ),
  };
}

/** Relative in norm. */
export function distance(actual: Float32Array, expected: Float32Array): number {
  return l2Norm(actual.map((value, i) => value - expected[i]!)) / l2Norm(expected);
}

/** As Math.max, but what is not a number is the worst of all. */
function largest(a: number, b: number): number {
  return Number.isNaN(b) ? Infinity : Math.max(a, b);
}
