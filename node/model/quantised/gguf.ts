/**
 * The weights of a GGUF file under Hugging Face's names. Llama's queries and keys lie there in another order of rows, which
 * is put right while they are read.
 */
import { UserError } from '../../errors.js';
import type { ModelConfig } from '../config.js';
import { decodedRows, type RowSource } from '../row-source.js';
import type { TensorEntry, WeightIndex } from '../safetensors.js';
import { BLOCK_DECODERS } from './gguf-blocks.js';
import { ggufTypeName, readGgufHeader, type GgufTensor } from './gguf-header.js';
import { openFile, readFully } from './parts.js';

/** The families whose tensors are the same numbers there, by llama.cpp's name for them. */
const ARCHITECTURES: Partial<Record<ModelConfig['architecture'], string>> = {
  llama: 'llama',
  qwen2: 'qwen2',
  qwen3: 'qwen3',
};
/** What follows from the config, and is read from there. */
const HARMLESS = /^(rope_freqs\.weight|rope_factors_(long|short)\.weight)$/;

const WHOLE: Readonly<Record<string, string>> = {
  token_embd: 'model.embed_tokens',
  output_norm: 'model.norm',
  output: 'lm_head',
};
const OF_BLOCK: Readonly<Record<string, string>> = {
  attn_q: 'self_attn.q_proj',
  attn_k: 'self_attn.k_proj',
  attn_v: 'self_attn.v_proj',
  attn_output: 'self_attn.o_proj',
  attn_q_norm: 'self_attn.q_norm',
  attn_k_norm: 'self_attn.k_norm',
  attn_norm: 'input_layernorm',
  ffn_norm: 'post_attention_layernorm',
  ffn_gate: 'mlp.gate_proj',
  ffn_up: 'mlp.up_proj',
  ffn_down: 'mlp.down_proj',
};
/** ggml's types that are formats of safetensors too. */
const FLOATS: Readonly<Record<number, 'F32' | 'F16' | 'BF16'>> = { 0: 'F32', 1: 'F16', 30: 'BF16' };

/** Throws UserError: a damaged file, one of another kind of model, or types of weights that are not read. */
export async function openGguf(file: string, config: ModelConfig): Promise<WeightIndex> {
  const { architecture, tensors } = await readGgufHeader(file);
  const expected = ARCHITECTURES[config.architecture];
  if (expected === undefined) {
    throw new UserError(
      `${file}: GGUF is read for models of the kinds ${Object.keys(ARCHITECTURES).join(', ')}, and config.json is of a ${config.architecture}: take its safetensors`,
    );
  }
  if (architecture !== expected) {
    throw new UserError(
      `${file} holds a model of the kind "${architecture}", but config.json beside it makes that "${expected}": put the config.json and tokenizer.json of the same model there`,
    );
  }
  if (config.architecture === 'llama' && config.attentionBias) {
    throw new UserError(
      `${file}: GGUF of a Llama with biases of queries and keys is not read: take its safetensors`,
    );
  }
  const index = new Map<string, TensorEntry>();
  for (const tensor of tensors) {
    if (HARMLESS.test(tensor.name)) continue;
    const entry = toEntry(file, tensor, config);
    index.set(entry.name, entry);
  }
  return index;
}

function toEntry(file: string, tensor: GgufTensor, config: ModelConfig): TensorEntry {
  const { type, shape, offset, length } = tensor;
  const name = nameOf(tensor.name);
  const place = { name, shape, file, offset, length };
  const order = orderOf(name, config);
  const storage = FLOATS[type];
  if (storage !== undefined && order === null) return { ...place, dtype: storage };
  const [rows, width] = shape;
  if (rows === undefined || width === undefined || shape.length !== 2) {
    throw new UserError(
      `${file}: the weight ${tensor.name} is ${ggufTypeName(type)} [${shape.join(', ')}], which is no matrix: get the file again`,
    );
  }
  const what = `GGUF ${ggufTypeName(type)}`;
  const part = { ...place, dtype: 'U8' as const, shape: [length] };
  const open = (): Promise<RowSource> => openRows(file, tensor, [rows, width], order);
  return { ...place, dtype: 'QUANTISED', quantised: { what, parts: [part], open } };
}

/** "blk.3.attn_q.weight" -> "model.layers.3.self_attn.q_proj.weight"; what is unknown keeps its name. */
function nameOf(name: string): string {
  const [, index, layer = '', part = ''] =
    /^(?:blk\.(\d+)\.)?([^.]+)\.(weight|bias)$/.exec(name) ?? [];
  const known = index === undefined ? WHOLE[layer] : OF_BLOCK[layer];
  if (known === undefined) return name;
  return index === undefined ? `${known}.${part}` : `model.layers.${index}.${known}.${part}`;
}

/** Where a row lies in the file. */
type RowOrder = (row: number) => number;

/**
 * llama.cpp rotates neighbouring features of Llama's queries and keys, Hugging Face those half a head apart. Null where the
 * order is the same.
 */
function orderOf(name: string, config: ModelConfig): RowOrder | null {
  if (config.architecture !== 'llama' || !/self_attn\.[qk]_proj\.weight$/.test(name)) return null;
  const { headDim } = config;
  return (row) => {
    const feature = row % headDim;
    const isSecond = feature >= headDim / 2;
    return row - feature + (isSecond ? 2 * (feature - headDim / 2) + 1 : 2 * feature);
  };
}

async function openRows(
  file: string,
  { type, offset, length }: GgufTensor,
  [rows, width]: [number, number],
  order: RowOrder | null,
): Promise<RowSource> {
  const decode = BLOCK_DECODERS[type]!;
  const rowBytes = length / rows;
  const handle = await openFile(file);
  const read = async (first: number, values: Float32Array): Promise<void> => {
    const bytes = new Uint8Array((values.length / width) * rowBytes);
    if (order === null) await readFully(handle, file, bytes, offset + first * rowBytes);
    else {
      for (let at = 0; at < bytes.length; at += rowBytes) {
        const position = offset + order(first + at / rowBytes) * rowBytes;
        await readFully(handle, file, bytes.subarray(at, at + rowBytes), position);
      }
    }
    decode(bytes, values);
  };
  return decodedRows(read, () => handle.close());
}
