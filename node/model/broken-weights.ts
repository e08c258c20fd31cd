/** Looks for numbers in the weights that make the loss NaN: those that no training wrote, and those too large for a device. */
import { FLOAT16_MAX, WITHOUT_BFLOAT16, type Device } from '../engine/devices.js';
import { fileSha256 } from '../files.js';
import { UserError } from '../errors.js';
import { DTYPE_BYTES, readTensorF32, type TensorEntry, type WeightIndex } from './safetensors.js';

/** Values looked at in one go: 64 MiB as float32. */
const VALUES_MAX = 1 << 24;

/**
 * Throws UserError that names the first weight of bfloat16 with a value that float16 does not have, where `device` takes
 * them for float16. Reads as checkWeightsFinite does.
 */
export async function checkWeightsOnDevice(weights: WeightIndex, device: Device): Promise<void> {
  if (!WITHOUT_BFLOAT16.includes(device)) return;
  for (const entry of weights.values()) {
    if (entry.dtype !== 'BF16') continue;
    for await (const values of chunks(entry, VALUES_MAX * DTYPE_BYTES.BF16)) {
      const large = values.find((value) => Math.abs(value) > FLOAT16_MAX);
      if (large === undefined) continue;
      throw new UserError(
        `the weight ${entry.name} in ${entry.file} holds ${large}, but --device ${device} computes with 16-bit weights up to ` +
          `${FLOAT16_MAX}: use --weights fp32, or --device cpu`,
      );
    }
  }
}

/**
 * Reads every float32, float16 and bfloat16 weight once, as slow as the disk. Throws UserError that names the
 * first tensor with a value that is not finite, its file and the file's SHA-256.
 */
export async function checkWeightsFinite(weights: WeightIndex): Promise<void> {
  for (const entry of weights.values()) {
    const { dtype } = entry;
    if (dtype !== 'F32' && dtype !== 'F16' && dtype !== 'BF16') continue;
    for await (const values of chunks(entry, VALUES_MAX * DTYPE_BYTES[dtype])) {
      if (values.every(Number.isFinite)) continue;
      throw new UserError(
        `${entry.file} (its SHA-256 is ${await fileSha256(entry.file)}) is damaged or was never sound: the weight ` +
          `${entry.name} holds NaN or infinity, so that the model computes nothing; get the file again, or choose another model`,
      );
    }
  }
}

async function* chunks(entry: TensorEntry, bytesMax: number): AsyncGenerator<Float32Array> {
  for (let at = 0; at < entry.length; at += bytesMax) {
    const length = Math.min(bytesMax, entry.length - at);
    yield await readTensorF32({ ...entry, offset: entry.offset + at, length });
  }
}
