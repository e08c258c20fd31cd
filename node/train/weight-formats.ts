/** Which formats the frozen weights of a model can have on a device. */
import type { Device } from '../engine/devices.js';
import { EXIT_USAGE, UserError } from '../errors.js';
import {
  packedIndex,
  packedLayout,
  quantisationIn,
  type PackedModel,
} from '../model/packed/layout.js';
import type { WeightIndex } from '../model/safetensors.js';
import { WEIGHT_FORMATS, type WeightFormat } from '../model/weight-format.js';

/** A format, or the most exact one that fits. */
export type WeightChoice = WeightFormat | 'auto';

/** Devices that compute with matrices as their files hold them: run on WebGPU and the CPU, by documentation on CUDA. */
const WITH_ALL_FORMATS: readonly Device[] = ['cpu', 'cuda', 'webgpu'];

/** The most exact first. */
export function formatsOf(device: Device): readonly [WeightFormat, ...WeightFormat[]] {
  return WITH_ALL_FORMATS.includes(device) ? WEIGHT_FORMATS : ['fp32'];
}

/**
 * Those in which it can compute with these weights: what others have quantised is never fp32. Throws UserError when there
 * are none.
 */
export function formatsFor(
  device: Device,
  weights: WeightIndex,
): readonly [WeightFormat, ...WeightFormat[]] {
  const formats = formatsOf(device);
  const method = quantisationIn(weights);
  if (method === null) return formats;
  const [first, ...rest] = formats.filter((format) => format !== 'fp32');
  if (first !== undefined) return [first, ...rest];
  throw new UserError(
    `the model's weights are quantised (${method}), but --device ${device} computes with fp32 only: use --device cpu`,
  );
}

/**
 * Formats to plan with on `device`: on a GPU, which makes float32 of each weight where it is read, without fp32 where the
 * files have 16 bits, which are the same numbers in half the memory. Throws UserError as formatsFor.
 */
export function plannedFormats(
  device: Device,
  weights: WeightIndex,
): readonly [WeightFormat, ...WeightFormat[]] {
  const formats = formatsFor(device, weights);
  const [first, ...rest] = formats;
  const [next, ...others] = rest;
  const isTwice = device !== 'cpu' && first === 'fp32' && next === 'bf16' && isHalf(weights);
  return isTwice ? [next, ...others] : formats;
}

/** Throws UserError (wrong usage) when `device` can't compute with such weights. */
export function checkWeights(device: Device | 'auto', weights: WeightChoice): void {
  // The CPU is always among what "auto" chooses from.
  const formats = formatsOf(device === 'auto' ? 'cpu' : device);
  if (weights === 'auto' || (formats as readonly string[]).includes(weights)) return;
  throw new UserError(
    `--device ${device} can't compute with --weights ${weights}, only with ${formats.join(', ')}: ` +
      'use --weights auto, or --device cpu',
    EXIT_USAGE,
  );
}

/** Whether most weights of the model's files have 16 bits, so that bf16 and fp32 are the same numbers. */
export function isHalf(weights: WeightIndex): boolean {
  let [half, all] = [0, 0];
  for (const { dtype, length } of weights.values()) {
    const elements = dtype === 'F32' ? length / 4 : length / 2;
    all += elements;
    if (dtype !== 'F32') half += elements;
  }
  return half > all / 2;
}

/**
 * The weights that graphs read in `format`, to plan with: of a packed copy, where the format needs one, nothing need be
 * on the disk yet. Throws UserError for a model without the weights that its config expects.
 */
export function plannedWeights(model: PackedModel, format: WeightFormat): WeightIndex {
  const layout = packedLayout(model, format);
  return layout === null ? model.weights : packedIndex(model.weights, layout, 'packed');
}
