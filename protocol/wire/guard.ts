/**
 * The way into every decoder of a message: walks the bytes once, allocates nothing, and refuses what breaks a bound
 * of messages.proto before protons sees it. It takes the one encoding that encoders write (shortest varints, each
 * singular field once, the wire type of the schema, no groups), because protons reads others differently than they
 * were meant; unknown fields are stepped over. Nesting is as deep as the schema, which has no cycles.
 */
import { decodeMessage, type Codec } from 'protons-runtime';
import type { Uint8ArrayList } from 'uint8arraylist';
import { WireFormatError } from '../errors.js';

type ScalarKind = 'uint32' | 'uint64' | 'double' | 'bool' | 'bytes' | 'string';

/** One field, with the bounds that its annotation in messages.proto states. */
export interface FieldBounds {
  number: number;
  name: string;
  kind: ScalarKind | MessageBounds;
  /** Most elements; only a repeated field has it. */
  count?: number;
  /** Most bytes of a value. */
  bytes?: number;
  /** Exact bytes of a value; a singular field may also be empty, which is how its absence reads. */
  length?: number;
}

export interface MessageBounds {
  readonly name: string;
  /** By field number. */
  readonly fields: readonly (FieldBounds | undefined)[];
  /** Elements seen of each repeated field, by number. No message contains itself, so one is walked at a time. */
  readonly counts: Uint32Array;
}

const VARINT = 0;
const FIXED64 = 1;
const DELIMITED = 2;
const FIXED32 = 5;

const WIRE_TYPES: Readonly<Record<ScalarKind, number>> = {
  uint32: VARINT,
  uint64: VARINT,
  bool: VARINT,
  double: FIXED64,
  bytes: DELIMITED,
  string: DELIMITED,
};

const VARINT_MAX = { uint32: 2 ** 32 - 1, uint64: Number.MAX_SAFE_INTEGER, bool: 1 };

/** Bytes of a varint of 64 bits. */
const VARINT_BYTES_MAX = 10;

export function messageBounds(name: string, fields: readonly FieldBounds[]): MessageBounds {
  const byNumber: (FieldBounds | undefined)[] = [];
  for (const field of fields) byNumber[field.number] = field;
  return { name, fields: byNumber, counts: new Uint32Array(byNumber.length) };
}

/** @throws WireFormatError unless `buffer` holds a message within `bounds`. */
export function decodeBounded<T>(
  buffer: Uint8Array | Uint8ArrayList,
  codec: Pick<Codec<T>, 'decode'>,
  bounds: MessageBounds,
): T {
  const bytes = buffer instanceof Uint8Array ? buffer : buffer.subarray();
  checkBounds(bytes, bounds);
  return decodeMessage(bytes, codec);
}

/** @throws WireFormatError unless `bytes` are a message within `bounds`. */
export function checkBounds(bytes: Uint8Array, bounds: MessageBounds): void {
  new Walk(bytes).message(bounds, bytes.length);
}

class Walk {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /** Walks a message that ends at `end`. */
  message(bounds: MessageBounds, end: number): void {
    bounds.counts.fill(0);
    while (this.#at < end) {
      const tag = this.#varint(end, VARINT_MAX.uint32, bounds.name);
      const number = Math.floor(tag / 8);
      if (number === 0) throw new WireFormatError(`${bounds.name} has a field of number 0`);
      const field = bounds.fields[number];
      if (field === undefined) this.#skip(tag % 8, end, bounds.name);
      else this.#field(bounds, field, tag % 8, end);
    }
  }

  #field(message: MessageBounds, field: FieldBounds, wireType: number, end: number): void {
    const { number, kind, count = 1 } = field;
    const expected = typeof kind === 'string' ? WIRE_TYPES[kind] : DELIMITED;
    if (wireType !== expected) throw fault(message, field, `has wire type ${wireType}`);
    const seen = (message.counts[number] ?? 0) + 1;
    if (seen > count) {
      const allowed = field.count === undefined ? 'once' : `${count} times at most`;
      throw fault(message, field, `may occur ${allowed}`);
    }
    message.counts[number] = seen;
    switch (kind) {
      case 'uint32':
      case 'uint64':
      case 'bool':
        this.#varint(end, VARINT_MAX[kind], message.name);
        break;
      case 'double':
        this.#step(8, end, message.name);
        break;
      case 'bytes':
      case 'string':
        this.#step(this.#sized(message, field, end), end, message.name);
        break;
      default:
        this.message(kind, this.#endOfDelimited(end, message.name));
    }
  }

  /** The length of a value of bytes or text, which is within its bounds. */
  #sized(message: MessageBounds, field: FieldBounds, end: number): number {
    const length = this.#varint(end, VARINT_MAX.uint32, message.name);
    const isAbsent = length === 0 && field.count === undefined;
    if (field.length !== undefined && length !== field.length && !isAbsent) {
      throw fault(message, field, `has ${length} bytes, not ${field.length}`);
    }
    if (field.bytes !== undefined && length > field.bytes) {
      throw fault(message, field, `has ${length} bytes; at most ${field.bytes} are allowed`);
    }
    return length;
  }

  /** Steps over a field that the schema does not know. */
  #skip(wireType: number, end: number, within: string): void {
    if (wireType === VARINT) this.#unknownVarint(end, within);
    else if (wireType === FIXED64) this.#step(8, end, within);
    else if (wireType === FIXED32) this.#step(4, end, within);
    else if (wireType === DELIMITED) this.#at = this.#endOfDelimited(end, within);
    else throw new WireFormatError(`${within} has a field of wire type ${wireType}`);
  }

  #unknownVarint(end: number, within: string): void {
    for (let i = 0; i < VARINT_BYTES_MAX && this.#at < end; i++) {
      if ((this.#bytes[this.#at++] ?? 0) < 0x80) return;
    }
    throw new WireFormatError(`${within} has a varint without an end`);
  }

  /** Where the value ends whose length comes next. */
  #endOfDelimited(end: number, within: string): number {
    const length = this.#varint(end, VARINT_MAX.uint32, within);
    if (length > end - this.#at) throw endsEarly(within);
    return this.#at + length;
  }

  #step(bytes: number, end: number, within: string): void {
    if (bytes > end - this.#at) throw endsEarly(within);
    this.#at += bytes;
  }

  /** A varint of the shortest form, at most `max`. Arithmetic, because values go beyond 32 bits. */
  #varint(end: number, max: number, within: string): number {
    let value = 0;
    for (let i = 0, scale = 1; i < VARINT_BYTES_MAX && this.#at < end; i++, scale *= 128) {
      const byte = this.#bytes[this.#at++] ?? 0;
      value += (byte % 128) * scale;
      if (value > max || (byte === 0 && scale > 1)) break;
      if (byte < 0x80) return value;
    }
    throw new WireFormatError(`${within} has a varint above ${max}, cut short or too long`);
  }
}

function fault({ name }: MessageBounds, field: FieldBounds, detail: string): WireFormatError {
  return new WireFormatError(`${name}.${field.name} ${detail}`);
}

function endsEarly(within: string): WireFormatError {
  return new WireFormatError(`${within} ends within a field`);
}
