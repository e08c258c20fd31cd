/** The shapes of well-known models: their config.json, and the tensors that their weight files hold. */
import { UserError, EXIT_USAGE } from '../errors.js';
import { readModelConfig, type ModelConfig } from '../model/config.js';
import { decoderOf } from '../model/families.js';
import type { TensorEntry, WeightIndex } from '../model/safetensors.js';

type ModelType = 'llama' | 'mistral' | 'qwen2' | 'qwen3' | 'phi3' | 'gemma3_text';

/** As Transformers calls them. */
const ARCHITECTURES: Readonly<Record<ModelType, string>> = {
  llama: 'Llama',
  mistral: 'Mistral',
  qwen2: 'Qwen2',
  qwen3: 'Qwen3',
  phi3: 'Phi3',
  gemma3_text: 'Gemma3',
};

export interface ModelShape {
  readonly modelType: ModelType;
  readonly hidden: number;
  readonly intermediate: number;
  readonly layers: number;
  readonly heads: number;
  readonly keyValueHeads: number;
  readonly headDim: number;
  readonly vocabulary: number;
  readonly tied: boolean;
  /** Fields of config.json beside those above. */
  readonly more?: Readonly<Record<string, unknown>>;
}

function shape(
  modelType: ModelShape['modelType'],
  sizes: readonly [number, number, number, number, number, number, number],
  tied: boolean,
  more?: Readonly<Record<string, unknown>>,
): ModelShape {
  const [hidden, intermediate, layers, heads, keyValueHeads, headDim, vocabulary] = sizes;
  const counts = { layers, heads, keyValueHeads, headDim, vocabulary };
  return { modelType, hidden, intermediate, ...counts, tied, ...(more && { more }) };
}

const QWEN2 = { rope_theta: 1e6, rms_norm_eps: 1e-6, max_position_embeddings: 32_768 };
const QWEN3 = { rope_theta: 1e6, rms_norm_eps: 1e-6, max_position_embeddings: 40_960 };
const LLAMA_3 = {
  rope_theta: 500_000,
  max_position_embeddings: 131_072,
  rope_scaling: {
    ...{ rope_type: 'llama3', factor: 8, low_freq_factor: 1, high_freq_factor: 4 },
    original_max_position_embeddings: 8192,
  },
};
const LLAMA_3_2 = { ...LLAMA_3, rope_scaling: { ...LLAMA_3.rope_scaling, factor: 32 } };
const MISTRAL = { rope_theta: 1e6, max_position_embeddings: 32_768, sliding_window: null };
// Without the factors of its LongRoPE, which change no size.
const PHI3 = { max_position_embeddings: 4096, sliding_window: 262_144 };
const GEMMA3 = {
  max_position_embeddings: 131_072,
  hidden_activation: 'gelu_pytorch_tanh',
  ...{ sliding_window: 1024, sliding_window_pattern: 6, query_pre_attn_scalar: 256 },
};
const SMOLLM2 = { rope_theta: 100_000, max_position_embeddings: 8192 };

/** By name: hidden, intermediate, layers, heads, key-value heads, width of a head, vocabulary. */
export const MODEL_SHAPES: ReadonlyMap<string, ModelShape> = new Map([
  ['SmolLM2-135M', shape('llama', [576, 1536, 30, 9, 3, 64, 49_152], true, SMOLLM2)],
  ['SmolLM2-360M', shape('llama', [960, 2560, 32, 15, 5, 64, 49_152], true, SMOLLM2)],
  ['Qwen2.5-0.5B', shape('qwen2', [896, 4864, 24, 14, 2, 64, 151_936], true, QWEN2)],
  ['Qwen3-0.6B', shape('qwen3', [1024, 3072, 28, 16, 8, 128, 151_936], true, QWEN3)],
  ['Llama-3.2-1B', shape('llama', [2048, 8192, 16, 32, 8, 64, 128_256], true, LLAMA_3_2)],
  ['Qwen2.5-1.5B', shape('qwen2', [1536, 8960, 28, 12, 2, 128, 151_936], true, QWEN2)],
  ['Phi-3.5-mini', shape('phi3', [3072, 8192, 32, 32, 32, 96, 32_064], false, PHI3)],
  ['Gemma-3-4B', shape('gemma3_text', [2560, 10_240, 34, 8, 4, 256, 262_208], true, GEMMA3)],
  ['Mistral-7B', shape('mistral', [4096, 14_336, 32, 32, 8, 128, 32_768], false, MISTRAL)],
  ['Qwen2.5-7B', shape('qwen2', [3584, 18_944, 28, 28, 4, 128, 152_064], false, QWEN2)],
  ['Llama-3.1-8B', shape('llama', [4096, 14_336, 32, 32, 8, 128, 128_256], false, LLAMA_3)],
  ['Qwen3-8B', shape('qwen3', [4096, 12_288, 36, 32, 8, 128, 151_936], false, QWEN3)],
]);

/** The shape called `name`, in any case. Throws UserError. */
export function namedShape(name: string): ModelShape {
  for (const [known, one] of MODEL_SHAPES) {
    if (known.toLowerCase() === name.toLowerCase()) return one;
  }
  const known = [...MODEL_SHAPES.keys()].join(', ');
  throw new UserError(`unknown model shape "${name}": choose one of ${known}`, EXIT_USAGE);
}

/** Standard deviation of the weights, as config.json states it. */
export const INITIALIZER_RANGE = 0.02;

/** As config.json has it. */
export function configJson(one: ModelShape): Record<string, unknown> {
  return {
    architectures: [`${ARCHITECTURES[one.modelType]}ForCausalLM`],
    model_type: one.modelType,
    ...{ hidden_size: one.hidden, intermediate_size: one.intermediate },
    ...{ num_hidden_layers: one.layers, num_attention_heads: one.heads },
    ...{ num_key_value_heads: one.keyValueHeads, head_dim: one.headDim },
    ...{ vocab_size: one.vocabulary, tie_word_embeddings: one.tied },
    ...{ hidden_act: 'silu', rms_norm_eps: 1e-5, initializer_range: INITIALIZER_RANGE },
    ...{ attention_bias: false, attention_dropout: 0, use_cache: true },
    ...{ bos_token_id: 0, eos_token_id: 0, pad_token_id: 0, dtype: 'bfloat16' },
    ...one.more,
  };
}

export function configOf(one: ModelShape, name: string): ModelConfig {
  return readModelConfig(JSON.stringify(configJson(one)), name);
}

/** Bytes of a weight in a file of such a model: bf16. */
const WEIGHT_BYTES = 2;

/** The weights of a shape, as an index of files that nobody reads: to plan with. */
export function weightsOf(config: ModelConfig, one: ModelShape): WeightIndex {
  return new Map(
    tensorsOf(config, one).map(({ name, shape: sizes }): [string, TensorEntry] => {
      const length = sizes.reduce((product, n) => product * n, WEIGHT_BYTES);
      return [name, { name, dtype: 'BF16', shape: sizes, file: name, offset: 0, length }];
    }),
  );
}

export interface ShapedTensor {
  readonly name: string;
  readonly shape: readonly number[];
  /** A norm's factors, the bias of a linear layer, the table of embeddings, or a linear layer's weights. */
  readonly kind: 'norm' | 'bias' | 'embedding' | 'linear';
}

/** The tensors of the weight files, in the order of the layers. */
export function tensorsOf(config: ModelConfig, one: ModelShape): ShapedTensor[] {
  const { hidden, headDim, vocabulary } = one;
  const tensors: ShapedTensor[] = [];
  const norm = (name: string, width: number): void => {
    tensors.push({ name: `${name}.weight`, shape: [width], kind: 'norm' });
  };
  const table = 'model.embed_tokens.weight';
  tensors.push({ name: table, shape: [vocabulary, hidden], kind: 'embedding' });
  const linear = decoderOf(config).layers;
  for (let i = 0; i < one.layers; i++) {
    const layer = `model.layers.${i}`;
    norm(`${layer}.input_layernorm`, hidden);
    norm(`${layer}.post_attention_layernorm`, hidden);
    if (one.modelType === 'gemma3_text') {
      for (const side of ['pre', 'post']) norm(`${layer}.${side}_feedforward_layernorm`, hidden);
    }
    if (one.modelType === 'qwen3' || one.modelType === 'gemma3_text') {
      for (const head of ['q_norm', 'k_norm']) norm(`${layer}.self_attn.${head}`, headDim);
    }
    addLinear(linear.filter(({ name }) => name.startsWith(`${layer}.`)));
  }
  norm('model.norm', hidden);
  addLinear(linear.filter(({ name }) => !name.startsWith('model.layers.')));
  return tensors;

  function addLinear(layers: typeof linear): void {
    for (const { name, inFeatures, outFeatures, bias } of layers) {
      const weight = [outFeatures, inFeatures];
      tensors.push({ name: `${name}.weight`, shape: weight, kind: 'linear' });
      if (bias) tensors.push({ name: `${name}.bias`, shape: [outFeatures], kind: 'bias' });
    }
  }
}
