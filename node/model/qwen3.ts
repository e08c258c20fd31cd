/** Qwen3 (Yang et al. 2025): Llama's arithmetic with an RMSNorm over each head of queries and keys. */
import type { Family } from './family.js';
import { readGatedConfig, type GatedConfig } from './gated-config.js';
import { buildGated, gatedLayers } from './gated-decoder.js';
import { QWEN2_DEFAULTS } from './qwen2.js';

/** model_type "qwen3". */
export interface Qwen3Config extends GatedConfig {
  architecture: 'qwen3';
  /** q, k, v and o projections have biases. */
  attentionBias: boolean;
}

const DEFAULTS = { ...QWEN2_DEFAULTS, headDim: 128 };

export const qwen3: Family<Qwen3Config> = {
  modelTypes: ['qwen3'],
  readConfig(bytes, sourceName) {
    const { config, raw } = readGatedConfig(bytes, sourceName, () => DEFAULTS);
    return { architecture: 'qwen3', ...config, attentionBias: raw.attention_bias ?? false };
  },
  linearLayers: (config) =>
    gatedLayers(config, (layer) => !layer.startsWith('mlp.') && config.attentionBias),
  build: (config, parameters, inputs) =>
    buildGated(config, parameters, inputs, { headNorms: 'each' }),
};
