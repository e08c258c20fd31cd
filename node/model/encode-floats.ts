/** float32 to the float formats of weights on disk, little-endian, rounded to nearest with ties to even. */
import { littleEndian } from '../../protocol/bytes.js';
import { toHalf } from '../../protocol/half.js';
import { STORAGE_BYTES, type FloatStorage } from '../engine/storage.js';

/** From here on the nearest binary16 is infinite. */
const HALF_OVERFLOW = 65_520;
const BFLOAT_INFINITE = 0x7f80;

/** The bytes of `values`; null where one of them is not finite in the format. */
export function encodeFloats(values: Float32Array, storage: FloatStorage): Uint8Array | null {
  if (!values.every(Number.isFinite)) return null;
  if (storage === 'F32') return littleEndian(values);
  const bytes = new Uint8Array(values.length * STORAGE_BYTES[storage]);
  const view = new DataView(bytes.buffer);
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < values.length; i++) {
    const bits = storage === 'F16' ? halfBits(values[i]!) : bfloatBits(words[i]!);
    if (bits === null) return null;
    view.setUint16(2 * i, bits, true);
  }
  return bytes;
}

function halfBits(value: number): number | null {
  const size = Math.abs(value);
  if (size >= HALF_OVERFLOW) return null;
  return (value < 0 || Object.is(value, -0) ? 0x8000 : 0) | toHalf(size);
}

/** `word`: the bits of a finite float32, of which bfloat16 is the upper half. */
function bfloatBits(word: number): number | null {
  const bits = ((word + 0x7fff + ((word >>> 16) & 1)) >>> 16) & 0xffff;
  return (bits & 0x7fff) === BFLOAT_INFINITE ? null : bits;
}
