/** Hashes and hexadecimal text, in one place so that every use agrees. */
import { createHash } from 'node:crypto';

/** SHA-256 of the concatenation of `parts`: 32 bytes. */
export function sha256(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return Uint8Array.from(hash.digest());
}

/**
 * A copy with memory of its own. Decoded fields are views on the received message, and on Node they are
 * Buffers, whose slice() does not copy: kept as they are, they keep the whole message alive.
 */
export function copyOf(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(bytes);
}

/** The same memory with the type that encoders ask for; only memory that is shared is copied. */
export function viewOf(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const { buffer, byteOffset, byteLength } = bytes;
  return buffer instanceof ArrayBuffer
    ? new Uint8Array(buffer, byteOffset, byteLength)
    : Uint8Array.from(bytes);
}

export function toHex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex');
}

/** `hex` must be valid (it is our own text): an even number of hexadecimal digits. */
export function fromHex(hex: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(Buffer.from(hex, 'hex'));
}

export function bytesEqual(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && Buffer.compare(a, b) === 0;
}

const IS_LITTLE_ENDIAN = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;

/** The bytes of `values` in little-endian order; on most machines a view on the same memory, not a copy. */
export function littleEndian(values: Float32Array | Float64Array): Uint8Array {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  if (IS_LITTLE_ENDIAN) return bytes;
  return swapLittleEndian(copyOf(bytes), values.BYTES_PER_ELEMENT);
}

/** Little-endian bytes of values of `width` (4 or 8) bytes to the machine's order or back, in place. */
export function swapLittleEndian<T extends Uint8Array>(bytes: T, width: number): T {
  if (IS_LITTLE_ENDIAN) return bytes;
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (width === 8) buffer.swap64();
  else buffer.swap32();
  return bytes;
}
