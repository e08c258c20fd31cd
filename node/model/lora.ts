/**
 * LoRA (Hu et al. 2021) on the linear layers of a model: which layers may carry an adapter, and the
 * adapted layer W x + (alpha / r) B A x as graph.
 */
import { adapterLayout, type AdapterSpec, type LoraModule } from '../../protocol/adapter.js';
import type { Value } from '../engine/graph.js';
import { add, addMatmul, matmul, reshape, slice } from '../engine/ops/index.js';
import { EXIT_USAGE, UserError } from '../errors.js';
import type { ModelConfig } from './config.js';

/** A linear layer of the model, y = x W^T + b. */
export interface LinearLayer extends LoraModule {
  bias: boolean;
}

/** What the model needs to know of the adapter. */
export type AdapterShape = Pick<AdapterSpec, 'rank' | 'alpha' | 'modules'>;

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
/** The name of a layer inside a block. */
export type BlockLayer = (typeof BLOCK)[number];

/** Shorthand for every linear layer but the output layer, as in PEFT. */
export const ALL_LINEAR = 'all-linear';
const OUTPUT_LAYER = 'lm_head';

/** Name, features and bias of a layer of block `index` (from 0). */
export function blockLayer(config: ModelConfig, index: number, layer: BlockLayer): LinearLayer {
  const { hiddenSize, intermediateSize, attentionBias, mlpBias } = config;
  const query = config.heads * config.headDim;
  const keyValue = config.keyValueHeads * config.headDim;
  const [inFeatures, outFeatures] = {
    'self_attn.q_proj': [hiddenSize, query],
    'self_attn.k_proj': [hiddenSize, keyValue],
    'self_attn.v_proj': [hiddenSize, keyValue],
    'self_attn.o_proj': [query, hiddenSize],
    'mlp.gate_proj': [hiddenSize, intermediateSize],
    'mlp.up_proj': [hiddenSize, intermediateSize],
    'mlp.down_proj': [intermediateSize, hiddenSize],
  }[layer] as [number, number];
  const bias = layer.startsWith('mlp.') ? mlpBias : attentionBias;
  return { name: `model.layers.${index}.${layer}`, inFeatures, outFeatures, bias };
}

/** The output layer [vocabSize, hiddenSize]; null when it is the embedding and cannot carry an adapter. */
export function outputLayer(config: ModelConfig): LinearLayer | null {
  if (config.tieWordEmbeddings) return null;
  const { hiddenSize: inFeatures, vocabSize: outFeatures } = config;
  return { name: OUTPUT_LAYER, inFeatures, outFeatures, bias: false };
}

/** Every layer that can carry an adapter, block by block (q, k, v, o, gate, up, down), then lm_head. */
export function linearLayers(config: ModelConfig): LinearLayer[] {
  const layers = Array.from({ length: config.layers }, (_, index) =>
    BLOCK.map((layer) => blockLayer(config, index, layer)),
  ).flat();
  const output = outputLayer(config);
  return output === null ? layers : [...layers, output];
}

/**
 * The layers that `targetModules` names, in the order of linearLayers: last parts of layer names
 * ("q_proj", "lm_head") or "all-linear" for all but lm_head. Throws UserError (wrong usage) for an
 * unknown or repeated name and for none.
 */
export function loraModules(config: ModelConfig, targetModules: readonly string[]): LoraModule[] {
  const layers = linearLayers(config);
  const known = [...new Set(layers.map(({ name }) => lastPart(name)))];
  for (const [i, target] of targetModules.entries()) {
    if (target !== ALL_LINEAR && !known.includes(target)) {
      throw new UserError(
        `target module "${target}" is not a linear layer of this model: choose from ${known.join(', ')}, or ${ALL_LINEAR}`,
        EXIT_USAGE,
      );
    }
    if (targetModules.indexOf(target) !== i) {
      throw new UserError(`target module "${target}" is named twice: name it once`, EXIT_USAGE);
    }
  }
  if (targetModules.length === 0) {
    throw new UserError(
      `no target module is named: choose from ${known.join(', ')}, or ${ALL_LINEAR}`,
      EXIT_USAGE,
    );
  }
  return layers
    .filter(
      ({ name }) =>
        targetModules.includes(lastPart(name)) ||
        (targetModules.includes(ALL_LINEAR) && name !== OUTPUT_LAYER),
    )
    .map(({ name, inFeatures, outFeatures }) => ({ name, inFeatures, outFeatures }));
}

/** Throws UserError unless every adapter module is a layer of this model, with its features, once. */
export function checkAdapter(config: ModelConfig, { modules }: AdapterShape): void {
  const layers = new Map(linearLayers(config).map((layer) => [layer.name, layer]));
  const seen = new Set<string>();
  for (const { name, inFeatures, outFeatures } of modules) {
    const layer = layers.get(name);
    if (layer === undefined || seen.has(name)) {
      throw new UserError(
        `the adapter has a module "${name}", ${layer === undefined ? 'which is no linear layer of this model' : 'twice'}: use the base model of the run`,
      );
    }
    if (layer.inFeatures !== inFeatures || layer.outFeatures !== outFeatures) {
      throw new UserError(
        `the adapter expects ${name} to be [${outFeatures}, ${inFeatures}], but in this model it is [${layer.outFeatures}, ${layer.inFeatures}]: use the base model of the run`,
      );
    }
    seen.add(name);
  }
}

/** lora_A [r, in] and lora_B [out, r] of one layer, and alpha / r. */
export interface LoraFactors {
  readonly a: Value;
  readonly b: Value;
  readonly scale: number;
}

/** The adapter inside a graph. */
export interface AdapterValues {
  /** By the layer's name. */
  readonly factors: ReadonlyMap<string, LoraFactors>;
  /** The tensors in the order of the flat vector, to differentiate by. */
  readonly tensors: readonly Value[];
}

/** Cuts theta: [adapterSize] float32, the flat adapter, into its tensors. */
export function sliceAdapter(theta: Value, adapter: AdapterShape): AdapterValues {
  const scale = adapter.alpha / adapter.rank;
  const factors = new Map<string, { a?: Value; b?: Value }>();
  const tensors = adapterLayout(adapter).tensors.map((tensor) => {
    const { offset, length, shape, module, factor } = tensor;
    const value = reshape(slice(theta, 0, offset, offset + length), shape);
    factors.set(module, { ...factors.get(module), [factor === 'A' ? 'a' : 'b']: value });
    return value;
  });
  const complete = [...factors].map(
    ([module, { a, b }]) => [module, { a: a!, b: b!, scale }] as const,
  );
  return { tensors, factors: new Map(complete) };
}

/** W + scale B A: [out, in] float32, the weight that the layer computes with; W without an adapter. */
export function mergedWeight(weight: Value, lora: LoraFactors | undefined): Value {
  return lora === undefined ? weight : addMatmul(weight, lora.b, lora.a, { alpha: lora.scale });
}

/** x: [N, in], weight: [out, in], bias: [out] float32 -> [N, out]. */
export function linear(
  x: Value,
  weight: Value,
  bias: Value | null,
  lora: LoraFactors | undefined,
): Value {
  let y = matmul(x, weight, { transB: true });
  if (lora !== undefined) {
    const low = matmul(x, lora.a, { transB: true, alpha: lora.scale }); // [N, r]
    y = addMatmul(y, low, lora.b, { transB: true });
  }
  return bias === null ? y : add(y, bias);
}

function lastPart(name: string): string {
  return name.slice(name.lastIndexOf('.') + 1);
}
