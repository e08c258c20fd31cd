/** A Llama model of random weights whose adapter is large beside it: what surrounds a 7B model's adapter, without the 7B. */
import { copyFile, mkdir, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { join } from 'node:path';
import { loraModules } from '../node/model/lora.js';
import { openModelDirectory } from '../node/model/model-directory.js';
import type { AdapterSpec } from '../protocol/adapter.js';

const TINY = fileURLToPath(new URL('../models/tiny-base/', import.meta.url)).replace(
  /dist[/\\](?=models)/,
  '',
);

const HIDDEN = 1024;
const INNER = 2816;
const KEYS = 256;
const VOCABULARY = 4096;
const RANK = 256;

/** Coordinates of one layer's adapter, all linear layers of it. */
const LAYER_COORDINATES = RANK * (2 * (2 * HIDDEN) + 2 * (HIDDEN + KEYS) + 3 * (HIDDEN + INNER));

/** Writes a model to `dir` whose adapter has at least `coordinates`, and returns that adapter. */
export async function writeWideModel(dir: string, coordinates: number): Promise<AdapterSpec> {
  const layers = Math.ceil(coordinates / LAYER_COORDINATES);
  await mkdir(dir, { recursive: true });
  for (const name of ['tokenizer.json', 'tokenizer_config.json', 'chat_template.jinja']) {
    await copyFile(join(TINY, name), join(dir, name));
  }
  const config = {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    ...{ hidden_size: HIDDEN, intermediate_size: INNER, num_hidden_layers: layers },
    ...{ num_attention_heads: 16, num_key_value_heads: 4, head_dim: 64 },
    ...{ vocab_size: VOCABULARY, max_position_embeddings: 512, rms_norm_eps: 1e-5 },
    ...{ rope_theta: 10000, hidden_act: 'silu', tie_word_embeddings: true },
    ...{ attention_bias: false, mlp_bias: false, bos_token_id: 0, eos_token_id: 0 },
  };
  await writeFile(join(dir, 'config.json'), JSON.stringify(config));
  await writeWeights(join(dir, 'model.safetensors'), layers);
  const { config: read } = await openModelDirectory(dir);
  const targetModules = ['all-linear'];
  const modules = loraModules(read, targetModules);
  return { rank: RANK, alpha: RANK, seed: new Uint8Array(32), targetModules, modules };
}

/** In BF16: signs and lowest digits at random, magnitudes of 0.008 to 0.016; norms are 1. */
async function writeWeights(file: string, layers: number): Promise<void> {
  const shapes = new Map<string, number[]>([
    ['model.embed_tokens.weight', [VOCABULARY, HIDDEN]],
    ['model.norm.weight', [HIDDEN]],
  ]);
  for (let i = 0; i < layers; i++) {
    const at = `model.layers.${i}`;
    shapes.set(`${at}.self_attn.q_proj.weight`, [HIDDEN, HIDDEN]);
    shapes.set(`${at}.self_attn.k_proj.weight`, [KEYS, HIDDEN]);
    shapes.set(`${at}.self_attn.v_proj.weight`, [KEYS, HIDDEN]);
    shapes.set(`${at}.self_attn.o_proj.weight`, [HIDDEN, HIDDEN]);
    shapes.set(`${at}.mlp.gate_proj.weight`, [INNER, HIDDEN]);
    shapes.set(`${at}.mlp.up_proj.weight`, [INNER, HIDDEN]);
    shapes.set(`${at}.mlp.down_proj.weight`, [HIDDEN, INNER]);
    shapes.set(`${at}.input_layernorm.weight`, [HIDDEN]);
    shapes.set(`${at}.post_attention_layernorm.weight`, [HIDDEN]);
  }
  const header: Record<string, unknown> = {};
  let offset = 0;
  for (const [name, shape] of shapes) {
    const end = offset + 2 * shape.reduce((product, n) => product * n, 1);
    header[name] = { dtype: 'BF16', shape, data_offsets: [offset, end] };
    offset = end;
  }
  const text = JSON.stringify(header);
  const json = Buffer.from(text + ' '.repeat((8 - (text.length % 8)) % 8));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  let state = 1;
  const parts = function* (): Generator<Uint8Array> {
    yield length;
    yield json;
    for (const shape of shapes.values()) {
      const values = new Uint16Array(shape.reduce((product, n) => product * n, 1)).fill(0x3f80);
      for (let i = 0; shape.length > 1 && i < values.length; i++) {
        state = (Math.imul(state, 1664525) + 1013904223) | 0;
        values[i] = 0x3c00 | ((state >>> 16) & 0x807f);
      }
      yield new Uint8Array(values.buffer);
    }
  };
  await writeFile(file, parts());
}
