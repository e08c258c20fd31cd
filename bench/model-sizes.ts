/**
 * What training well-known models takes, predicted from their configs alone by the code that plans memory:
 * LoRA r = 8 on all linear layers, the default batch of 8 x 128 tokens. The table of docs/MODELS.md.
 * npm run bench:models
 */
import type { Program } from '../node/engine/executor.js';
import { openExecutor } from '../node/engine/open-executor.js';
import { readModelConfig, type ModelConfig } from '../node/model/config.js';
import { decoderOf } from '../node/model/families.js';
import { openLanguageModel } from '../node/model/language-model.js';
import { loraModules } from '../node/model/lora.js';
import type { MemoryMode } from '../node/model/memory-mode.js';
import type { TensorEntry, WeightIndex } from '../node/model/safetensors.js';
import { planMemory, size, type MemoryPlan } from '../node/train/memory.js';
import { adapterLayout } from '../protocol/adapter.js';

const BATCH = { batchSize: 8, sequenceLength: 128 };
/** Bytes of a weight in a file of such a model: bf16. */
const WEIGHT_BYTES = 2;

/** Sizes as their config.json has them: hidden, intermediate, layers, heads, key-value heads, width of a head, vocabulary. */
const MODELS: readonly [string, string, readonly number[]][] = [
  ['SmolLM2-135M', 'llama', [576, 1536, 30, 9, 3, 64, 49_152]],
  ['SmolLM2-360M', 'llama', [960, 2560, 32, 15, 5, 64, 49_152]],
  ['Qwen2.5-0.5B', 'qwen2', [896, 4864, 24, 14, 2, 64, 151_936]],
  ['Qwen3-0.6B', 'qwen3', [1024, 3072, 28, 16, 8, 128, 151_936]],
  ['Llama-3.2-1B', 'llama', [2048, 8192, 16, 32, 8, 64, 128_256]],
  ['Qwen2.5-1.5B', 'qwen2', [1536, 8960, 28, 12, 2, 128, 151_936]],
];

function configOf(type: string, sizes: readonly number[]): ModelConfig {
  const [hidden, intermediate, layers, heads, keyValueHeads, headDim, vocabulary] = sizes;
  const config = {
    model_type: type,
    ...{ hidden_size: hidden, intermediate_size: intermediate, num_hidden_layers: layers },
    ...{ num_attention_heads: heads, num_key_value_heads: keyValueHeads, head_dim: headDim },
    ...{ vocab_size: vocabulary, max_position_embeddings: 8192, tie_word_embeddings: true },
    ...{ hidden_act: 'silu', rms_norm_eps: 1e-5, bos_token_id: 0, eos_token_id: 0 },
    rope_theta: 10_000,
  };
  return readModelConfig(JSON.stringify(config), type);
}

/** The weights that the families above have, as an index of files that nobody reads. */
function weightsOf(config: ModelConfig, sizes: readonly number[]): WeightIndex {
  const [hidden = 0, , layers = 0, , , headDim = 0, vocabulary = 0] = sizes;
  const entries = new Map<string, TensorEntry>();
  const add = (name: string, shape: readonly number[]): void => {
    const length = shape.reduce((product, n) => product * n, WEIGHT_BYTES);
    entries.set(name, { name, dtype: 'BF16', shape, file: '', offset: 0, length });
  };
  add('model.embed_tokens.weight', [vocabulary, hidden]);
  add('model.norm.weight', [hidden]);
  for (let i = 0; i < layers; i++) {
    const layer = `model.layers.${i}`;
    add(`${layer}.input_layernorm.weight`, [hidden]);
    add(`${layer}.post_attention_layernorm.weight`, [hidden]);
    if (config.architecture !== 'qwen3') continue;
    for (const norm of ['q_norm', 'k_norm']) add(`${layer}.self_attn.${norm}.weight`, [headDim]);
  }
  for (const { name, inFeatures, outFeatures, bias } of decoderOf(config).layers) {
    add(`${name}.weight`, [outFeatures, inFeatures]);
    if (bias) add(`${name}.bias`, [outFeatures]);
  }
  return entries;
}

async function describe(name: string, type: string, sizes: readonly number[]): Promise<string> {
  const config = configOf(type, sizes);
  const weights = weightsOf(config, sizes);
  const modules = loraModules(config, ['all-linear']);
  const adapter = { rank: 8, alpha: 16, seed: new Uint8Array(32), targetModules: [], modules };
  const executor = await openExecutor({ device: 'cpu', threads: 1 });
  const programs = async (batchSize: number, memory: MemoryMode): Promise<readonly Program[]> => {
    const shape = { batchSize, sequenceLength: BATCH.sequenceLength };
    const model = await openLanguageModel({ config, weights, adapter, executor, memory, ...shape });
    return [model.program('gradient')];
  };
  const { size: adapterSize } = adapterLayout(adapter);
  const needs = { ...BATCH, fastest: 8, replications: [], adapterSize, programs };
  const machine = { processBytes: process.memoryUsage.rss(), free: Infinity, refuse: false };
  const taken = async (most: number, memory: MemoryMode): Promise<string> =>
    size(total(await planMemory(needs, { most, memory }, machine)));
  const plans = [await taken(2, 'fast'), await taken(2, 'normal'), await taken(1, 'low')];
  const bytes = [...weights.values()].reduce((sum, { length }) => sum + length, 0);
  const millions = (bytes / WEIGHT_BYTES / 1e6).toFixed(1);
  return `| ${[name, `${millions} M`, size(bytes), ...plans].join(' | ')} |`;
}

function total({ weights, activations, adapter, process: code }: MemoryPlan): number {
  return weights + activations + adapter + code;
}

console.log('| model | weights | files (bf16) | fast | normal | low |');
console.log('|---|---|---|---|---|---|');
for (const [name, type, sizes] of MODELS) console.log(await describe(name, type, sizes));
