/** The table of all families, and what a config stands for in each of them. */
import { input, type Value } from '../engine/graph.js';
import { gemma3, type Gemma3Config } from './gemma3.js';
import { gemma2, type Gemma2Config } from './gemma2.js';
import { gpt2, type Gpt2Config } from './gpt2.js';
import { granite, type GraniteConfig } from './granite.js';
import { llama, type LlamaConfig } from './llama.js';
import { olmo2, type Olmo2Config } from './olmo2.js';
import { phi3, type Phi3Config } from './phi3.js';
import { qwen2, type Qwen2Config } from './qwen2.js';
import { qwen3, type Qwen3Config } from './qwen3.js';
import { smollm3, type SmolLm3Config } from './smollm3.js';
import type { CommonConfig, Family, LinearLayer, ModelInputs, ModelValues } from './family.js';
import { FLOAT32, type Arithmetic } from './frozen-product.js';
import { Parameters } from './parameters.js';
import type { AdapterValues } from './lora-graph.js';
import type { TensorEntry, WeightIndex } from './safetensors.js';

/** What decides the arithmetic of a model, told apart by `architecture`. */
export type ModelConfig =
  | LlamaConfig
  | Qwen2Config
  | Qwen3Config
  | Gemma2Config
  | Gemma3Config
  | Phi3Config
  | SmolLm3Config
  | Olmo2Config
  | GraniteConfig
  | Gpt2Config;

/** Only what the reader needs: a family's other parts take its own config alone. */
const FAMILIES: readonly Pick<Family<ModelConfig>, 'modelTypes' | 'readConfig'>[] = [
  llama,
  qwen2,
  qwen3,
  gemma2,
  gemma3,
  phi3,
  smollm3,
  olmo2,
  granite,
  gpt2,
];

/** Every model_type that can be read. */
export const MODEL_TYPES: readonly string[] = FAMILIES.flatMap(({ modelTypes }) => modelTypes);

/** What reads a config of this model_type; undefined for an unknown one. */
export function configReader(modelType: string): Family<ModelConfig>['readConfig'] | undefined {
  const family = FAMILIES.find(({ modelTypes }) => modelTypes.includes(modelType));
  return family && ((bytes, sourceName) => family.readConfig(bytes, sourceName));
}

/** A model of a known config. */
export interface Decoder {
  /** As Family.linearLayers. */
  readonly layers: readonly LinearLayer[];
  /** Throws UserError for a weight that is missing or of another shape. Default: FLOAT32. */
  build(
    weights: WeightIndex,
    adapter: AdapterValues,
    inputs: ModelInputs,
    arithmetic?: Arithmetic,
  ): ModelValues;
  /** Names of the weights that it does not read. Throws UserError as build. */
  unread(weights: WeightIndex): string[];
}

/** What `config` computes. */
export function decoderOf(config: ModelConfig): Decoder {
  switch (config.architecture) {
    case 'llama':
      return bind(llama, config);
    case 'qwen2':
      return bind(qwen2, config);
    case 'qwen3':
      return bind(qwen3, config);
    case 'gemma3':
      return bind(gemma3, config);
    case 'phi3':
      return bind(phi3, config);
    case 'gemma2':
      return bind(gemma2, config);
    case 'smollm3':
      return bind(smollm3, config);
    case 'olmo2':
      return bind(olmo2, config);
    case 'granite':
      return bind(granite, config);
    case 'gpt2':
      return bind(gpt2, config);
  }
}

function bind<C extends CommonConfig>(family: Family<C>, config: C): Decoder {
  const layers = family.linearLayers(config);
  return {
    layers,
    build: (weights, adapter, inputs, arithmetic = FLOAT32) =>
      family.build(config, new Parameters(weights, adapter, layers, arithmetic), inputs),
    unread: (weights) => {
      const used = new Set<TensorEntry>();
      const none = { tensors: [], factors: new Map() };
      family.build(config, new Parameters(weights, none, layers, FLOAT32, used), fewTokens());
      return [...weights].filter(([, entry]) => !used.has(entry)).map(([name]) => name);
    },
  };
}

/** Enough to build a graph with. */
function fewTokens(): ModelInputs {
  const of = (name: string): Value => input(name, 'int32', [1, 2]);
  return { tokens: of('tokens'), segments: of('segments'), positions: of('positions') };
}
