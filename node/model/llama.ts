/** Llama (Touvron et al. 2023), SmolLM2 and Mistral (Jiang et al. 2023): one arithmetic, other defaults. */
import type { Family } from './family.js';
import {
  buildGated,
  gatedLayers,
  readGatedConfig,
  type GatedConfig,
  type GatedDefaults,
} from './gated-decoder.js';

/** model_type "llama" or "mistral". */
export interface LlamaConfig extends GatedConfig {
  architecture: 'llama';
  /** q, k, v and o projections have biases. */
  attentionBias: boolean;
  /** gate, up and down projections have biases. */
  mlpBias: boolean;
}

const LLAMA: GatedDefaults = {
  keyValueHeads: null,
  headDim: null,
  maxPositions: 2048,
  slidingWindow: null,
  bos: 1,
  eos: 2,
};
const MISTRAL = { ...LLAMA, keyValueHeads: 8, maxPositions: 131_072, slidingWindow: 4096 };

export const llama: Family<LlamaConfig> = {
  modelTypes: ['llama', 'mistral'],
  readConfig(bytes, sourceName) {
    const { config, attentionBias, mlpBias } = readGatedConfig(bytes, sourceName, (modelType) =>
      modelType === 'mistral' ? MISTRAL : LLAMA,
    );
    return { architecture: 'llama', ...config, attentionBias, mlpBias };
  },
  linearLayers: (config) =>
    gatedLayers(config, (layer) =>
      layer.startsWith('mlp.') ? config.mlpBias : config.attentionBias,
    ),
  build: (config, parameters, inputs) =>
    buildGated(config, parameters, inputs, { normalised: false }),
};
