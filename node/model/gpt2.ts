/**
 * GPT-2 (Radford et al. 2019): layer normalisation, learned positions, one fused projection of queries,
 * keys and values, and a GELU MLP, with the arithmetic of Transformers. Its files hold W^T (Conv1D).
 */
import { z } from 'zod';
import type { LoraModule } from '../../protocol/adapter.js';
import type { Value } from '../engine/graph.js';
import { add, geluTanh, layerNorm, reshape, slice } from '../engine/ops/index.js';
import { UserError } from '../errors.js';
import { parseJson } from '../json-file.js';
import { attention, sightOf, type Sight } from './attention.js';
import {
  between,
  checkSpecialTokens,
  commonFields,
  flag,
  POSITIONS_MAX,
  readSpecialTokens,
  refuse,
  checkQuantisation,
  text,
  whole,
  type SpecialTokens,
} from './config-fields.js';
import type { CommonConfig, Family, LinearLayer, ModelInputs, ModelValues } from './family.js';
import type { Parameters } from './parameters.js';

/** model_type "gpt2"; maxPositions is the number of learned positions, hiddenSize a multiple of heads. */
export interface Gpt2Config extends CommonConfig {
  architecture: 'gpt2';
  /** Width inside the MLP, 1 to 1,048,576. */
  intermediateSize: number;
  /** Added to the variance, above 0 and below 1. */
  layerNormEps: number;
  hiddenAct: 'gelu_new';
}

/** The end-of-text token of the original vocabulary, and Transformers' default whatever the vocabulary. */
const END_OF_TEXT = 50_256;
const DEFAULTS = { positions: 1024, layerNormEps: 1e-5, bos: END_OF_TEXT, eos: END_OF_TEXT };
/** Two names of one function. */
const ACTIVATIONS = ['gelu_new', 'gelu_pytorch_tanh'];

const schema = z.looseObject({
  ...commonFields,
  n_embd: whole(1, 65_536),
  n_inner: whole(1, 1 << 20).nullish(),
  n_layer: whole(1, 1024),
  n_head: whole(1, 1024),
  n_positions: whole(2, POSITIONS_MAX).nullish(),
  layer_norm_epsilon: between(1e-20, 0.1).nullish(),
  activation_function: text.nullish(),
  scale_attn_weights: flag.nullish(),
  scale_attn_by_inverse_layer_idx: flag.nullish(),
  add_cross_attention: flag.nullish(),
});
type RawConfig = z.infer<typeof schema>;

function readConfig(bytes: string | Uint8Array, sourceName: string): Gpt2Config {
  const raw = parseJson(bytes, sourceName, schema);
  refuseUnsupported(raw, sourceName);
  const { n_embd: hiddenSize, n_head: heads, vocab_size: vocabSize } = raw;
  if (hiddenSize % heads !== 0) {
    throw new UserError(
      `${sourceName}: n_embd ${hiddenSize} is not a multiple of n_head ${heads}: get the model's own config.json`,
    );
  }
  const special = withoutForeignDefault(readSpecialTokens(raw, DEFAULTS), vocabSize);
  checkSpecialTokens(special, vocabSize, sourceName);
  return {
    architecture: 'gpt2',
    hiddenSize,
    intermediateSize: raw.n_inner ?? 4 * hiddenSize,
    layers: raw.n_layer,
    heads,
    vocabSize,
    maxPositions: raw.n_positions ?? DEFAULTS.positions,
    layerNormEps: raw.layer_norm_epsilon ?? DEFAULTS.layerNormEps,
    tieWordEmbeddings: raw.tie_word_embeddings ?? true,
    hiddenAct: 'gelu_new',
    ...special,
  };
}

function refuseUnsupported(raw: RawConfig, sourceName: string): void {
  const activation = raw.activation_function ?? 'gelu_new';
  if (!ACTIVATIONS.includes(activation)) {
    refuse(sourceName, `activation_function "${activation}"`, ACTIVATIONS.join(', '));
  }
  checkQuantisation(raw, sourceName);
  if (raw.scale_attn_weights === false) refuse(sourceName, 'scale_attn_weights false', 'true');
  for (const field of ['scale_attn_by_inverse_layer_idx', 'add_cross_attention'] as const) {
    if (raw[field] === true) refuse(sourceName, `${field} true`, 'false');
  }
}

/** Transformers writes its default into the config of every GPT-2; in a smaller vocabulary it means none. */
function withoutForeignDefault(special: SpecialTokens, vocabSize: number): SpecialTokens {
  const isForeign = (id: number | null): boolean => id === END_OF_TEXT && id >= vocabSize;
  return {
    ...special,
    bosTokenId: isForeign(special.bosTokenId) ? null : special.bosTokenId,
    eosTokenIds: special.eosTokenIds.filter((id) => !isForeign(id)),
  };
}

const OUTPUT_LAYER = 'lm_head';
const PREFIX = 'transformer.';

/** As Family.linearLayers: c_attn, c_proj, c_fc and c_proj of each block. */
function linearLayers(config: Gpt2Config): LinearLayer[] {
  const { hiddenSize, intermediateSize, vocabSize } = config;
  const block: [name: string, inFeatures: number, outFeatures: number, isSensitive: boolean][] = [
    ['attn.c_attn', hiddenSize, 3 * hiddenSize, true],
    ['attn.c_proj', hiddenSize, hiddenSize, false],
    ['mlp.c_fc', hiddenSize, intermediateSize, false],
    ['mlp.c_proj', intermediateSize, hiddenSize, true],
  ];
  const layers = Array.from({ length: config.layers }, (_, index) =>
    block.map(([layer, inFeatures, outFeatures, isSensitive]): LinearLayer => {
      const name = `${PREFIX}h.${index}.${layer}`;
      return { name, inFeatures, outFeatures, bias: true, transposed: true, isSensitive };
    }),
  ).flat();
  if (config.tieWordEmbeddings) return layers;
  const output = { inFeatures: hiddenSize, outFeatures: vocabSize, bias: false };
  return [...layers, { name: OUTPUT_LAYER, ...output, transposed: false, isSensitive: true }];
}

/** Whether these are layers whose files hold W^T, which PEFT calls fan_in_fan_out. */
export function isFanInFanOut(modules: readonly LoraModule[]): boolean {
  return modules.some(({ name }) => /^transformer\.h\.\d+\.(attn|mlp)\.c_/.test(name));
}

function build(config: Gpt2Config, parameters: Parameters, inputs: ModelInputs): ModelValues {
  // Checkpoints of the model without its output layer have no prefix, the published ones among them.
  const hasPrefix = !parameters.has('wte.weight');
  const named = hasPrefix
    ? parameters
    : parameters.renamed((name) => (name.startsWith(OUTPUT_LAYER) ? name : PREFIX + name));
  return new Gpt2(config, named, inputs).build();
}

class Gpt2 {
  private readonly sight: Sight;

  constructor(
    private readonly config: Gpt2Config,
    private readonly parameters: Parameters,
    private readonly inputs: ModelInputs,
  ) {
    this.sight = sightOf(inputs, 1);
  }

  build(): ModelValues {
    const { layers, vocabSize, hiddenSize, maxPositions, tieWordEmbeddings } = this.config;
    const { parameters, inputs } = this;
    const embedding = parameters.weight(`${PREFIX}wte.weight`, [vocabSize, hiddenSize]);
    const places = parameters.weight(`${PREFIX}wpe.weight`, [maxPositions, hiddenSize]);
    const embedded = add(
      parameters.rows(embedding, inputs.tokens),
      parameters.rows(places, inputs.positions),
    );
    const [B, T] = inputs.tokens.shape as [number, number];
    let x = reshape(embedded, [B * T, hiddenSize]);
    const stream = [x];
    for (let index = 0; index < layers; index++) {
      const block = `${PREFIX}h.${index}`;
      x = add(x, this.attention(`${block}.attn`, this.norm(x, `${block}.ln_1`)));
      x = add(x, this.mlp(`${block}.mlp`, this.norm(x, `${block}.ln_2`)));
      stream.push(x);
    }
    const table = tieWordEmbeddings
      ? parameters.tiedTable(OUTPUT_LAYER, embedding)
      : parameters.outputTable(OUTPUT_LAYER);
    return { hidden: this.norm(x, `${PREFIX}ln_f`), stream, table };
  }

  /** x: [N, C] -> [N, C]. */
  private attention(name: string, x: Value): Value {
    const { hiddenSize, heads } = this.config;
    const fused = this.parameters.linear(`${name}.c_attn`, x); // [N, 3 C]: q, k, v
    const part = (index: number): Value =>
      slice(fused, 1, index * hiddenSize, (index + 1) * hiddenSize);
    const shape = { heads, keyValueHeads: heads, headDim: hiddenSize / heads };
    const [q, k, v] = [part(0), part(1), part(2)];
    const context = attention({ q, k, v, sight: this.sight, cache: this.inputs.cache }, shape);
    return this.parameters.linear(`${name}.c_proj`, context);
  }

  /** x: [N, C] -> [N, C]. */
  private mlp(name: string, x: Value): Value {
    const inner = geluTanh(this.parameters.linear(`${name}.c_fc`, x));
    return this.parameters.linear(`${name}.c_proj`, inner);
  }

  private norm(x: Value, name: string): Value {
    const { hiddenSize, layerNormEps } = this.config;
    const [weight, bias] = ['weight', 'bias'].map((part) =>
      this.parameters.weight(`${name}.${part}`, [hiddenSize]),
    ) as [Value, Value];
    return layerNorm(x, weight, bias, layerNormEps);
  }
}

export const gpt2: Family<Gpt2Config> = { modelTypes: ['gpt2'], readConfig, linearLayers, build };
