/** A model directory opened for writing text: what `generate` needs, and no data. */
import { openTokenizer } from '../data/tokenizer.js';
import { openLanguageModel } from '../model/language-model.js';
import { openModelDirectory } from '../model/model-directory.js';
import type { AdapterSpec } from '../../protocol/adapter.js';
import { generate, type GenerateOptions } from './generate.js';

export interface GeneratorOptions {
  modelDir: string;
  adapter: Pick<AdapterSpec, 'rank' | 'alpha' | 'modules'>;
  /** CPU threads of the executor. */
  threads: number;
  /** Tokens that the model reads at once; the model's own limit where that is lower. Time grows with it. */
  contextLength: number;
}

export interface Generator {
  /** See generate.ts; `theta` of the options: [adapterSize] float32. */
  generate(
    options: GenerateOptions,
    onText: (piece: string) => void,
    signal: AbortSignal,
  ): Promise<string>;
  /** Frees the weights. */
  dispose(): Promise<void>;
}

/** Throws UserError for a model directory that cannot be used, or an adapter that does not fit it. */
export async function openGenerator(options: GeneratorOptions): Promise<Generator> {
  const { dir, config, weights } = await openModelDirectory(options.modelDir);
  const tokenizer = await openTokenizer(dir, config);
  const sequenceLength = Math.min(options.contextLength, config.maxPositions);
  const { adapter, threads } = options;
  const shape = { batchSize: 1, sequenceLength };
  const model = await openLanguageModel({ config, weights, adapter, threads, ...shape });
  return {
    generate: (request, onText, signal) => generate(model, tokenizer, request, onText, signal),
    dispose: () => model.dispose(),
  };
}
