/** Granite 3 and later (Granite Team 2024): Llama's arithmetic with four factors of its own. */
import type { Family } from './family.js';
import { LLAMA_DEFAULTS, readGatedConfig, type GatedConfig } from './gated-config.js';
import { buildGated, gatedLayers } from './gated-decoder.js';

/** model_type "granite". `scoreScalar` is what makes the scores' factor `attention_multiplier`. */
export interface GraniteConfig extends GatedConfig {
  architecture: 'granite';
  /** q, k, v and o projections have biases. */
  attentionBias: boolean;
  /** gate, up and down projections have biases. */
  mlpBias: boolean;
  /** What embeddings are multiplied by. */
  embeddingScale: number;
  /** What attention and MLP add to the stream is multiplied by it. */
  residualScale: number;
  /** What logits are divided by. */
  logitDivisor: number;
}

export const granite: Family<GraniteConfig> = {
  modelTypes: ['granite'],
  readConfig(bytes, sourceName) {
    const { config, raw } = readGatedConfig(bytes, sourceName, () => LLAMA_DEFAULTS);
    return {
      architecture: 'granite',
      ...config,
      scoreScalar: (raw.attention_multiplier ?? 1) ** -2,
      attentionBias: raw.attention_bias ?? false,
      mlpBias: raw.mlp_bias ?? false,
      embeddingScale: raw.embedding_multiplier ?? 1,
      residualScale: raw.residual_multiplier ?? 1,
      logitDivisor: raw.logits_scaling ?? 1,
    };
  },
  linearLayers: (config) =>
    gatedLayers(config, (layer) =>
      layer.startsWith('mlp.') ? config.mlpBias : config.attentionBias,
    ),
  build: (config, parameters, inputs) => {
    const { embeddingScale, residualScale, logitDivisor } = config;
    return buildGated(config, parameters, inputs, { embeddingScale, residualScale, logitDivisor });
  },
};
