/**
 * What Llama (Touvron et al. 2023) and its descendants share: RMS normalisation, rotary positions,
 * grouped-query attention and a SiLU-gated MLP, with the arithmetic of Transformers. A family says which
 * layers have biases and whether queries and keys are normalised.
 */
import { z } from 'zod';
import type { Value } from '../engine/graph.js';
import { add, gather, mul, reshape, rmsNorm, rotary, silu } from '../engine/ops/index.js';
import { UserError } from '../errors.js';
import { parseJson } from '../json-file.js';
import { attention, attentionMask } from './attention.js';
import {
  between,
  checkSpecialTokens,
  commonFields,
  flag,
  HEAD_DIM_MAX,
  POSITIONS_MAX,
  readSpecialTokens,
  refuse,
  refuseQuantised,
  text,
  whole,
} from './config-fields.js';
import type { CommonConfig, LinearLayer, ModelInputs, ModelValues } from './family.js';
import type { Parameters } from './parameters.js';
import { readRopeScaling, ropeField, rotaryTables, tablesAt, type RopeScaling } from './rope.js';

/** What decides the arithmetic of a gated decoder; `heads` is a multiple of keyValueHeads. */
export interface GatedConfig extends CommonConfig {
  /** Width inside the gated MLP, 1 to 1,048,576. */
  intermediateSize: number;
  keyValueHeads: number;
  /** Features of one head, even, 2 to 1,024; heads x headDim need not be hiddenSize. */
  headDim: number;
  /** Added to the mean square, above 0 and below 1. */
  rmsNormEps: number;
  /** Base of the rotary frequencies, 1 to 1e12. */
  ropeTheta: number;
  /** null for plain rotary frequencies. */
  ropeScaling: RopeScaling | null;
  hiddenAct: 'silu';
}

/** What Transformers takes for a field that is absent. */
export interface GatedDefaults {
  /** null: as many as query heads. */
  keyValueHeads: number | null;
  /** null: hidden size / heads. */
  headDim: number | null;
  maxPositions: number;
  /** Tokens; null for families that have none unless the config says so. */
  slidingWindow: number | null;
  bos: number | null;
  eos: number | null;
}

/** RMSNorm's epsilon and the rotary base are the same in all of these families. */
const DEFAULTS = { rmsNormEps: 1e-6, ropeTheta: 10_000 };

const schema = z.looseObject({
  ...commonFields,
  hidden_size: whole(1, 65_536),
  intermediate_size: whole(1, 1 << 20),
  num_hidden_layers: whole(1, 1024),
  num_attention_heads: whole(1, 1024),
  num_key_value_heads: whole(1, 1024).nullish(),
  head_dim: whole(2, HEAD_DIM_MAX).nullish(),
  max_position_embeddings: whole(2, POSITIONS_MAX).nullish(),
  rms_norm_eps: between(1e-20, 0.1).nullish(),
  rope_theta: between(1, 1e12).nullish(),
  rope_parameters: ropeField,
  rope_scaling: ropeField,
  partial_rotary_factor: between(0, 1).nullish(),
  attention_bias: flag.nullish(),
  mlp_bias: flag.nullish(),
  hidden_act: text.nullish(),
  sliding_window: whole(2, POSITIONS_MAX).nullish(),
  use_sliding_window: flag.nullish(),
});
type RawConfig = z.infer<typeof schema>;

/** Every field of the file that a gated decoder may have, checked, beside what all families read of it. */
export interface GatedFile {
  config: GatedConfig;
  /** attention_bias and mlp_bias, false where absent. */
  attentionBias: boolean;
  mlpBias: boolean;
}

/** As Family.readConfig. */
export function readGatedConfig(
  bytes: string | Uint8Array,
  sourceName: string,
  defaultsOf: (modelType: string) => GatedDefaults,
): GatedFile {
  const raw = parseJson(bytes, sourceName, schema);
  const defaults = defaultsOf(raw.model_type);
  const config = fromRaw(raw, defaults, sourceName);
  checkRelations(config, sourceName);
  checkSpecialTokens(config, config.vocabSize, sourceName);
  return {
    config,
    attentionBias: raw.attention_bias ?? false,
    mlpBias: raw.mlp_bias ?? false,
  };
}

function fromRaw(raw: RawConfig, defaults: GatedDefaults, sourceName: string): GatedConfig {
  if ((raw.hidden_act ?? 'silu') !== 'silu') {
    refuse(sourceName, `hidden_act "${raw.hidden_act ?? ''}"`, 'silu');
  }
  refuseQuantised(raw, sourceName);
  const field = raw.rope_scaling ? 'rope_scaling' : 'rope_parameters';
  const rope = raw[field];
  const rotated = rope?.partial_rotary_factor ?? raw.partial_rotary_factor ?? 1;
  if (rotated !== 1) refuse(sourceName, `partial_rotary_factor ${rotated}`, '1');
  const heads = raw.num_attention_heads;
  // Up to the window's length every position sees all earlier ones: plain attention, the same numbers.
  const positions = raw.max_position_embeddings ?? defaults.maxPositions;
  const maxPositions = Math.min(positions, slidingWindow(raw, defaults) ?? positions);
  return {
    hiddenSize: raw.hidden_size,
    intermediateSize: raw.intermediate_size,
    layers: raw.num_hidden_layers,
    heads,
    keyValueHeads:
      raw.num_key_value_heads === undefined
        ? (defaults.keyValueHeads ?? heads)
        : (raw.num_key_value_heads ?? heads),
    headDim: raw.head_dim ?? defaults.headDim ?? raw.hidden_size / heads,
    vocabSize: raw.vocab_size,
    maxPositions,
    rmsNormEps: raw.rms_norm_eps ?? DEFAULTS.rmsNormEps,
    ropeTheta: rope?.rope_theta ?? raw.rope_theta ?? DEFAULTS.ropeTheta,
    ropeScaling: readRopeScaling(rope, field, sourceName),
    tieWordEmbeddings: raw.tie_word_embeddings ?? false,
    hiddenAct: 'silu',
    ...readSpecialTokens(raw, defaults),
  };
}

/** Tokens that a position sees at most; null for all earlier ones. */
function slidingWindow(raw: RawConfig, defaults: GatedDefaults): number | null {
  // Qwen's configs name a window even where none is used.
  if (raw.model_type.startsWith('qwen') && raw.use_sliding_window !== true) return null;
  return raw.sliding_window === undefined ? defaults.slidingWindow : raw.sliding_window;
}

function checkRelations(config: GatedConfig, sourceName: string): void {
  const { heads, keyValueHeads, headDim, hiddenSize } = config;
  if (!Number.isInteger(headDim)) {
    throw new UserError(
      `${sourceName}: hidden_size ${hiddenSize} is not a multiple of num_attention_heads ${heads}, and head_dim is missing: get the model's own config.json`,
    );
  }
  if (headDim % 2 !== 0 || headDim > HEAD_DIM_MAX) {
    throw new UserError(
      `${sourceName}: a head has ${headDim} features, but rotary positions need an even number from 2 to ${HEAD_DIM_MAX}: get the model's own config.json`,
    );
  }
  if (heads % keyValueHeads !== 0) {
    throw new UserError(
      `${sourceName}: num_attention_heads ${heads} is not a multiple of num_key_value_heads ${keyValueHeads}: get the model's own config.json`,
    );
  }
}

/** The layers of one block, in the order in which adapters lie in the flat vector. */
const BLOCK = [
  'self_attn.q_proj',
  'self_attn.k_proj',
  'self_attn.v_proj',
  'self_attn.o_proj',
  'mlp.gate_proj',
  'mlp.up_proj',
  'mlp.down_proj',
] as const;
/** The name of a layer inside a block. */
export type BlockLayer = (typeof BLOCK)[number];

const OUTPUT_LAYER = 'lm_head';

/** As Family.linearLayers; `hasBias` says which layers of a block have a bias. */
export function gatedLayers(
  config: GatedConfig,
  hasBias: (layer: BlockLayer) => boolean,
): LinearLayer[] {
  const { hiddenSize, intermediateSize, headDim, vocabSize } = config;
  const [query, keyValue] = [config.heads * headDim, config.keyValueHeads * headDim];
  const features: Record<BlockLayer, [number, number]> = {
    'self_attn.q_proj': [hiddenSize, query],
    'self_attn.k_proj': [hiddenSize, keyValue],
    'self_attn.v_proj': [hiddenSize, keyValue],
    'self_attn.o_proj': [query, hiddenSize],
    'mlp.gate_proj': [hiddenSize, intermediateSize],
    'mlp.up_proj': [hiddenSize, intermediateSize],
    'mlp.down_proj': [intermediateSize, hiddenSize],
  };
  const layers = Array.from({ length: config.layers }, (_, index) =>
    BLOCK.map((layer): LinearLayer => {
      const [inFeatures, outFeatures] = features[layer];
      const name = `model.layers.${index}.${layer}`;
      return { name, inFeatures, outFeatures, bias: hasBias(layer), transposed: false };
    }),
  ).flat();
  if (config.tieWordEmbeddings) return layers;
  const output = { inFeatures: hiddenSize, outFeatures: vocabSize, bias: false };
  return [...layers, { name: OUTPUT_LAYER, ...output, transposed: false }];
}

/** As Family.build; with `normalised`, queries and keys have an RMSNorm over each head (q_norm, k_norm). */
export function buildGated(
  config: GatedConfig,
  parameters: Parameters,
  inputs: ModelInputs,
  { normalised }: { normalised: boolean },
): ModelValues {
  return new GatedDecoder(config, parameters, inputs, normalised).build();
}

class GatedDecoder {
  private readonly batchSize: number;
  private readonly length: number;
  private readonly mask: Value;
  private readonly cos: Value;
  private readonly sin: Value;

  constructor(
    private readonly config: GatedConfig,
    private readonly parameters: Parameters,
    private readonly inputs: ModelInputs,
    private readonly normalised: boolean,
  ) {
    [this.batchSize, this.length] = inputs.tokens.shape as [number, number];
    this.mask = attentionMask(inputs);
    const { headDim, ropeTheta, ropeScaling } = config;
    const { cache, positions } = inputs;
    const places = cache?.capacity ?? this.length;
    const tables = rotaryTables(places, headDim, ropeTheta, ropeScaling);
    // Whole sequences lie in the order of the tables, for only differences of places count.
    [this.cos, this.sin] = cache === undefined ? tables : tablesAt(positions, tables);
  }

  build(): ModelValues {
    const { layers, vocabSize, hiddenSize, tieWordEmbeddings } = this.config;
    const { parameters } = this;
    const embedding = parameters.weight('model.embed_tokens.weight', [vocabSize, hiddenSize]);
    const embedded = gather(embedding, this.inputs.tokens);
    let x = reshape(embedded, [this.batchSize * this.length, hiddenSize]);
    for (let index = 0; index < layers; index++) {
      const block = `model.layers.${index}`;
      x = add(x, this.attention(block, this.norm(x, `${block}.input_layernorm`, hiddenSize)));
      x = add(x, this.mlp(block, this.norm(x, `${block}.post_attention_layernorm`, hiddenSize)));
    }
    const hidden = this.norm(x, 'model.norm', hiddenSize);
    const table = tieWordEmbeddings ? embedding : parameters.outputTable(OUTPUT_LAYER);
    return { hidden, table };
  }

  /** x: [N, C] -> [N, C]. */
  private attention(block: string, x: Value): Value {
    const name = `${block}.self_attn`;
    const q = this.rotate(this.headNorm(`${name}.q_norm`, this.linear(`${name}.q_proj`, x)));
    const k = this.rotate(this.headNorm(`${name}.k_norm`, this.linear(`${name}.k_proj`, x)));
    const v = this.linear(`${name}.v_proj`, x);
    const context = attention({ q, k, v, mask: this.mask, cache: this.inputs.cache }, this.config);
    return this.linear(`${name}.o_proj`, context);
  }

  /** x: [N, C] -> [N, C]. */
  private mlp(block: string, x: Value): Value {
    const gate = silu(this.linear(`${block}.mlp.gate_proj`, x));
    const up = this.linear(`${block}.mlp.up_proj`, x);
    return this.linear(`${block}.mlp.down_proj`, mul(gate, up));
  }

  /** x: [N, H D] -> the same, each head normalised where the family does so. */
  private headNorm(name: string, x: Value): Value {
    if (!this.normalised) return x;
    const { headDim } = this.config;
    const [rows, width] = x.shape as [number, number];
    const perHead = reshape(x, [(rows * width) / headDim, headDim]);
    return reshape(this.norm(perHead, name, headDim), [rows, width]);
  }

  /** x: [N, H D] -> [B, T, H D]. */
  private rotate(x: Value): Value {
    const width = x.shape[1]!;
    return rotary(reshape(x, [this.batchSize, this.length, width]), this.cos, this.sin);
  }

  private norm(x: Value, name: string, features: number): Value {
    const weight = this.parameters.weight(`${name}.weight`, [features]);
    return rmsNorm(x, weight, this.config.rmsNormEps);
  }

  private linear(name: string, x: Value): Value {
    return this.parameters.linear(name, x);
  }
}
