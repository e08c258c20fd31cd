/** The formats of weights on disk, little-endian. */

/** Elements that are numbers by themselves. */
export type FloatStorage = 'F32' | 'F16' | 'BF16';
/** Signed codes, each of which stands for itself times a scale; two of INT4 share a byte, the first in its low half. */
export type CodeStorage = 'INT8' | 'INT4';
/** How a weight's elements are stored. */
export type WeightStorage = FloatStorage | CodeStorage;

/** Bytes of one element. */
export const STORAGE_BYTES = { F32: 4, F16: 2, BF16: 2, INT8: 1, INT4: 0.5 } as const;

export function isCodes(storage: WeightStorage): storage is CodeStorage {
  return storage === 'INT8' || storage === 'INT4';
}

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

/** Rows of `columns` codes times their scales (one for each block of a row, row after row), as float32. */
export function decodeCodes(
  bytes: Uint8Array,
  storage: CodeStorage,
  columns: number,
  scales: Float32Array,
  block: number,
): Float32Array<ArrayBuffer> {
  const blocks = Math.ceil(columns / block);
  const values = new Float32Array((scales.length / blocks) * columns);
  for (let i = 0; i < values.length; i++) {
    const row = Math.floor(i / columns);
    const scale = scales[row * blocks + Math.floor((i - row * columns) / block)]!;
    values[i] = scale * codeAt(bytes, storage, i);
  }
  return values;
}

function codeAt(bytes: Uint8Array, storage: CodeStorage, index: number): number {
  if (storage === 'INT8') return (bytes[index]! << 24) >> 24;
  const byte = bytes[index >>> 1]!;
  // The upper half of the byte goes to the upper end of 32 bits, so that the shift back carries its sign.
  return (index % 2 === 0 ? byte << 28 : (byte & 0xf0) << 24) >> 28;
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
