/** Llama (Touvron et al. 2023), SmolLM2 and Mistral (Jiang et al. 2023): one arithmetic, other defaults. */
import type { Family } from './family.js';
import { LLAMA_DEFAULTS, readGatedConfig, type GatedConfig } from './gated-config.js';
import { buildGated, gatedLayers } from './gated-decoder.js';

/** model_type "llama" or "mistral". */
export interface LlamaConfig extends GatedConfig {
  architecture: 'llama';
  /** q, k, v and o projections have biases. */
  attentionBias: boolean;
  /** gate, up and down projections have biases. */
  mlpBias: boolean;
}

const MISTRAL_DEFAULTS = {
  ...LLAMA_DEFAULTS,
  keyValueHeads: 8,
  maxPositions: 131_072,
  slidingWindow: 4096,
  hasWindow: () => true,
};

export const llama: Family<LlamaConfig> = {
  modelTypes: ['llama', 'mistral'],
  readConfig(bytes, sourceName) {
    const { config, raw } = readGatedConfig(bytes, sourceName, (modelType) =>
      modelType === 'mistral' ? MISTRAL_DEFAULTS : LLAMA_DEFAULTS,
    );
    return {
      architecture: 'llama',
      ...config,
      attentionBias: raw.attention_bias ?? false,
      mlpBias: raw.mlp_bias ?? false,
    };
  },
  linearLayers: (config) =>
    gatedLayers(config, (layer) =>
      layer.startsWith('mlp.') ? config.mlpBias : config.attentionBias,
    ),
  build: buildGated,
};
