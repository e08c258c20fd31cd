/** The float formats of weights on disk, little-endian. */

/** How a weight's elements are stored. */
export type FloatStorage = 'F32' | 'F16' | 'BF16';

/** Bytes of one element. */
export const STORAGE_BYTES = { F32: 4, F16: 2, BF16: 2 } as const;

const HOST_IS_LITTLE_ENDIAN = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;

/** The elements of `bytes` as float32; those of F32 may share its memory. */
export function decodeFloats(
  bytes: Uint8Array<ArrayBuffer>,
  storage: FloatStorage,
): Float32Array<ArrayBuffer> {
  const { buffer, byteOffset, byteLength } = bytes;
  const count = byteLength / STORAGE_BYTES[storage];
  if (storage === 'F32' && HOST_IS_LITTLE_ENDIAN && byteOffset % 4 === 0) {
    return new Float32Array(buffer, byteOffset, count);
  }
  const view = new DataView(buffer, byteOffset, byteLength);
  const values = new Float32Array(count);
  if (storage === 'F32') {
    for (let i = 0; i < count; i++) values[i] = view.getFloat32(4 * i, true);
  } else if (storage === 'F16') {
    for (let i = 0; i < count; i++) values[i] = halfToNumber(view.getUint16(2 * i, true));
  } else {
    // bfloat16 is the upper half of a float32.
    const words = new Uint32Array(values.buffer);
    for (let i = 0; i < count; i++) words[i] = view.getUint16(2 * i, true) << 16;
  }
  return values;
}

/** IEEE 754 binary16: 1 sign, 5 exponent and 10 fraction bits. */
function halfToNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >>> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 0x1f) return fraction === 0 ? sign * Infinity : NaN;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}
