/** A three-layer model with random weights, data without text for it, and a manifest's training part. */
import { tmpdir } from 'node:os';
import { fileURLToPath } from 'node:url';
import { join } from 'node:path';
import { readFile } from 'node:fs/promises';
import type { Batch } from '../../../node/data/packing.js';
import { ortExecutor } from '../../../node/engine/ort.js';
import { IGNORED_TARGET } from '../../../node/model/token-batch.js';
import { readModelConfig } from '../../../node/model/config.js';
import {
  openLanguageModel,
  type LanguageModel,
  type LanguageModelOptions,
} from '../../../node/model/language-model.js';
import { loraModules } from '../../../node/model/lora.js';
import { openModelDirectory } from '../../../node/model/model-directory.js';
import { openWeights } from '../../../node/model/weight-index.js';
import type { SessionOptions } from '../../../node/train/messages.js';
import type { AdapterSpec } from '../../../protocol/adapter.js';
import type { Training } from '../../../protocol/manifest.js';
import { Prng } from '../../../protocol/prng.js';

/** The source tree's root, from test/ and from its compiled copy in dist/. */
export const ROOT = fileURLToPath(new URL('../../../', import.meta.url)).replace(/dist[/\\]$/, '');
const BASE = join(ROOT, 'test', 'reference', 'cases', 'llama-gqa-tied', 'base');

export const TRAINING: Training = {
  sequenceLength: 12,
  batchSize: 3,
  learningRate: 0.02,
  warmupFraction: 0,
  finalFraction: 0.5,
  weightDecay: 0.1,
  beta1: 0.9,
  beta2: 0.98,
  epsilon: 1e-8,
  gradientNormMax: 1,
  resetMoments: false,
};

/** What trains q and v of the model in `modelDir` on one data file, two epochs of four steps, on one thread. */
export async function sessionOptions(
  modelDir: string,
  dataFile: string,
  training: Partial<Training>,
): Promise<SessionOptions> {
  const { config } = await openModelDirectory(modelDir);
  const targetModules = ['q_proj', 'v_proj'];
  const modules = loraModules(config, targetModules);
  return {
    modelDir,
    dataFiles: [dataFile],
    adapter: { rank: 2, alpha: 4, seed: new Uint8Array(32), targetModules, modules },
    training: { ...TRAINING, learningRate: 0.003, ...training },
    microBatch: 'auto',
    memory: 'auto',
    refuseTooLarge: true,
    run: { epochsMax: 2, stepsRef: 4 },
    device: 'cpu',
    threads: 1,
    weights: 'fp32',
    cacheDir: tmpdir(),
    heldOutShare: 0.2,
    dataSeed: new Uint8Array(32),
  };
}

/** What opens the model on one thread, where the order of additions is always the same. */
export async function tinyModelOptions(): Promise<LanguageModelOptions & { adapter: AdapterSpec }> {
  const path = join(BASE, 'config.json');
  const config = readModelConfig(await readFile(path), path);
  const targetModules = ['q_proj', 'v_proj', 'down_proj'];
  const modules = loraModules(config, targetModules);
  const adapter = { rank: 3, alpha: 6, seed: new Uint8Array(32).fill(7), targetModules, modules };
  const { sequenceLength, batchSize } = TRAINING;
  const weights = await openWeights(BASE);
  const shape = { sequenceLength, batchSize, executor: ortExecutor({ threads: 1 }) };
  return { config, weights, adapter, ...shape };
}

/** The model, and its adapter. */
export async function openTinyModel(): Promise<{ model: LanguageModel; adapter: AdapterSpec }> {
  const options = await tinyModelOptions();
  return { adapter: options.adapter, model: await openLanguageModel(options) };
}

/** Batch number `step` of random tokens below 40; targets before `promptLength` are ignored. */
export function randomBatch(step: number, batchSize: number, promptLength = 2): Batch {
  const random = new Prng(new Uint8Array(32), `batch/${step}`);
  const { sequenceLength } = TRAINING;
  const size = batchSize * sequenceLength;
  const stream = Int32Array.from({ length: size + 1 }, () => random.nextBelow(40));
  const targets = stream
    .slice(1)
    .map((token, i) => (i % sequenceLength < promptLength ? IGNORED_TARGET : token));
  return {
    tokens: stream.slice(0, size),
    targets,
    segments: new Int32Array(size).fill(1),
    trainedTokens: batchSize * (sequenceLength - promptLength),
    inputTokens: size,
  };
}
