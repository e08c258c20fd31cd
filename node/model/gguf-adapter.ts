/**
 * Adapters as llama.cpp loads them: a GGUF file (version 3, the layout of ggml's docs/gguf.md) with the names that
 * llama.cpp gives the layers, and its own order of rows where that differs.
 */
import { adapterLayout } from '../../protocol/adapter.js';
import { littleEndian } from '../../protocol/bytes.js';
import { UserError } from '../errors.js';
import type { ModelConfig } from './config.js';
import { checkAdapter, type AdapterShape } from './lora.js';
import { writeWhole } from './write-whole.js';

export interface GgufAdapter {
  config: ModelConfig;
  adapter: AdapterShape;
  /** [adapterSize] float32. */
  theta: Float32Array;
  /** For people. */
  name: string;
}

/** The architectures of llama.cpp. */
const ARCHITECTURES: Readonly<Record<ModelConfig['architecture'], string>> = {
  llama: 'llama',
  qwen2: 'qwen2',
  qwen3: 'qwen3',
  gemma2: 'gemma2',
  gemma3: 'gemma3',
  smollm3: 'smollm3',
  olmo2: 'olmo2',
  granite: 'granite',
  phi3: 'phi3',
  gpt2: 'gpt2',
};

/** Those whose queries and keys llama.cpp keeps in another order: it rotates neighbours, not halves. */
const ROTATED_IN_PAIRS = ['llama', 'smollm3', 'granite'] as const;
type RotatedInPairs = Extract<ModelConfig, { architecture: (typeof ROTATED_IN_PAIRS)[number] }>;
const isRotatedInPairs = (config: ModelConfig): config is RotatedInPairs =>
  ROTATED_IN_PAIRS.some((architecture) => architecture === config.architecture);

/** Its names of the layers of a block. */
const LAYERS: Readonly<Record<string, string>> = {
  'self_attn.q_proj': 'attn_q',
  'self_attn.k_proj': 'attn_k',
  'self_attn.v_proj': 'attn_v',
  'self_attn.qkv_proj': 'attn_qkv',
  'self_attn.o_proj': 'attn_output',
  'mlp.gate_proj': 'ffn_gate',
  'mlp.up_proj': 'ffn_up',
  'mlp.gate_up_proj': 'ffn_up',
  'mlp.down_proj': 'ffn_down',
  'attn.c_attn': 'attn_qkv',
  'attn.c_proj': 'attn_output',
  'mlp.c_fc': 'ffn_up',
  'mlp.c_proj': 'ffn_down',
};

/** Bytes to which the data of each tensor is aligned, unless a file says otherwise. */
const ALIGNMENT = 32;
const VERSION = 3;
/** Types of metadata values and tensors. */
const TYPE = { float32: 6, string: 8 } as const;
const TENSOR_F32 = 0;

/** The file appears whole or not at all. Throws UserError when the adapter does not fit or the disk refuses. */
export async function writeGgufAdapter(path: string, adapter: GgufAdapter): Promise<void> {
  await writeWhole(path, fileParts(adapter));
}

function* fileParts({ config, adapter, theta, name }: GgufAdapter): Generator<Uint8Array> {
  checkAdapter(config, adapter);
  const tensors = adapterLayout(adapter).tensors.map(
    ({ module, factor, shape: [rows, columns], offset, length }) => ({
      name: `${layerName(module)}.weight.lora_${factor.toLowerCase()}`,
      rows,
      columns,
      data: inTheirOrder(config, module, factor, theta.subarray(offset, offset + length)),
    }),
  );
  const header = new Writer();
  header.bytes(new TextEncoder().encode('GGUF'));
  header.uint32(VERSION);
  header.uint64(tensors.length);
  header.uint64(5);
  header.text('general.architecture', ARCHITECTURES[config.architecture]);
  header.text('general.type', 'adapter');
  header.text('general.name', name);
  header.text('adapter.type', 'lora');
  header.string('adapter.lora.alpha');
  header.uint32(TYPE.float32);
  header.float32(adapter.alpha);
  let offset = 0;
  for (const { name: tensorName, rows, columns, data } of tensors) {
    header.string(tensorName);
    header.uint32(2);
    // The innermost first.
    header.uint64(columns);
    header.uint64(rows);
    header.uint32(TENSOR_F32);
    header.uint64(offset);
    offset += padded(data.byteLength);
  }
  yield header.padded();
  for (const { data } of tensors) {
    const bytes = littleEndian(data);
    yield bytes;
    yield new Uint8Array(padded(bytes.length) - bytes.length);
  }
}

/** "model.layers.3.self_attn.q_proj" -> "blk.3.attn_q". */
function layerName(module: string): string {
  if (module === 'lm_head') return 'output';
  const [, index, layer = ''] =
    /^(?:model\.layers|transformer\.h)\.(\d+)\.(.+)$/.exec(module) ?? [];
  const name = LAYERS[layer];
  if (index !== undefined && name !== undefined) return `blk.${index}.${name}`;
  throw new UserError(
    `llama.cpp has no name for the layer ${module}, so the adapter cannot be written for it`,
  );
}

/**
 * llama.cpp rotates neighbouring features of Llama's queries and keys, Hugging Face those half a head apart: the rows
 * of such a layer, and so of its lora_B, lie in another order there.
 */
function inTheirOrder(
  config: ModelConfig,
  module: string,
  factor: 'A' | 'B',
  values: Float32Array,
): Float32Array {
  if (factor === 'A' || !isRotatedInPairs(config) || !/\.[qk]_proj$/.test(module)) {
    return values;
  }
  const { heads, keyValueHeads, headDim } = config;
  const rows = headDim * (module.endsWith('.q_proj') ? heads : keyValueHeads);
  const rank = values.length / rows;
  const half = headDim / 2;
  const moved = new Float32Array(values.length);
  for (let row = 0; row < rows; row++) {
    const place = row % headDim;
    // Features i and i + half of a head become 2 i and 2 i + 1.
    const target = row - place + 2 * (place % half) + Math.floor(place / half);
    moved.set(values.subarray(row * rank, (row + 1) * rank), target * rank);
  }
  return moved;
}

function padded(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
}

/** Little-endian numbers and texts in a row. */
class Writer {
  private readonly parts: Uint8Array[] = [];

  bytes(bytes: Uint8Array): void {
    this.parts.push(bytes);
  }

  uint32(value: number): void {
    this.number(4, (view) => view.setUint32(0, value, true));
  }

  uint64(value: number): void {
    this.number(8, (view) => view.setBigUint64(0, BigInt(value), true));
  }

  float32(value: number): void {
    this.number(4, (view) => view.setFloat32(0, value, true));
  }

  string(text: string): void {
    const bytes = new TextEncoder().encode(text);
    this.uint64(bytes.length);
    this.bytes(bytes);
  }

  /** A metadata entry. */
  text(key: string, value: string): void {
    this.string(key);
    this.uint32(TYPE.string);
    this.string(value);
  }

  /** All of it, with zeroes up to where the tensors begin. */
  padded(): Uint8Array {
    const length = this.parts.reduce((sum, part) => sum + part.length, 0);
    return Buffer.concat(this.parts, padded(length));
  }

  private number(bytes: number, set: (view: DataView) => void): void {
    const view = new DataView(new ArrayBuffer(bytes));
    set(view);
    this.bytes(new Uint8Array(view.buffer));
  }
}
