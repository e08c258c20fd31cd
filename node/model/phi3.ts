/** Phi-3, Phi-3.5 and Phi-4 (Abdin et al. 2024): Llama's arithmetic, its projections fused into fewer layers. */
import type { Family } from './family.js';
import { LLAMA_DEFAULTS, readGatedConfig, type GatedConfig } from './gated-config.js';
import { buildGated, FUSED_BLOCK, gatedLayers } from './gated-decoder.js';

/** model_type "phi3". */
export interface Phi3Config extends GatedConfig {
  architecture: 'phi3';
}

const DEFAULTS = {
  ...LLAMA_DEFAULTS,
  maxPositions: 4096,
  rmsNormEps: 1e-5,
  partialRotary: true,
  hasWindow: () => true,
  eos: 32_000,
};

export const phi3: Family<Phi3Config> = {
  modelTypes: ['phi3'],
  readConfig(bytes, sourceName) {
    const { config } = readGatedConfig(bytes, sourceName, () => DEFAULTS);
    return { architecture: 'phi3', ...config };
  },
  linearLayers: (config) => gatedLayers(config, () => false, FUSED_BLOCK),
  build: (config, parameters, inputs) => buildGated(config, parameters, inputs, { fused: true }),
};
