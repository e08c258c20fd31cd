/** Gemma 2 (Gemma Team 2024): Llama's arithmetic with GELU, four norms a block, bounded scores and logits, and a window in every other layer. */
import { refuse } from './config-fields.js';
import type { Family } from './family.js';
import {
  LLAMA_DEFAULTS,
  readGatedConfig,
  type GatedConfig,
  type GatedDefaults,
} from './gated-config.js';
import { buildGated, gatedLayers } from './gated-decoder.js';

/** model_type "gemma2". */
export interface Gemma2Config extends GatedConfig {
  architecture: 'gemma2';
  /** q, k, v and o projections have biases. */
  attentionBias: boolean;
  /** Attention scores are bounded by it, and logits; null: they are not. */
  scoreCap: number | null;
  logitCap: number | null;
}

const DEFAULTS: GatedDefaults = {
  ...LLAMA_DEFAULTS,
  keyValueHeads: 4,
  headDim: 256,
  maxPositions: 8192,
  tied: true,
  scoreScalar: 256,
  slidingWindow: 4096,
  hasWindow: (index, { layer_types: kinds }) =>
    kinds ? kinds[index] === 'sliding_attention' : index % 2 === 0,
  hiddenAct: 'gelu_pytorch_tanh',
  hiddenActField: 'hidden_activation',
  bos: 2,
  eos: 1,
};

export const gemma2: Family<Gemma2Config> = {
  modelTypes: ['gemma2'],
  readConfig(bytes, sourceName) {
    const { config, raw } = readGatedConfig(bytes, sourceName, () => DEFAULTS);
    if (raw.use_bidirectional_attention) {
      refuse(sourceName, 'use_bidirectional_attention true', 'false');
    }
    const cap = (
      field: 'attn_logit_softcapping' | 'final_logit_softcapping',
      usual: number,
    ): number | null => {
      const given = raw[field] === undefined ? usual : raw[field];
      if (given === 0) refuse(sourceName, `${field} 0`, 'null or a number above 0');
      return given;
    };
    return {
      architecture: 'gemma2',
      ...config,
      attentionBias: raw.attention_bias ?? false,
      scoreCap: cap('attn_logit_softcapping', 50),
      logitCap: cap('final_logit_softcapping', 30),
    };
  },
  linearLayers: (config) =>
    gatedLayers(config, (layer) => !layer.startsWith('mlp.') && config.attentionBias),
  build: (config, parameters, inputs) => {
    const { hiddenSize, scoreCap, logitCap } = config;
    return buildGated(config, parameters, inputs, {
      embeddingScale: Math.sqrt(hiddenSize),
      offsetNorms: true,
      norms: 'both',
      scoreCap,
      logitCap,
    });
  },
};
