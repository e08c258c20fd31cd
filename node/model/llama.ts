/**
 * The Llama family (Touvron et al. 2023) as graph: RMS normalisation, rotary positions, grouped-query
 * attention and a SiLU-gated MLP, with the arithmetic of Hugging Face's LlamaForCausalLM.
 */
import { constant, scalar, weight, type Value } from '../engine/graph.js';
import {
  add,
  equal,
  gather,
  matmul,
  mul,
  reshape,
  rmsNorm,
  rotary,
  select,
  silu,
  softmax,
  transpose,
} from '../engine/ops/index.js';
import type { ModelConfig } from './config.js';
import {
  blockLayer,
  linear,
  mergedWeight,
  outputLayer,
  type AdapterValues,
  type BlockLayer,
  type LinearLayer,
} from './lora.js';
import { findWeight } from './llama-weights.js';
import type { WeightIndex } from './safetensors.js';

/** Tokens of one run: B sequences of T. */
export interface BatchShape {
  readonly batchSize: number;
  readonly sequenceLength: number;
}

/** Stands for -infinity in the attention mask: e^-1e9 is 0 in float32, and 0 times it is no NaN. */
const MASKED = -1e9;

/** What the model computes. */
export interface LlamaValues {
  /** The last hidden state, normalised: [B T, C] float32. */
  readonly hidden: Value;
  /** The output layer's weight, adapter merged: [V, C] float32; logits = hidden table^T. */
  readonly table: Value;
}

/**
 * tokens: [B, T] int32; segments: [B, T] int32, where position t sees the positions s <= t of its own
 * segment. Throws UserError for a weight that is missing or of another shape.
 */
export function llama(
  config: ModelConfig,
  weights: WeightIndex,
  adapter: AdapterValues,
  { tokens, segments }: { tokens: Value; segments: Value },
): LlamaValues {
  return new Llama(config, weights, adapter, tokens, segments).build();
}

class Llama {
  private readonly batchSize: number;
  private readonly length: number;
  private readonly mask: Value;
  private readonly cos: Value;
  private readonly sin: Value;

  constructor(
    private readonly config: ModelConfig,
    private readonly weights: WeightIndex,
    private readonly adapter: AdapterValues,
    private readonly tokens: Value,
    segments: Value,
  ) {
    [this.batchSize, this.length] = tokens.shape as [number, number];
    this.mask = attentionMask(segments);
    [this.cos, this.sin] = rotaryTables(this.length, config.headDim, config.ropeTheta);
  }

  build(): LlamaValues {
    const { layers, vocabSize, hiddenSize, rmsNormEps } = this.config;
    const embedding = this.weight('model.embed_tokens.weight', [vocabSize, hiddenSize]);
    let x = reshape(gather(embedding, this.tokens), [this.batchSize * this.length, hiddenSize]);
    for (let index = 0; index < layers; index++) {
      x = add(x, this.attention(index, this.norm(x, `model.layers.${index}.input_layernorm`)));
      x = add(x, this.mlp(index, this.norm(x, `model.layers.${index}.post_attention_layernorm`)));
    }
    const last = this.weight('model.norm.weight', [hiddenSize]);
    return { hidden: rmsNorm(x, last, rmsNormEps), table: this.table(embedding) };
  }

  /** x: [N, C] -> [N, C]. */
  private attention(index: number, x: Value): Value {
    const { heads, keyValueHeads, headDim } = this.config;
    const [B, T] = [this.batchSize, this.length];
    // Query heads of one key/value head lie side by side, so keys and values need no copies.
    const group = heads / keyValueHeads;
    const q = this.rotate(this.linear(index, 'self_attn.q_proj', x));
    const k = this.rotate(this.linear(index, 'self_attn.k_proj', x));
    const v = this.linear(index, 'self_attn.v_proj', x);
    const queries = reshape(
      transpose(reshape(q, [B, T, keyValueHeads, group, headDim]), [0, 2, 3, 1, 4]),
      [B, keyValueHeads, group * T, headDim],
    );
    const perHead = (y: Value): Value =>
      transpose(reshape(y, [B, T, keyValueHeads, headDim]), [0, 2, 1, 3]); // [B, KV, T, D]
    const scores = matmul(queries, perHead(k), { transB: true, alpha: 1 / Math.sqrt(headDim) });
    const grouped = reshape(scores, [B, keyValueHeads, group, T, T]);
    const attended = matmul(
      reshape(softmax(add(grouped, this.mask)), [B, keyValueHeads, group * T, T]),
      perHead(v),
    );
    const context = transpose(
      reshape(attended, [B, keyValueHeads, group, T, headDim]),
      [0, 3, 1, 2, 4],
    ); // [B, T, KV, G, D]
    return this.linear(index, 'self_attn.o_proj', reshape(context, [B * T, heads * headDim]));
  }

  /** x: [N, C] -> [N, C]. */
  private mlp(index: number, x: Value): Value {
    const gate = silu(this.linear(index, 'mlp.gate_proj', x));
    return this.linear(index, 'mlp.down_proj', mul(gate, this.linear(index, 'mlp.up_proj', x)));
  }

  /** x: [N, H D] -> [B, T, H D]. */
  private rotate(x: Value): Value {
    const width = x.shape[1]!;
    return rotary(reshape(x, [this.batchSize, this.length, width]), this.cos, this.sin);
  }

  private norm(x: Value, name: string): Value {
    const { hiddenSize, rmsNormEps } = this.config;
    return rmsNorm(x, this.weight(`${name}.weight`, [hiddenSize]), rmsNormEps);
  }

  private linear(index: number, layerName: BlockLayer, x: Value): Value {
    const layer = blockLayer(this.config, index, layerName);
    const bias = layer.bias ? this.weight(`${layer.name}.bias`, [layer.outFeatures]) : null;
    return linear(x, this.layerWeight(layer), bias, this.adapter.factors.get(layer.name));
  }

  private table(embedding: Value): Value {
    const layer = outputLayer(this.config);
    if (layer === null) return embedding;
    return mergedWeight(this.layerWeight(layer), this.adapter.factors.get(layer.name));
  }

  private layerWeight(layer: LinearLayer): Value {
    return this.weight(`${layer.name}.weight`, [layer.outFeatures, layer.inFeatures]);
  }

  private weight(name: string, shape: readonly number[]): Value {
    return weight(findWeight(this.weights, name, shape));
  }
}

/** segments: [B, T] int32 -> [B, 1, 1, T, T] float32: 0 where row t may see column s, else MASKED. */
function attentionMask(segments: Value): Value {
  const [B, T] = segments.shape as [number, number];
  const causal = new Float32Array(T * T);
  for (let t = 0; t < T; t++) causal.fill(MASKED, t * T + t + 1, (t + 1) * T);
  const same = equal(reshape(segments, [B, 1, 1, T, 1]), reshape(segments, [B, 1, 1, 1, T]));
  return select(same, constant(causal, [T, T]), scalar(MASKED));
}

/** cos and sin of position x theta^(-2 i / D): [T, D / 2] float32 each. */
function rotaryTables(length: number, headDim: number, ropeTheta: number): [Value, Value] {
  const half = headDim / 2;
  const angles = Float64Array.from({ length: length * half }, (_, i) => {
    const frequency = ropeTheta ** (-(i % half) / half);
    return Math.floor(i / half) * frequency;
  });
  const table = (f: (angle: number) => number): Value =>
    constant(Float32Array.from(angles, f), [length, half]);
  return [table(Math.cos), table(Math.sin)];
}
