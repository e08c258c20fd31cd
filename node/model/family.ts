/** What a family of models is to the rest: how its config is read, which layers it has, its graph. */
import type { Value } from '../engine/graph.js';
import type { LoraModule } from '../../protocol/adapter.js';
import type { KeyValueCache } from './cache.js';
import type { SpecialTokens } from './config-fields.js';
import type { Parameters } from './parameters.js';

/** What every model says of itself, whatever its family. */
export interface CommonConfig extends SpecialTokens {
  /** C: width of the residual stream, 1 to 65,536. */
  hiddenSize: number;
  /** 1 to 1,024. */
  layers: number;
  /** Query heads, 1 to 1,024. */
  heads: number;
  /** Rows of the embedding, 2 to 4,194,304. */
  vocabSize: number;
  /** Longest sequence in tokens, 2 to 2^26. */
  maxPositions: number;
  /** The output projection is the embedding. */
  tieWordEmbeddings: boolean;
}

/** A linear layer of the model, y = W x + b. */
export interface LinearLayer extends LoraModule {
  bias: boolean;
  /** The file holds W^T, [in, out], as Conv1D of GPT-2 does; else [out, in]. */
  transposed: boolean;
  /**
   * Whether 8 bits of what it reads are too few: queries, keys and values, whose errors the softmax amplifies, and the
   * MLP's way down, whose input has outliers (LLM.int8(), Dettmers et al. 2022). It holds forward alone: docs/ENGINE.md
   * has the errors of the gradient.
   */
  isSensitive: boolean;
}

/** Tokens of one run: B sequences of T. */
export interface BatchShape {
  readonly batchSize: number;
  readonly sequenceLength: number;
}

/** What a model reads. */
export interface ModelInputs {
  /** [B, T] int32. */
  readonly tokens: Value;
  /** [B, T] int32: position t sees the positions s <= t of its own segment. */
  readonly segments: Value;
  /** [B, T] int32: the place of a token in its segment, from 0. */
  readonly positions: Value;
  /** What each row read before these tokens, all as many; absent in training. */
  readonly cache?: KeyValueCache;
}

/** What a model computes. */
export interface ModelValues {
  /** The last hidden state, normalised: [B T, C] float32. */
  readonly hidden: Value;
  /** What each layer reads, and what the last one gives: [B T, C] float32 each. */
  readonly stream: readonly Value[];
  /** The output layer's weight, adapter merged: [V, C] float32; logits = hidden table^T. */
  readonly table: Value;
  /** Logits are bounded by softcap; null or absent: they are not. */
  readonly logitCap?: number | null;
}

/** One family; C is its config, told apart by `architecture`. */
export interface Family<C extends CommonConfig> {
  /** The values of model_type that it reads. */
  readonly modelTypes: readonly string[];
  /**
   * Reads config.json, whose model_type is one of `modelTypes`. Throws UserError for a field that is
   * missing or out of bounds, or that asks for arithmetic which the family does not have here.
   */
  readConfig(bytes: string | Uint8Array, sourceName: string): C;
  /** Every layer that can carry an adapter, block by block, then lm_head unless it is the embedding. */
  linearLayers(config: C): LinearLayer[];
  /** Throws UserError for a weight that is missing or of another shape. */
  build(config: C, parameters: Parameters, inputs: ModelInputs): ModelValues;
}
