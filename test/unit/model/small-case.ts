/** Models of the reference cases, opened for batches of two short sequences, and such batches. */
import { join } from 'node:path';
import { readFile } from 'node:fs/promises';
import { ortExecutor } from '../../../node/engine/ort.js';
import { readModelConfig } from '../../../node/model/config.js';
import {
  openLanguageModel,
  type LanguageModel,
  type LanguageModelOptions,
} from '../../../node/model/language-model.js';
import { loraModules } from '../../../node/model/lora.js';
import { IGNORED_TARGET } from '../../../node/model/token-batch.js';
import { openWeights } from '../../../node/model/weight-index.js';
import { Prng } from '../../../protocol/prng.js';
import { referenceCase, type ReferenceCaseName } from './fixtures.js';

/** Tokens of a sequence. */
export const T = 17;

export function randomTheta(size: number): Float32Array {
  const random = new Prng(new Uint8Array(32), 'theta');
  return Float32Array.from({ length: size }, () => 0.2 * (random.nextFloat() - 0.5));
}

export function randomTokens(count: number, vocabSize: number): Int32Array {
  const random = new Prng(new Uint8Array(32), 'tokens');
  return Int32Array.from({ length: count }, () => random.nextBelow(vocabSize));
}

/** Next-token targets inside each row; the last position of a row has none. */
export function nextTokens(tokens: Int32Array): Int32Array {
  return tokens.map((_, i) => (i % T === T - 1 ? IGNORED_TARGET : tokens[i + 1]!));
}

export async function openCase(
  name: ReferenceCaseName,
  targetModules: string[],
): Promise<{ options: LanguageModelOptions; model: LanguageModel; theta: Float32Array }> {
  const dir = join(referenceCase(name), 'base');
  const path = join(dir, 'config.json');
  const config = readModelConfig(await readFile(path), path);
  const options = {
    config,
    weights: await openWeights(dir),
    adapter: { rank: 3, alpha: 5, modules: loraModules(config, targetModules) },
    batchSize: 2,
    sequenceLength: T,
    executor: ortExecutor({ threads: 1 }),
  };
  const model = await openLanguageModel(options);
  return { options, model, theta: randomTheta(model.adapterSize) };
}
