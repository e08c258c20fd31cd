/**
 * Configs of Llama and its descendants. What an absent field stands for, and which fields a family heeds,
 * is the family's `GatedDefaults`.
 */
import { z } from 'zod';
import { UserError } from '../errors.js';
import { parseJson } from '../json-file.js';
import {
  between,
  checkSpecialTokens,
  commonFields,
  flag,
  HEAD_DIM_MAX,
  POSITIONS_MAX,
  readSpecialTokens,
  refuse,
  checkQuantisation,
  text,
  whole,
} from './config-fields.js';
import type { CommonConfig } from './family.js';
import {
  readRopeScaling,
  ropeByKindField,
  ropeField,
  type RawRope,
  type RopeScaling,
  type RopeSource,
} from './rope.js';

/** Rotary frequencies: their base, and what becomes of them. */
export interface Rope {
  /** 1 to 1e12. */
  theta: number;
  /** null for plain rotary frequencies. */
  scaling: RopeScaling | null;
}

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
  /** Of the layers with a window; null: as the others. */
  localRope: Rope | null;
  /** The first features of a head, which alone are rotated: even, 2 to headDim; null for all. */
  rotaryDim: number | null;
  /** Scores are divided by its square root, 1e-6 to 1e6; null: by that of headDim. */
  scoreScalar: number | null;
  /** For each layer how many tokens a position sees, itself included; null, of a layer or of all: no bound. */
  windows: (number | null)[] | null;
  /** The layers, from 0, whose queries and keys are not rotated; null where all are. */
  unrotated: number[] | null;
  hiddenAct: 'silu' | 'gelu_pytorch_tanh';
}

/** What Transformers takes for a field that is absent, and what else the family decides. */
export interface GatedDefaults {
  /** null: as many as query heads. */
  keyValueHeads: number | null;
  /** null: hidden size / heads. */
  headDim: number | null;
  maxPositions: number;
  rmsNormEps: number;
  ropeTheta: number;
  /** Base of the rotary frequencies of layers with a window; null where one set serves all layers. */
  localRopeTheta: number | null;
  tied: boolean;
  /** As GatedConfig.scoreScalar, null where the family does not read it. */
  scoreScalar: number | null;
  /** Whether partial_rotary_factor may be other than 1. */
  partialRotary: boolean;
  /** Tokens; null for none. */
  slidingWindow: number | null;
  /** Whether the layer `index` has the sliding window. */
  hasWindow: (index: number, file: RawConfig) => boolean;
  /** Whether queries and keys of the layer `index` are rotated. */
  isRotated: (index: number, file: RawConfig) => boolean;
  /** The only activation that is supported, and the field that names it. */
  hiddenAct: GatedConfig['hiddenAct'];
  hiddenActField: 'hidden_act' | 'hidden_activation';
  bos: number | null;
  eos: number | null;
}

/** Llama's; the other families say where they differ. */
export const LLAMA_DEFAULTS: GatedDefaults = {
  keyValueHeads: null,
  headDim: null,
  maxPositions: 2048,
  rmsNormEps: 1e-6,
  ropeTheta: 10_000,
  localRopeTheta: null,
  tied: false,
  scoreScalar: null,
  partialRotary: false,
  slidingWindow: null,
  hasWindow: () => false,
  isRotated: () => true,
  hiddenAct: 'silu',
  hiddenActField: 'hidden_act',
  bos: 1,
  eos: 2,
};

const layerType = z.enum(['full_attention', 'sliding_attention'], {
  error: 'but must be full_attention or sliding_attention',
});

const scale = between(1e-6, 1e6);

const schema = z.looseObject({
  ...commonFields,
  hidden_size: whole(1, 65_536),
  intermediate_size: whole(1, 1 << 20),
  num_hidden_layers: whole(1, 1024),
  num_attention_heads: whole(1, 1024),
  num_key_value_heads: whole(1, 1024).nullish(),
  head_dim: whole(2, HEAD_DIM_MAX).nullish(),
  max_position_embeddings: whole(2, POSITIONS_MAX).nullish(),
  original_max_position_embeddings: whole(2, POSITIONS_MAX).nullish(),
  rms_norm_eps: between(1e-20, 0.1).nullish(),
  rope_theta: between(1, 1e12).nullish(),
  rope_local_base_freq: between(1, 1e12).nullish(),
  rope_parameters: ropeByKindField,
  rope_scaling: ropeField,
  partial_rotary_factor: between(0, 1).nullish(),
  attention_bias: flag.nullish(),
  mlp_bias: flag.nullish(),
  hidden_act: text.nullish(),
  hidden_activation: text.nullish(),
  query_pre_attn_scalar: between(1e-6, 1e6).nullish(),
  attn_logit_softcapping: between(0, 1e6).nullish(),
  final_logit_softcapping: between(0, 1e6).nullish(),
  use_bidirectional_attention: flag.nullish(),
  sliding_window: whole(2, POSITIONS_MAX).nullish(),
  use_sliding_window: flag.nullish(),
  max_window_layers: whole(0, 1024).nullish(),
  sliding_window_pattern: whole(1, 1024).nullish(),
  layer_types: z.array(layerType).nullish(),
  no_rope_layers: z.array(whole(0, 1)).max(1024).nullish(),
  no_rope_layer_interval: whole(1, 1024).nullish(),
  embedding_multiplier: scale.nullish(),
  residual_multiplier: scale.nullish(),
  attention_multiplier: scale.nullish(),
  logits_scaling: scale.nullish(),
});
/** The fields of the file, checked. */
export type RawConfig = z.infer<typeof schema>;

/** As Family.readConfig; `raw` has the fields that only some families heed. */
export function readGatedConfig(
  bytes: string | Uint8Array,
  sourceName: string,
  defaultsOf: (modelType: string) => GatedDefaults,
): { config: GatedConfig; raw: RawConfig } {
  const raw = parseJson(bytes, sourceName, schema);
  const config = fromRaw(raw, defaultsOf(raw.model_type), sourceName);
  checkRelations(config, sourceName);
  checkSpecialTokens(config, config.vocabSize, sourceName);
  return { config, raw };
}

function fromRaw(raw: RawConfig, defaults: GatedDefaults, sourceName: string): GatedConfig {
  const { hiddenAct, hiddenActField } = defaults;
  const activation = raw[hiddenActField] ?? hiddenAct;
  if (activation !== hiddenAct) {
    refuse(sourceName, `${hiddenActField} "${activation}"`, hiddenAct);
  }
  checkQuantisation(raw, sourceName);
  const heads = raw.num_attention_heads;
  const headDim = raw.head_dim ?? defaults.headDim ?? raw.hidden_size / heads;
  const maxPositions = raw.max_position_embeddings ?? defaults.maxPositions;
  const rope = readRope(raw, defaults, { maxPositions, sourceName });
  return {
    hiddenSize: raw.hidden_size,
    intermediateSize: raw.intermediate_size,
    layers: raw.num_hidden_layers,
    heads,
    keyValueHeads:
      raw.num_key_value_heads === undefined
        ? (defaults.keyValueHeads ?? heads)
        : (raw.num_key_value_heads ?? heads),
    headDim,
    vocabSize: raw.vocab_size,
    // Beyond the original context LongRoPE takes other factors.
    maxPositions:
      rope.scaling?.type === 'longrope'
        ? Math.min(maxPositions, rope.scaling.originalPositions)
        : maxPositions,
    rmsNormEps: raw.rms_norm_eps ?? defaults.rmsNormEps,
    ropeTheta: rope.theta,
    ropeScaling: rope.scaling,
    localRope: rope.local,
    rotaryDim: rope.rotated === 1 ? null : Math.floor(headDim * rope.rotated),
    scoreScalar: defaults.scoreScalar && (raw.query_pre_attn_scalar ?? defaults.scoreScalar),
    windows: readWindows(raw, defaults, sourceName),
    unrotated: readUnrotated(raw, defaults),
    tieWordEmbeddings: raw.tie_word_embeddings ?? defaults.tied,
    hiddenAct,
    ...readSpecialTokens(raw, defaults),
  };
}

/** The rotary parameters of layers without a window, and of those with one where the family tells them apart. */
function readRope(
  raw: RawConfig,
  defaults: GatedDefaults,
  source: Omit<RopeSource, 'field'>,
): Rope & { rotated: number; local: Rope | null } {
  const { rope_parameters: current, rope_scaling: older } = raw;
  const { localRopeTheta } = defaults;
  const byKind = localRopeTheta !== null;
  if (byKind && current && !current.full_attention && !current.sliding_attention) {
    refuse(source.sourceName, 'one set of rope_parameters', 'one for each of layer_types');
  }
  const set = byKind ? { ...current?.full_attention, ...older } : { ...(older ?? current) };
  set.original_max_position_embeddings =
    raw.original_max_position_embeddings ?? set.original_max_position_embeddings;
  const rotated = set.partial_rotary_factor ?? raw.partial_rotary_factor ?? 1;
  if (rotated !== 1 && !defaults.partialRotary) {
    refuse(source.sourceName, `partial_rotary_factor ${rotated}`, '1');
  }
  const read = (one: RawRope, field: string, usual: number): Rope => {
    const theta = one.rope_theta ?? usual;
    const scaling = readRopeScaling(one, { ...source, field });
    // The places of its bounds are counted in powers of the base.
    if (scaling?.type === 'yarn' && theta <= 1) {
      refuse(source.sourceName, `rope_theta ${theta} with rotary scaling "yarn"`, 'more than 1');
    }
    return { theta, scaling };
  };
  const field = older ? 'rope_scaling' : `rope_parameters${byKind ? '.full_attention' : ''}`;
  const ofWindows = (theta: number): Rope =>
    read(current?.sliding_attention ?? {}, 'rope_parameters.sliding_attention', theta);
  return {
    ...read(set, field, raw.rope_theta ?? defaults.ropeTheta),
    rotated,
    local: localRopeTheta === null ? null : ofWindows(raw.rope_local_base_freq ?? localRopeTheta),
  };
}

/** As GatedConfig.windows. */
function readWindows(
  raw: RawConfig,
  defaults: GatedDefaults,
  sourceName: string,
): (number | null)[] | null {
  const { layer_types: kinds, num_hidden_layers: length } = raw;
  if (kinds && kinds.length !== length) {
    throw new UserError(
      `${sourceName}: layer_types names ${kinds.length} layers, but num_hidden_layers is ${length}: get the model's own config.json`,
    );
  }
  const window = raw.sliding_window === undefined ? defaults.slidingWindow : raw.sliding_window;
  const windows = Array.from({ length }, (_, index) =>
    defaults.hasWindow(index, raw) ? window : null,
  );
  return windows.some((one) => one !== null) ? windows : null;
}

/** As GatedConfig.unrotated. */
function readUnrotated(raw: RawConfig, defaults: GatedDefaults): number[] | null {
  const all = Array.from({ length: raw.num_hidden_layers }, (_, index) => index);
  const unrotated = all.filter((index) => !defaults.isRotated(index, raw));
  return unrotated.length > 0 ? unrotated : null;
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
  checkRotary(config, sourceName);
}

function checkRotary({ rotaryDim, headDim, ropeScaling }: GatedConfig, sourceName: string): void {
  const rotated = rotaryDim ?? headDim;
  if (rotated % 2 !== 0 || rotated === 0) {
    throw new UserError(
      `${sourceName}: partial_rotary_factor rotates ${rotated} of the ${headDim} features of a head, but must rotate an even number of them, 2 at least: get the model's own config.json`,
    );
  }
  if (ropeScaling?.type === 'longrope' && ropeScaling.shortFactors.length !== rotated / 2) {
    throw new UserError(
      `${sourceName}: rotary scaling "longrope" has ${ropeScaling.shortFactors.length} short factors, but ${rotated} rotated features need ${rotated / 2}: get the model's own config.json`,
    );
  }
}
