/**
 * A file of one header and large arrays: 8 bytes of magic | version u32 | header length u32 | JSON header, padded to a
 * multiple of 8 | payload | SHA-256 of all before it. Numbers are little-endian. Read and written without a copy of
 * the payload.
 */
import { createHash } from 'node:crypto';
import type { z } from 'zod';
import { swapLittleEndian, viewOf } from '../../protocol/bytes.js';

export const PREFIX_BYTES = 16;
export const DIGEST_BYTES = 32;

/** Thrown when bytes are not a whole file of the wanted kind and run; the message says what is wrong with them. */
export class DamagedStateError extends Error {
  override readonly name = 'DamagedStateError';
}

/** One kind of file. */
export interface ArrayFileKind<T> {
  /** 8 characters. */
  magic: string;
  version: number;
  schema: z.ZodType<T>;
}

/** The file's content in parts, to be written one after the other. */
export function encodeArrayFile<T>(
  kind: ArrayFileKind<T>,
  header: T,
  payload: readonly Uint8Array[],
): Uint8Array[] {
  const parts = [...arrayFileHead(kind, header), ...payload];
  const digest = createHash('sha256');
  for (const part of parts) digest.update(part);
  return [...parts, digest.digest()];
}

/** All before the payload. */
export function arrayFileHead<T>(kind: ArrayFileKind<T>, header: T): Uint8Array[] {
  const text = JSON.stringify(header);
  const json = new TextEncoder().encode(text);
  const padding = ' '.repeat((8 - (json.length % 8)) % 8);
  const padded = new TextEncoder().encode(text + padding);
  const prefix = new Uint8Array(PREFIX_BYTES);
  prefix.set(new TextEncoder().encode(kind.magic));
  const view = new DataView(prefix.buffer);
  view.setUint32(8, kind.version, true);
  view.setUint32(12, padded.length, true);
  return [prefix, padded];
}

/** Header and payload, which shares the memory of `bytes`. Throws DamagedStateError. */
export function decodeArrayFile<T>(
  kind: ArrayFileKind<T>,
  bytes: Uint8Array,
): { header: T; payload: Uint8Array } {
  if (bytes.length < PREFIX_BYTES + DIGEST_BYTES) {
    throw new DamagedStateError(`it holds only ${bytes.length} bytes`);
  }
  checkKind(kind, bytes);
  const body = bytes.subarray(0, bytes.length - DIGEST_BYTES);
  if (!createHash('sha256').update(body).digest().equals(bytes.subarray(body.length))) {
    throw new DamagedStateError('its SHA-256 does not match');
  }
  const start = payloadStart(bytes);
  return { header: parseHeader(kind, body.subarray(0, start)), payload: body.subarray(start) };
}

/** The header in all before the payload, whose digest is not known yet. Throws DamagedStateError. */
export function readArrayFileHead<T>(kind: ArrayFileKind<T>, head: Uint8Array): T {
  checkKind(kind, head);
  return parseHeader(kind, head);
}

function checkKind<T>(kind: ArrayFileKind<T>, bytes: Uint8Array): void {
  if (new TextDecoder().decode(bytes.subarray(0, 8)) !== kind.magic) {
    throw new DamagedStateError(`it does not begin with "${kind.magic}"`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const version = view.getUint32(8, true);
  if (version !== kind.version) {
    throw new DamagedStateError(`it has version ${version}, this program reads ${kind.version}`);
  }
}

function parseHeader<T>(kind: ArrayFileKind<T>, head: Uint8Array): T {
  try {
    return kind.schema.parse(JSON.parse(new TextDecoder().decode(head.subarray(PREFIX_BYTES))));
  } catch (cause) {
    throw new DamagedStateError('its header is not valid', { cause });
  }
}

/** Where the payload begins; `bytes` is the beginning of a file, of 16 bytes at least. */
export function payloadStart(bytes: Uint8Array): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return PREFIX_BYTES + view.getUint32(12, true);
}

/** Takes arrays out of a payload, one after the other. */
export class PayloadReader {
  readonly #payload: Uint8Array;
  #offset = 0;

  constructor(payload: Uint8Array) {
    // Not a Buffer, whose slice() would share its memory.
    this.#payload = viewOf(payload);
  }

  /** Throws DamagedStateError where the payload is shorter. */
  bytes(length: number): Uint8Array {
    const start = this.#offset;
    if (start + length > this.#payload.length) {
      throw new DamagedStateError('it is shorter than its header says');
    }
    this.#offset = start + length;
    return this.#payload.subarray(start, this.#offset);
  }

  float32(length: number): Float32Array<ArrayBuffer> {
    const bytes = aligned(this.bytes(4 * length), 4);
    return new Float32Array(bytes.buffer, bytes.byteOffset, length);
  }

  float64(length: number): Float64Array<ArrayBuffer> {
    const bytes = aligned(this.bytes(8 * length), 8);
    return new Float64Array(bytes.buffer, bytes.byteOffset, length);
  }

  /** Throws DamagedStateError where something is left. */
  end(): void {
    if (this.#offset !== this.#payload.length) {
      throw new DamagedStateError('it is longer than its header says');
    }
  }
}

/** In the machine's order: the same memory where an array can lie there, else a copy. */
function aligned(bytes: Uint8Array, width: 4 | 8): Uint8Array<ArrayBuffer> {
  const { buffer, byteOffset, length } = bytes;
  const isAligned = buffer instanceof ArrayBuffer && byteOffset % width === 0;
  const view = isAligned ? new Uint8Array(buffer, byteOffset, length) : new Uint8Array(bytes);
  return swapLittleEndian(view, width);
}
