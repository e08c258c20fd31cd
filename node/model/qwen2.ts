/** Qwen2 and Qwen2.5 (Yang et al. 2024): Llama's arithmetic with biases on queries, keys and values. */
import type { Family } from './family.js';
import {
  buildGated,
  gatedLayers,
  readGatedConfig,
  type BlockLayer,
  type GatedConfig,
  type GatedDefaults,
} from './gated-decoder.js';

/** model_type "qwen2". */
export interface Qwen2Config extends GatedConfig {
  architecture: 'qwen2';
}

const DEFAULTS: GatedDefaults = {
  keyValueHeads: 32,
  headDim: null,
  maxPositions: 32_768,
  slidingWindow: 4096,
  bos: null,
  eos: null,
};

const BIASED: readonly BlockLayer[] = ['self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj'];

export const qwen2: Family<Qwen2Config> = {
  modelTypes: ['qwen2'],
  readConfig(bytes, sourceName) {
    const { config } = readGatedConfig(bytes, sourceName, () => DEFAULTS);
    return { architecture: 'qwen2', ...config };
  },
  linearLayers: (config) => gatedLayers(config, (layer) => BIASED.includes(layer)),
  build: (config, parameters, inputs) =>
    buildGated(config, parameters, inputs, { normalised: false }),
};
