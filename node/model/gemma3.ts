/**
 * Gemma 3 (Gemma Team 2025), its text model: Llama's arithmetic with GELU, four norms a block, normalised
 * queries and keys, and layers that see a window between those that see all.
 */
import { refuse } from './config-fields.js';
import type { Family } from './family.js';
import {
  LLAMA_DEFAULTS,
  readGatedConfig,
  type GatedConfig,
  type GatedDefaults,
} from './gated-config.js';
import { buildGated, gatedLayers } from './gated-decoder.js';

/** model_type "gemma3_text". */
export interface Gemma3Config extends GatedConfig {
  architecture: 'gemma3';
  /** q, k, v and o projections have biases. */
  attentionBias: boolean;
}

const DEFAULTS: GatedDefaults = {
  ...LLAMA_DEFAULTS,
  keyValueHeads: 4,
  headDim: 256,
  maxPositions: 131_072,
  ropeTheta: 1_000_000,
  localRopeTheta: 10_000,
  tied: true,
  scoreScalar: 256,
  slidingWindow: 4096,
  hasWindow: (index, { layer_types: kinds, sliding_window_pattern: pattern }) =>
    kinds ? kinds[index] === 'sliding_attention' : (index + 1) % (pattern ?? 6) !== 0,
  hiddenAct: 'gelu_pytorch_tanh',
  hiddenActField: 'hidden_activation',
  bos: 2,
  eos: 1,
};

export const gemma3: Family<Gemma3Config> = {
  modelTypes: ['gemma3_text'],
  readConfig(bytes, sourceName) {
    const { config, raw } = readGatedConfig(bytes, sourceName, () => DEFAULTS);
    for (const field of ['attn_logit_softcapping', 'final_logit_softcapping'] as const) {
      const cap = raw[field] ?? null;
      if (cap !== null) refuse(sourceName, `${field} ${cap}`, 'null');
    }
    if (raw.use_bidirectional_attention) {
      refuse(sourceName, 'use_bidirectional_attention true', 'false');
    }
    if (raw.sliding_window === null)
      refuse(sourceName, 'sliding_window null', 'a number of tokens');
    return { architecture: 'gemma3', ...config, attentionBias: raw.attention_bias ?? false };
  },
  linearLayers: (config) =>
    gatedLayers(config, (layer) => !layer.startsWith('mlp.') && config.attentionBias),
  build: (config, parameters, inputs) =>
    buildGated(config, parameters, inputs, {
      headNorms: 'each',
      embeddingScale: Math.sqrt(config.hiddenSize),
      offsetNorms: true,
      norms: 'both',
    }),
};
