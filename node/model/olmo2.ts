/** OLMo 2 (Team OLMo 2025): Llama's arithmetic, but norms stand behind attention and MLP, and on queries and keys. */
import type { Family } from './family.js';
import { LLAMA_DEFAULTS, readGatedConfig, type GatedConfig } from './gated-config.js';
import { buildGated, gatedLayers } from './gated-decoder.js';

/** model_type "olmo2". */
export interface Olmo2Config extends GatedConfig {
  architecture: 'olmo2';
  /** q, k, v and o projections have biases. */
  attentionBias: boolean;
}

const DEFAULTS = { ...LLAMA_DEFAULTS, rmsNormEps: 1e-5, bos: null, eos: 50_279 };

export const olmo2: Family<Olmo2Config> = {
  modelTypes: ['olmo2'],
  readConfig(bytes, sourceName) {
    const { config, raw } = readGatedConfig(bytes, sourceName, () => DEFAULTS);
    return { architecture: 'olmo2', ...config, attentionBias: raw.attention_bias ?? false };
  },
  linearLayers: (config) =>
    gatedLayers(config, (layer) => !layer.startsWith('mlp.') && config.attentionBias),
  build: (config, parameters, inputs) =>
    buildGated(config, parameters, inputs, { headNorms: 'together', norms: 'outputs' }),
};
