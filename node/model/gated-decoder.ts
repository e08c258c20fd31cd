/**
 * What Llama (Touvron et al. 2023) and its descendants share: RMS normalisation, rotary positions,
 * grouped-query attention and a gated MLP, with the arithmetic of Transformers. A family says which layers
 * have biases, and how else it departs from Llama.
 */
import { scalar, type Value } from '../engine/graph.js';
import {
  add,
  concat,
  geluTanh,
  mul,
  reshape,
  rmsNorm,
  rotary,
  slice,
  swiglu,
} from '../engine/ops/index.js';
import { attention, sightOf, type Sight } from './attention.js';
import type { LinearLayer, ModelInputs, ModelValues } from './family.js';
import type { GatedConfig } from './gated-config.js';
import type { Parameters } from './parameters.js';
import { rotaryTables, tablesAt } from './rope.js';

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
/** The same with one layer for queries, keys and values, and one for gate and up. */
export const FUSED_BLOCK = [
  'self_attn.qkv_proj',
  'self_attn.o_proj',
  'mlp.gate_up_proj',
  'mlp.down_proj',
] as const;
/** See LinearLayer. */
const SENSITIVE: readonly string[] = [
  'self_attn.q_proj',
  'self_attn.k_proj',
  'self_attn.v_proj',
  'self_attn.qkv_proj',
  'mlp.down_proj',
];
/** The name of a layer inside a block. */
export type BlockLayer = (typeof BLOCK)[number] | (typeof FUSED_BLOCK)[number];

const OUTPUT_LAYER = 'lm_head';

/** As Family.linearLayers; `hasBias` says which layers of a block have a bias. */
export function gatedLayers(
  config: GatedConfig,
  hasBias: (layer: BlockLayer) => boolean,
  block: readonly BlockLayer[] = BLOCK,
): LinearLayer[] {
  const { hiddenSize, intermediateSize, vocabSize } = config;
  const [query, keyValue] = attentionWidths(config);
  const features: Record<BlockLayer, [number, number]> = {
    'self_attn.q_proj': [hiddenSize, query],
    'self_attn.k_proj': [hiddenSize, keyValue],
    'self_attn.v_proj': [hiddenSize, keyValue],
    'self_attn.qkv_proj': [hiddenSize, query + 2 * keyValue],
    'self_attn.o_proj': [query, hiddenSize],
    'mlp.gate_proj': [hiddenSize, intermediateSize],
    'mlp.up_proj': [hiddenSize, intermediateSize],
    'mlp.gate_up_proj': [hiddenSize, 2 * intermediateSize],
    'mlp.down_proj': [intermediateSize, hiddenSize],
  };
  const layers = Array.from({ length: config.layers }, (_, index) =>
    block.map((layer): LinearLayer => {
      const [inFeatures, outFeatures] = features[layer];
      const name = `model.layers.${index}.${layer}`;
      const isSensitive = SENSITIVE.includes(layer);
      return {
        name,
        inFeatures,
        outFeatures,
        bias: hasBias(layer),
        transposed: false,
        isSensitive,
      };
    }),
  ).flat();
  if (config.tieWordEmbeddings) return layers;
  const output = { inFeatures: hiddenSize, outFeatures: vocabSize, bias: false };
  return [...layers, { name: OUTPUT_LAYER, ...output, transposed: false, isSensitive: true }];
}

/** Features of all query heads, and of all key (or value) heads. */
function attentionWidths({ heads, keyValueHeads, headDim }: GatedConfig): [number, number] {
  return [heads * headDim, keyValueHeads * headDim];
}

/** How a family departs from Llama, beside what its config says. */
export interface GatedVariant {
  /** Queries and keys have an RMSNorm (q_norm, k_norm) over each head, or over all heads together. */
  readonly headNorms?: 'each' | 'together';
  /** The layers of a block are FUSED_BLOCK. */
  readonly fused?: boolean;
  /** What embeddings are multiplied by. Default: 1. */
  readonly embeddingScale?: number;
  /** What attention and MLP add to the stream is multiplied by it. Default: 1. */
  readonly residualScale?: number;
  /** Attention scores, and logits, are bounded by softcap; null or absent: they are not. */
  readonly scoreCap?: number | null;
  readonly logitCap?: number | null;
  /** What logits are divided by. Default: 1. */
  readonly logitDivisor?: number;
  /** RMSNorm multiplies by 1 + weight. */
  readonly offsetNorms?: boolean;
  /** Whether what attention and MLP read is normalised, what they add to the stream, or both. Default: 'inputs'. */
  readonly norms?: 'inputs' | 'outputs' | 'both';
}

/** As Family.build. */
export function buildGated(
  config: GatedConfig,
  parameters: Parameters,
  inputs: ModelInputs,
  variant: GatedVariant = {},
): ModelValues {
  return new GatedDecoder(config, parameters, inputs, variant).build();
}

/** What a layer knows of positions. */
interface View {
  readonly sight: Sight;
  /** As rotaryTables makes them. */
  readonly rotation: readonly [cos: Value, sin: Value];
}

class GatedDecoder {
  private readonly batchSize: number;
  private readonly length: number;
  /** By the window of a layer. */
  private readonly views: ReadonlyMap<number | null, View>;

  constructor(
    private readonly config: GatedConfig,
    private readonly parameters: Parameters,
    private readonly inputs: ModelInputs,
    private readonly variant: GatedVariant,
  ) {
    [this.batchSize, this.length] = inputs.tokens.shape as [number, number];
    const windows = [...new Set(config.windows ?? [null])];
    this.views = new Map(windows.map((window) => [window, this.view(window)]));
  }

  private view(window: number | null): View {
    const { heads, keyValueHeads, headDim, rotaryDim, localRope } = this.config;
    const { ropeTheta: theta, ropeScaling: scaling } = this.config;
    const rope = (window === null ? null : localRope) ?? { theta, scaling };
    const { cache, positions } = this.inputs;
    const places = cache?.capacity ?? this.length;
    const tables = rotaryTables(places, rotaryDim ?? headDim, rope.theta, rope.scaling);
    return {
      sight: sightOf(this.inputs, heads / keyValueHeads, window),
      // Whole sequences lie in the order of the tables, for only differences of places count.
      rotation: cache === undefined ? tables : tablesAt(positions, tables),
    };
  }

  build(): ModelValues {
    const { layers, vocabSize, hiddenSize, tieWordEmbeddings } = this.config;
    const embedding = this.parameters.weight('model.embed_tokens.weight', [vocabSize, hiddenSize]);
    const embedded = this.parameters.rows(embedding, this.inputs.tokens);
    let x = reshape(embedded, [this.batchSize * this.length, hiddenSize]);
    x = scaled(x, this.variant.embeddingScale ?? 1);
    const stream = [x];
    for (let index = 0; index < layers; index++) {
      x = this.block(index, x);
      stream.push(x);
    }
    const hidden = scaled(this.norm(x, 'model.norm'), 1 / (this.variant.logitDivisor ?? 1));
    const table = tieWordEmbeddings
      ? this.parameters.tiedTable(OUTPUT_LAYER, embedding)
      : this.parameters.outputTable(OUTPUT_LAYER);
    return { hidden, stream, table, logitCap: this.variant.logitCap ?? null };
  }

  /** x: [N, C] -> [N, C]. */
  private block(index: number, x: Value): Value {
    const name = `model.layers.${index}`;
    const { norms = 'inputs', residualScale = 1 } = this.variant;
    const norm = (layer: string, value: Value): Value => this.norm(value, `${name}.${layer}`);
    const mlp = (value: Value): Value => this.mlp(`${name}.mlp`, value);
    const plus = (value: Value, more: Value): Value => add(value, scaled(more, residualScale));
    const context = this.attention(index, norms === 'outputs' ? x : norm('input_layernorm', x));
    if (norms === 'inputs') {
      const attended = plus(x, context);
      return plus(attended, mlp(norm('post_attention_layernorm', attended)));
    }
    const attended = plus(x, norm('post_attention_layernorm', context));
    const inner = mlp(norms === 'outputs' ? attended : norm('pre_feedforward_layernorm', attended));
    return plus(attended, norm('post_feedforward_layernorm', inner));
  }

  /** x: [N, C] -> [N, C]. */
  private attention(index: number, x: Value): Value {
    const name = `model.layers.${index}.self_attn`;
    const { sight, rotation } = this.views.get(this.config.windows?.[index] ?? null)!;
    const [queries, keys, v] = this.projections(name, x);
    const isRotated = this.config.unrotated?.includes(index) !== true;
    const placed = (x: Value): Value => (isRotated ? this.rotate(x, rotation) : x);
    const q = placed(this.headNorm(`${name}.q_norm`, queries));
    const k = placed(this.headNorm(`${name}.k_norm`, keys));
    const shape = { ...this.config, scoreCap: this.variant.scoreCap ?? null };
    const context = attention({ q, k, v, sight, cache: this.inputs.cache }, shape);
    return this.linear(`${name}.o_proj`, context);
  }

  /** x: [N, C] -> queries, keys and values, [N, H D] each. */
  private projections(name: string, x: Value): [Value, Value, Value] {
    if (!this.variant.fused) {
      const layers = ['q_proj', 'k_proj', 'v_proj'].map((layer) => `${name}.${layer}`);
      return this.parameters.linears(layers, x) as [Value, Value, Value];
    }
    const fused = this.linear(`${name}.qkv_proj`, x);
    const [query, keyValue] = attentionWidths(this.config);
    return [
      slice(fused, 1, 0, query),
      slice(fused, 1, query, query + keyValue),
      slice(fused, 1, query + keyValue, query + 2 * keyValue),
    ];
  }

  /** x: [N, C] -> [N, C]. */
  private mlp(name: string, x: Value): Value {
    const [gate, up] = this.gateAndUp(name, x);
    const inner = this.config.hiddenAct === 'silu' ? swiglu(gate, up) : mul(geluTanh(gate), up);
    return this.linear(`${name}.down_proj`, inner);
  }

  /** x: [N, C] -> [N, intermediateSize] each. */
  private gateAndUp(name: string, x: Value): [Value, Value] {
    const { intermediateSize } = this.config;
    if (!this.variant.fused) {
      return this.parameters.linears([`${name}.gate_proj`, `${name}.up_proj`], x) as [Value, Value];
    }
    const fused = this.linear(`${name}.gate_up_proj`, x);
    return [
      slice(fused, 1, 0, intermediateSize),
      slice(fused, 1, intermediateSize, 2 * intermediateSize),
    ];
  }

  /** x: [N, H D] -> the same, normalised where the family does so. */
  private headNorm(name: string, x: Value): Value {
    if (this.variant.headNorms === undefined) return x;
    if (this.variant.headNorms === 'together') return this.norm(x, name);
    const { headDim } = this.config;
    const [rows, width] = x.shape as [number, number];
    const perHead = reshape(x, [(rows * width) / headDim, headDim]);
    return reshape(this.norm(perHead, name), [rows, width]);
  }

  /** x: [N, H D] -> [B, T, H D]. */
  private rotate(x: Value, [cos, sin]: View['rotation']): Value {
    const { headDim, rotaryDim } = this.config;
    const [B, T, width] = [this.batchSize, this.length, x.shape[1]!];
    if (rotaryDim === null) return rotary(reshape(x, [B, T, width]), cos, sin);
    const heads = width / headDim;
    const perHead = reshape(x, [B, T, heads, headDim]);
    const first = reshape(slice(perHead, 3, 0, rotaryDim), [B, T, heads * rotaryDim]);
    const rotated = reshape(rotary(first, cos, sin), [B, T, heads, rotaryDim]);
    const rest = slice(perHead, 3, rotaryDim, headDim);
    return reshape(concat([rotated, rest], 3), [B, T, width]);
  }

  /** x: [..., C] -> the same shape. */
  private norm(x: Value, name: string): Value {
    const weight = this.parameters.weight(`${name}.weight`, x.shape.slice(-1));
    const scale = this.variant.offsetNorms ? add(weight, scalar(1)) : weight;
    return rmsNorm(x, scale, this.config.rmsNormEps);
  }

  private linear(name: string, x: Value): Value {
    return this.parameters.linear(name, x);
  }
}

function scaled(x: Value, factor: number): Value {
  return factor === 1 ? x : mul(x, scalar(factor));
}
