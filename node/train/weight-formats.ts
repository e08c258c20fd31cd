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
 * The format on a device of whose memory nothing is known: the files' own 16 bits where they have those, which are the same
 * numbers in half the memory, else the most exact one. Throws UserError as formatsFor.
 */
export function formatWithoutPlan(device: Device, weights: WeightIndex): WeightFormat {
  const [first, next] = formatsFor(device, weights);
  return next === 'bf16' && isHalf(weights) ? next : first;
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
