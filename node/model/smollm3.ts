/** SmolLM3 (Bakouch et al. 2025): Llama's arithmetic, with every fourth layer blind to positions. */
import { refuse } from './config-fields.js';
import type { Family } from './family.js';
import {
  LLAMA_DEFAULTS,
  readGatedConfig,
  type GatedConfig,
  type RawConfig,
} from './gated-config.js';
import { buildGated, gatedLayers } from './gated-decoder.js';

/** model_type "smollm3". */
export interface SmolLm3Config extends GatedConfig {
  architecture: 'smollm3';
  /** q, k, v and o projections have biases. */
  attentionBias: boolean;
  /** gate, up and down projections have biases. */
  mlpBias: boolean;
}

/** Of `no_rope_layers` a 1 says that the layer does rotate. */
const isRotated = (index: number, raw: RawConfig): boolean => {
  const { no_rope_layers: listed, no_rope_layer_interval: interval } = raw;
  return listed ? listed[index] !== 0 : (index + 1) % (interval ?? 4) !== 0;
};

const DEFAULTS = {
  ...LLAMA_DEFAULTS,
  keyValueHeads: 4,
  maxPositions: 32_768,
  ropeTheta: 2_000_000,
  tied: true,
  isRotated,
  hasWindow: (index: number, raw: RawConfig): boolean => {
    if (raw.use_sliding_window !== true) return false;
    const { layer_types: kinds } = raw;
    return kinds ? kinds[index] === 'sliding_attention' : !isRotated(index, raw);
  },
  bos: 128_000,
  eos: 128_001,
};

export const smollm3: Family<SmolLm3Config> = {
  modelTypes: ['smollm3'],
  readConfig(bytes, sourceName) {
    const { config, raw } = readGatedConfig(bytes, sourceName, () => DEFAULTS);
    const listed = raw.no_rope_layers?.length ?? config.layers;
    if (listed < config.layers) {
      refuse(
        sourceName,
        `no_rope_layers with ${listed} entries`,
        `one for each of ${config.layers} layers`,
      );
    }
    return {
      architecture: 'smollm3',
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
