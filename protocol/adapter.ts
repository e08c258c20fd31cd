/**
 * The LoRA adapter as all peers lay it out: one flat vector of float32, tensor after tensor in module
 * order, lora_A before lora_B (LoRA: Hu et al. 2021, W x + (alpha / r) B A x). Tensor names are PEFT's.
 */
import { createHash } from 'node:crypto';
import { littleEndian } from './bytes.js';
import { Prng } from './prng.js';

/** One linear layer that gets an adapter; `name` as in the model, e.g. "model.layers.0.mlp.up_proj". */
export interface LoraModule {
  name: string;
  inFeatures: number;
  outFeatures: number;
}

export interface AdapterSpec {
  /** r, 1 to RANK_MAX. */
  rank: number;
  /** The adapter's output is scaled by alpha / rank. */
  alpha: number;
  /** 32 bytes: the stream from which lora_A is drawn. */
  seed: Uint8Array;
  /** As in PEFT's adapter_config.json, e.g. ["q_proj", "v_proj"]. */
  targetModules: readonly string[];
  modules: readonly LoraModule[];
  /** theta0 where the run begins from an adapter that there was before; no part of a manifest's bytes. */
  theta0?: Float32Array | undefined;
}

export interface AdapterTensor {
  /** PEFT's name, e.g. "base_model.model.model.layers.0.mlp.up_proj.lora_A.weight". */
  name: string;
  module: string;
  factor: 'A' | 'B';
  /** [rank, inFeatures] for A, [outFeatures, rank] for B. */
  shape: readonly [number, number];
  /** Position and length in the flat vector, in coordinates. */
  offset: number;
  length: number;
}

export interface AdapterLayout {
  tensors: readonly AdapterTensor[];
  /** Coordinates in all. */
  size: number;
}

/** Where each tensor lies in the flat vector. */
export function adapterLayout(spec: Pick<AdapterSpec, 'rank' | 'modules'>): AdapterLayout {
  const tensors: AdapterTensor[] = [];
  let offset = 0;
  for (const module of spec.modules) {
    for (const factor of ['A', 'B'] as const) {
      const shape: [number, number] =
        factor === 'A' ? [spec.rank, module.inFeatures] : [module.outFeatures, spec.rank];
      const length = shape[0] * shape[1];
      const name = `base_model.model.${module.name}.lora_${factor}.weight`;
      tensors.push({ name, module: module.name, factor, shape, offset, length });
      offset += length;
    }
  }
  return { tensors, size: offset };
}

/**
 * theta0, [size] float32: the spec's own, else lora_A uniform in +-1/sqrt(inFeatures) (PEFT's default, kaiming_uniform with
 * a = sqrt 5), lora_B zero. The same bytes on every machine. @throws RangeError for a spec whose theta0 is yet to be fetched.
 */
export function initialAdapter(spec: AdapterSpec & { initialRoot?: string }): Float32Array {
  if (spec.theta0 !== undefined) return spec.theta0.slice();
  if (spec.initialRoot !== undefined) {
    throw new RangeError('the run begins from an adapter that is not at hand');
  }
  const layout = adapterLayout(spec);
  const theta = new Float32Array(layout.size);
  for (const tensor of layout.tensors) {
    if (tensor.factor === 'B') continue;
    const random = new Prng(spec.seed, `lora_A/${tensor.module}`);
    const bound = 1 / Math.sqrt(tensor.shape[1]);
    for (let i = 0; i < tensor.length; i++) {
      theta[tensor.offset + i] = (2 * random.nextFloat() - 1) * bound;
    }
  }
  return theta;
}

/** SHA-256 of a flat adapter's float32 values, little-endian: what peers compare. 64 hex digits. */
export function adapterSha256(theta: Float32Array): string {
  return createHash('sha256').update(littleEndian(theta)).digest('hex');
}
