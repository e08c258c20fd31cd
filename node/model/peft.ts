/** LoRA adapters as Hugging Face PEFT keeps them: adapter_config.json and adapter_model.safetensors. */
import { join } from 'node:path';
import { z } from 'zod';
import {
  adapterLayout,
  type AdapterLayout,
  type AdapterSpec,
  type LoraModule,
} from '../../protocol/adapter.js';
import { FEATURES_MAX, RANK_MAX } from '../../protocol/limits.js';
import { makeDirectory, readIfThere, removeDurably, replaceFile } from '../files.js';
import { UserError } from '../errors.js';
import { readJsonFile } from '../json-file.js';
import { refuseNotFinite } from './finite.js';
import { isFanInFanOut } from './gpt2.js';
import {
  readSafetensorsHeader,
  readTensorF32,
  writeSafetensors,
  type TensorEntry,
} from './safetensors.js';

export const ADAPTER_CONFIG_FILE = 'adapter_config.json';
export const ADAPTER_WEIGHTS_FILE = 'adapter_model.safetensors';

/** Bytes of an adapter_config.json: real ones have 1 KB. */
const CONFIG_BYTES_MAX = 1024 * 1024;
const ALPHA_MAX = 1e6;

/** What writePeftAdapter writes. */
export interface AdapterToWrite {
  spec: Pick<AdapterSpec, 'rank' | 'alpha' | 'targetModules' | 'modules'>;
  /** Flat, in adapterLayout order: [size] float32. */
  theta: Float32Array;
  /** Path or hub name of the base, for people and for AutoPeftModel; PEFT itself does not compare it. */
  baseModelName: string;
  /** Whether it is for the peer alone that made it, which the weights then say of themselves. */
  isPersonal?: boolean;
}

/** What the weights of a personal adapter say, wherever they get to. */
const PERSONAL_NOTE =
  'personal: trained on one peer’s own text, which it may give away; not to be handed on';

/** For an adapter that a peer made. */
const REMEDY = 'train again, with a lower learning rate if it comes back';

/** An adapter that was read. */
export interface PeftAdapter {
  rank: number;
  alpha: number;
  targetModules: string[];
  /** In the order asked for, or else in the order of the file. */
  modules: LoraModule[];
  /** Flat, in the adapterLayout order of `modules`: [size] float32. */
  theta: Float32Array;
}

/**
 * Writes an adapter that PEFT loads unchanged into `dir`, which is made where it is missing. Each file
 * appears whole or not at all; the config comes last, so that a directory with a config is complete.
 * Throws UserError when the disk refuses or theta holds NaN or infinity, RangeError when it does not fit the spec.
 */
export async function writePeftAdapter(
  dir: string,
  { spec, theta, baseModelName, isPersonal = false }: AdapterToWrite,
): Promise<void> {
  const layout = adapterLayout(spec);
  if (theta.length !== layout.size) {
    throw new RangeError(`theta has ${theta.length} values, the adapter ${layout.size}`);
  }
  refuseNotFinite(theta, 'the adapter to write', REMEDY);
  try {
    await makeDirectory(dir);
  } catch (cause) {
    throw notWritable(dir, cause);
  }
  const tensors = layout.tensors.map(({ name, shape, offset, length }) => ({
    name,
    shape,
    data: theta.subarray(offset, offset + length),
  }));
  const config = {
    peft_type: 'LORA',
    task_type: 'CAUSAL_LM',
    base_model_name_or_path: baseModelName,
    revision: null,
    inference_mode: true,
    r: spec.rank,
    lora_alpha: spec.alpha,
    lora_dropout: 0,
    target_modules: [...spec.targetModules],
    modules_to_save: null,
    bias: 'none',
    fan_in_fan_out: isFanInFanOut(spec.modules),
    init_lora_weights: true,
    use_rslora: false,
    use_dora: false,
    rank_pattern: {},
    alpha_pattern: {},
  };
  const text = `${JSON.stringify(config, null, 2)}\n`;
  const path = join(dir, ADAPTER_CONFIG_FILE);
  await dropOtherConfig(path, text);
  const metadata = { format: 'pt', ...(isPersonal && { murmurate: PERSONAL_NOTE }) };
  await writeSafetensors(join(dir, ADAPTER_WEIGHTS_FILE), tensors, metadata);
  await writeText(path, text);
}

/** The weights of one adapter beside the config of another would pass for whole. */
async function dropOtherConfig(path: string, text: string): Promise<void> {
  try {
    const before = await readIfThere(path);
    if (before !== null && new TextDecoder().decode(before) !== text) await removeDurably(path);
  } catch (cause) {
    throw notWritable(path, cause);
  }
}

async function writeText(path: string, text: string): Promise<void> {
  try {
    await replaceFile(path, [text]);
  } catch (cause) {
    throw notWritable(path, cause);
  }
}

/** The sentence for a disk that refuses; a fault of the program stays what it is. */
function notWritable(path: string, cause: unknown): unknown {
  if (!(cause instanceof Error && 'code' in cause)) return cause;
  if (cause.code === 'EEXIST' || cause.code === 'ENOTDIR') {
    const message = `${path} cannot be written: a file is in the way, give a directory`;
    return new UserError(message, undefined, { cause });
  }
  return new UserError(
    `${path} cannot be written (${String(cause.code)}): check that the folder may be written and has room`,
    undefined,
    { cause },
  );
}

const no = (message: string): { error: string } => ({ error: `but ${message}` });
const empty = z
  .record(z.string(), z.unknown())
  .refine((pattern) => Object.keys(pattern).length === 0, no('only {} is supported'));
/** Only plain LoRA: a field that would change the arithmetic must have its plain value. */
const configSchema = z.looseObject({
  peft_type: z.literal('LORA', no('only LORA is supported')),
  r: z
    .int(no('must be a whole number'))
    .min(1)
    .max(RANK_MAX, no(`must be 1 to ${RANK_MAX}`)),
  lora_alpha: z
    .number(no('must be a number'))
    .positive(no('must be above 0'))
    // As in the manifest of a run: far more would overflow float32.
    .max(ALPHA_MAX, no(`must be at most ${ALPHA_MAX}`)),
  target_modules: z.array(z.string(), no('must be a list of module names')),
  bias: z.literal('none', no('only "none" is supported')).nullish(),
  // How the base model's files hold a layer; the adapter's own arithmetic is the same.
  fan_in_fan_out: z.boolean(no('must be true or false')).nullish(),
  lora_bias: z.literal(false, no('only false is supported')).nullish(),
  use_rslora: z.literal(false, no('only false is supported')).nullish(),
  use_dora: z.literal(false, no('only false is supported')).nullish(),
  modules_to_save: z.null(no('only null is supported')).optional(),
  layer_replication: z.null(no('only null is supported')).optional(),
  rank_pattern: empty.nullish(),
  alpha_pattern: empty.nullish(),
});

/**
 * Reads an adapter that PEFT or writePeftAdapter wrote. With `spec` it must have that rank, alpha and
 * exactly those modules, and theta comes in that order.
 * Throws UserError: a file missing or damaged, another kind of adapter, or one that does not fit `spec`.
 */
export async function readPeftAdapter(
  dir: string,
  spec?: Pick<AdapterSpec, 'rank' | 'alpha' | 'modules'>,
): Promise<PeftAdapter> {
  const config = await readJsonFile(
    join(dir, ADAPTER_CONFIG_FILE),
    CONFIG_BYTES_MAX,
    "the adapter's config",
    configSchema,
  );
  const { r: rank, lora_alpha: alpha } = config;
  if (spec !== undefined && (spec.rank !== rank || spec.alpha !== alpha)) {
    throw new UserError(
      `${dir} has an adapter of rank ${rank} and alpha ${alpha}, but rank ${spec.rank} and alpha ${spec.alpha} are needed: give another adapter`,
    );
  }
  const file = join(dir, ADAPTER_WEIGHTS_FILE);
  const { tensors } = await readSafetensorsHeader(file);
  const modules = spec?.modules ?? modulesOf(tensors, file);
  const layout = adapterLayout({ rank, modules });
  const theta = await readTheta(tensors, layout, file);
  return { rank, alpha, targetModules: config.target_modules, modules: [...modules], theta };
}

const TENSOR_NAME = /^base_model\.model\.(.+)\.lora_([AB])\.weight$/;

/** The adapted layers, as the names and shapes of the tensors tell. */
function modulesOf(tensors: readonly TensorEntry[], file: string): LoraModule[] {
  const modules = new Map<string, LoraModule>();
  for (const { name, shape } of tensors) {
    const match = TENSOR_NAME.exec(name);
    const [rows, columns] = shape;
    const features = match?.[2] === 'A' ? columns : rows;
    if (match?.[1] === undefined || features === undefined || features > FEATURES_MAX) {
      throw new UserError(
        `${file}: tensor ${name} [${shape.join(', ')}] is not a factor of a linear layer's LoRA adapter: only plain LoRA is supported`,
      );
    }
    const module = modules.get(match[1]) ?? { name: match[1], inFeatures: 0, outFeatures: 0 };
    if (match[2] === 'A') module.inFeatures = features;
    else module.outFeatures = features;
    modules.set(module.name, module);
  }
  return [...modules.values()];
}

async function readTheta(
  tensors: readonly TensorEntry[],
  layout: AdapterLayout,
  file: string,
): Promise<Float32Array> {
  const byName = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  const theta = new Float32Array(layout.size);
  for (const { name, shape, offset } of layout.tensors) {
    const tensor = byName.get(name);
    const found = tensor === undefined ? 'is missing' : `has shape [${tensor.shape.join(', ')}]`;
    if (tensor?.shape.length !== 2 || shape.some((n, i) => n !== tensor.shape[i])) {
      throw new UserError(
        `${file}: tensor ${name} ${found}, but must be [${shape.join(', ')}]: the adapter belongs to another model or run`,
      );
    }
    const values = await readTensorF32(tensor);
    refuseNotFinite(values, `${file}: tensor ${name}`, 'get the adapter again, or train it again');
    theta.set(values, offset);
    byName.delete(name);
  }
  const [left] = byName.keys();
  if (left !== undefined) {
    throw new UserError(
      `${file}: tensor ${left} has no place in this adapter: the adapter belongs to another model or run`,
    );
  }
  return theta;
}
