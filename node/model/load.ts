/** What opening a model has in common, whatever it is opened for: checks, and compiling its graph. */
import { ExecutorError, OutOfMemoryError } from '../engine/errors.js';
import type { CompiledGraph, CompileOptions, Executor, Program } from '../engine/executor.js';
import { hasQuickSums } from '../engine/overflow-trial.js';
import { UserError } from '../errors.js';
import type { ModelConfig } from './config.js';
import type { Arithmetic } from './frozen-product.js';
import { checkAdapter, type AdapterShape } from './lora.js';
import type { WeightIndex } from './safetensors.js';
import type { WeightFormat } from './weight-format.js';

/** A model and what carries its graphs out. */
export interface ModelToOpen {
  readonly config: ModelConfig;
  readonly weights: WeightIndex;
  readonly adapter: AdapterShape;
  /** Of the frozen weights; `weights` are those that it asks for, packed for int8 and int4. Default: fp32. */
  readonly weightFormat?: WeightFormat;
  /** What carries its graphs out. */
  readonly executor: Executor;
}

/**
 * Throws UserError when the adapter does not fit the config, or when `tokens`, the longest sequence,
 * is more than the model's positions. The weights' own shapes are checked when a graph is built.
 */
export function checkModel(
  { config, adapter }: Pick<ModelToOpen, 'config' | 'adapter'>,
  tokens: number,
): void {
  if (tokens > config.maxPositions) {
    throw new UserError(
      `sequence length ${tokens} is more than the model's ${config.maxPositions} positions: choose at most ${config.maxPositions}`,
    );
  }
  checkAdapter(config, adapter);
}

/** Throws UserError for a token outside of the vocabulary. */
export function checkVocabulary({ vocabSize }: ModelConfig, tokens: ArrayLike<number>): void {
  for (let i = 0; i < tokens.length; i++) {
    const token = tokens[i]!;
    if (token >= 0 && token < vocabSize) continue;
    throw new UserError(
      `token ${token} is outside of the model's vocabulary of ${vocabSize}: the tokenizer belongs to another model`,
    );
  }
}

/** How matrices of `weightFormat` are held and multiplied with on `executor`. Throws ExecutorError. */
export async function arithmeticOf({
  weightFormat = 'fp32',
  executor,
}: Pick<ModelToOpen, 'weightFormat' | 'executor'>): Promise<Arithmetic> {
  const isPacked = weightFormat === 'int8' || weightFormat === 'int4';
  return {
    isMapped: weightFormat !== 'fp32',
    hasQuickSums: isPacked && (await hasQuickSums(executor)),
  };
}

/** Compiles a graph of the model. Throws OutOfMemoryError, and UserError when it cannot be loaded otherwise. */
export async function loadGraph(
  executor: Executor,
  program: Program,
  options?: CompileOptions,
): Promise<CompiledGraph> {
  try {
    return await executor.compile(program, options);
  } catch (error) {
    if (!(error instanceof ExecutorError) || error instanceof OutOfMemoryError) throw error;
    throw new UserError(`the model could not be loaded: ${error.message}`, undefined, {
      cause: error,
    });
  }
}
