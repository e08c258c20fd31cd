/** Qwen2 and Qwen2.5 (Yang et al. 2024): Llama's arithmetic with biases on queries, keys and values. */
import type { Family } from './family.js';
import {
  LLAMA_DEFAULTS,
  readGatedConfig,
  type GatedConfig,
  type GatedDefaults,
} from './gated-config.js';
import { buildGated, gatedLayers, type BlockLayer } from './gated-decoder.js';

/** model_type "qwen2". */
export interface Qwen2Config extends GatedConfig {
  architecture: 'qwen2';
}

export const QWEN2_DEFAULTS: GatedDefaults = {
  ...LLAMA_DEFAULTS,
  keyValueHeads: 32,
  maxPositions: 32_768,
  slidingWindow: 4096,
  // The configs name a window even where none is used.
  hasWindow: (index, { use_sliding_window: used, max_window_layers: first, layer_types: kinds }) =>
    used === true && (kinds ? kinds[index] === 'sliding_attention' : index >= (first ?? 28)),
  bos: null,
  eos: null,
};

const BIASED: readonly BlockLayer[] = ['self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj'];

export const qwen2: Family<Qwen2Config> = {
  modelTypes: ['qwen2'],
  readConfig(bytes, sourceName) {
    const { config } = readGatedConfig(bytes, sourceName, () => QWEN2_DEFAULTS);
    return { architecture: 'qwen2', ...config };
  },
  linearLayers: (config) => gatedLayers(config, (layer) => BIASED.includes(layer)),
  build: buildGated,
};
