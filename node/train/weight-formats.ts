/** Which formats the frozen weights of a model can have on a device. */
import type { Device } from '../engine/devices.js';
import { EXIT_USAGE, UserError } from '../errors.js';
import type { WeightIndex } from '../model/safetensors.js';
import type { WeightFormat } from '../model/weight-format.js';

/** A format, or the most exact one that fits. */
export type WeightChoice = WeightFormat | 'auto';

const CPU_FORMATS = ['fp32', 'int8'] as const;

/** The most exact first. */
export function formatsOf(device: Device): readonly [WeightFormat, ...WeightFormat[]] {
  return device === 'cpu' ? CPU_FORMATS : ['fp32'];
}

/** What "auto" chooses from, the most exact first; int8 takes no less memory than fp32 yet. */
export const AUTO_FORMATS = ['fp32'] as const;

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
