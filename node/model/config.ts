/**
 * Reads config.json of a Llama-family model, as Transformers 5 (`rope_parameters`) or an older version
 * (`rope_theta`) wrote it. A config is foreign bytes: every field is bounded.
 */
import { z } from 'zod';
import { UserError } from '../errors.js';
import { parseJson } from '../json-file.js';

/** What decides the arithmetic of a Llama-family model. */
export interface ModelConfig {
  /** model_type "llama", or "mistral" without a sliding window, which is the same arithmetic. */
  architecture: 'llama';
  /** C: width of the residual stream, 1 to 65,536. */
  hiddenSize: number;
  /** Width inside the gated MLP, 1 to 1,048,576. */
  intermediateSize: number;
  /** 1 to 1,024. */
  layers: number;
  /** Query heads, 1 to 1,024; a multiple of keyValueHeads. */
  heads: number;
  keyValueHeads: number;
  /** Features of one head, even, 2 to 1,024; heads x headDim need not be hiddenSize. */
  headDim: number;
  /** Rows of the embedding, 2 to 4,194,304. */
  vocabSize: number;
  /** Longest sequence in tokens, 2 to 2^26. */
  maxPositions: number;
  /** Added to the mean square, above 0 and below 1. */
  rmsNormEps: number;
  /** Base of the rotary frequencies, 1 to 1e12. */
  ropeTheta: number;
  /** The output projection is the embedding. */
  tieWordEmbeddings: boolean;
  /** q, k, v and o projections have biases. */
  attentionBias: boolean;
  /** gate, up and down projections have biases. */
  mlpBias: boolean;
  hiddenAct: 'silu';
  bosTokenId: number | null;
  /** Ids that end a text; may be empty. */
  eosTokenIds: number[];
  padTokenId: number | null;
}

/** Bytes of a config.json: real ones have 1 to 5 KB. */
export const CONFIG_BYTES_MAX = 1024 * 1024;

const SUPPORTED =
  'supported: Llama-family models (model_type llama; mistral without a sliding window) with silu, plain rotary positions and unquantised weights';

/** Frequencies repeat every two features, so a head is split in pairs. */
const HEAD_DIM_MAX = 1024;
const VOCAB_SIZE_MAX = 1 << 22;
/** Transformers' LlamaConfig and MistralConfig, where a field may be left out. */
const DEFAULTS = { maxPositions: 2048, rmsNormEps: 1e-6, ropeTheta: 10_000, bos: 1, eos: 2 };
const MISTRAL_DEFAULTS = { keyValueHeads: 8, slidingWindow: 4096 };

function whole(min: number, max: number): z.ZodNumber {
  const error = `but must be a whole number from ${min} to ${max}`;
  return z.int({ error }).min(min, { error }).max(max, { error });
}

function between(min: number, max: number): z.ZodNumber {
  const error = `but must be a number from ${min} to ${max}`;
  return z.number({ error }).min(min, { error }).max(max, { error });
}

const flag = z.boolean({ error: 'but must be true or false' });
const tokenId = whole(0, VOCAB_SIZE_MAX - 1);
const object = { error: 'but must be a JSON object' };
const text = z.string({ error: 'but must be a string' });
const rope = z
  .looseObject(
    {
      rope_type: text.nullish(),
      type: text.nullish(),
      rope_theta: between(1, 1e12).nullish(),
      partial_rotary_factor: between(0, 1).nullish(),
    },
    object,
  )
  .nullish();

/** Only what says which kind of model it is, so that an unknown kind is named as such. */
const kindSchema = z.looseObject({ model_type: text }, object);

const schema = z.looseObject({
  model_type: text,
  hidden_size: whole(1, 65_536),
  intermediate_size: whole(1, 1 << 20),
  num_hidden_layers: whole(1, 1024),
  num_attention_heads: whole(1, 1024),
  num_key_value_heads: whole(1, 1024).nullish(),
  head_dim: whole(2, HEAD_DIM_MAX).nullish(),
  vocab_size: whole(2, VOCAB_SIZE_MAX),
  max_position_embeddings: whole(2, 1 << 26).nullish(),
  rms_norm_eps: between(1e-20, 0.1).nullish(),
  rope_theta: between(1, 1e12).nullish(),
  rope_parameters: rope,
  rope_scaling: rope,
  partial_rotary_factor: between(0, 1).nullish(),
  tie_word_embeddings: flag.nullish(),
  attention_bias: flag.nullish(),
  mlp_bias: flag.nullish(),
  hidden_act: text.nullish(),
  sliding_window: whole(1, 1 << 26).nullish(),
  quantization_config: z.unknown().optional(),
  bos_token_id: tokenId.nullish(),
  eos_token_id: z
    .union([tokenId, z.array(tokenId).max(64)], {
      error: 'but must be a token id or a list of at most 64 token ids',
    })
    .nullish(),
  pad_token_id: whole(-1, VOCAB_SIZE_MAX - 1).nullish(),
});
type RawConfig = z.infer<typeof schema>;

/**
 * `sourceName` is what errors call the bytes, mostly the path of config.json.
 * Throws UserError: not JSON, a field missing or out of bounds, or a model of another kind.
 */
export function readModelConfig(bytes: string | Uint8Array, sourceName: string): ModelConfig {
  if (bytes.length > CONFIG_BYTES_MAX) {
    throw new UserError(
      `${sourceName} has ${bytes.length} bytes, more than the ${CONFIG_BYTES_MAX} of a model config: it is another kind of file`,
    );
  }
  const kind = parseJson(bytes, sourceName, kindSchema).model_type;
  if (kind !== 'llama' && kind !== 'mistral') refuse(sourceName, `model_type "${kind}"`);
  const raw = parseJson(bytes, sourceName, schema);
  refuseUnsupported(raw, sourceName);
  const config = fromRaw(raw);
  checkRelations(config, sourceName);
  return config;
}

function refuse(sourceName: string, what: string): never {
  throw new UserError(`${sourceName}: ${what} is not supported; ${SUPPORTED}`);
}

function refuseUnsupported(raw: RawConfig, sourceName: string): void {
  if ((raw.hidden_act ?? 'silu') !== 'silu') {
    refuse(sourceName, `hidden_act "${raw.hidden_act ?? ''}"`);
  }
  for (const field of ['rope_parameters', 'rope_scaling'] as const) {
    const type = raw[field]?.rope_type ?? raw[field]?.type ?? 'default';
    if (type !== 'default') refuse(sourceName, `rotary scaling "${type}" (${field})`);
  }
  const rotary = raw.rope_parameters?.partial_rotary_factor ?? raw.partial_rotary_factor ?? 1;
  if (rotary !== 1) refuse(sourceName, `partial_rotary_factor ${rotary}`);
  const window =
    raw.sliding_window === undefined && raw.model_type === 'mistral'
      ? MISTRAL_DEFAULTS.slidingWindow
      : raw.sliding_window;
  if (window !== undefined && window !== null) refuse(sourceName, `sliding_window ${window}`);
  if (raw.quantization_config !== undefined && raw.quantization_config !== null) {
    refuse(sourceName, 'quantization_config');
  }
}

function fromRaw(raw: RawConfig): ModelConfig {
  const mistral = raw.model_type === 'mistral';
  const heads = raw.num_attention_heads;
  // A field that is absent has Transformers' default; one that is null says "none".
  const eos = raw.eos_token_id === undefined ? DEFAULTS.eos : raw.eos_token_id;
  return {
    architecture: 'llama',
    hiddenSize: raw.hidden_size,
    intermediateSize: raw.intermediate_size,
    layers: raw.num_hidden_layers,
    heads,
    keyValueHeads: raw.num_key_value_heads ?? (mistral ? MISTRAL_DEFAULTS.keyValueHeads : heads),
    headDim: raw.head_dim ?? raw.hidden_size / heads,
    vocabSize: raw.vocab_size,
    maxPositions: raw.max_position_embeddings ?? DEFAULTS.maxPositions,
    rmsNormEps: raw.rms_norm_eps ?? DEFAULTS.rmsNormEps,
    ropeTheta: raw.rope_parameters?.rope_theta ?? raw.rope_theta ?? DEFAULTS.ropeTheta,
    tieWordEmbeddings: raw.tie_word_embeddings ?? false,
    attentionBias: raw.attention_bias ?? false,
    mlpBias: raw.mlp_bias ?? false,
    hiddenAct: 'silu',
    bosTokenId: raw.bos_token_id === undefined ? DEFAULTS.bos : raw.bos_token_id,
    eosTokenIds: eos === null ? [] : Array.isArray(eos) ? eos : [eos],
    // Some older configs say "no padding token" with -1.
    padTokenId: (raw.pad_token_id ?? -1) < 0 ? null : (raw.pad_token_id ?? null),
  };
}

function checkRelations(config: ModelConfig, sourceName: string): void {
  const { heads, keyValueHeads, headDim, hiddenSize, vocabSize } = config;
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
  const ids = [config.bosTokenId, config.padTokenId, ...config.eosTokenIds];
  for (const id of ids) {
    if (id !== null && id >= vocabSize) {
      throw new UserError(
        `${sourceName}: token id ${id} (bos, eos or pad) is beyond vocab_size ${vocabSize}: get the model's own config.json`,
      );
    }
  }
}
