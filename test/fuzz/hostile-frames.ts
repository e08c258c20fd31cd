/**
 * Messages of the wire format as a hostile remote would write them: every field within its bound and at an extreme of it,
 * so that they get past the decoder. Written by the schema, without our encoder; what must be right to get further (a run
 * id, an author's key, a signed header) is lent by the script.
 */
import type { Prng } from '../../protocol/prng.js';
import { delimited, varint } from '../wire/encodings.js';
import { readSchema, valueOf, type SchemaField, type SchemaMessage } from '../wire/schema.js';

/** What a field holds instead of an extreme, by "Message.field": bytes, or a number. */
export type Lent = Readonly<Record<string, (random: Prng) => Uint8Array | number>>;

const SCHEMA = new Map(readSchema().map((message) => [message.name, message]));

/** Most elements of a repeated field in one frame, beside its bound: the frame has a bound too. */
const ELEMENTS_MAX = 2_048;

/** Every field of bytes or text in the schema, as "Message.field". */
export const SIZED_FIELDS: readonly string[] = [...SCHEMA.values()].flatMap(({ name, fields }) =>
  fields
    .filter(({ type }) => type === 'bytes' || type === 'string')
    .map((field) => `${name}.${field.name}`),
);

export class HostileFrames {
  readonly #lent: Lent;
  readonly #frameBytesMax: number;
  readonly #inflated: string | null;

  /** `inflated`: a field ("Message.field") that goes beyond its bound, as far as the frame allows. */
  constructor(lent: Lent, frameBytesMax: number, inflated: string | null = null) {
    this.#lent = lent;
    this.#frameBytesMax = frameBytesMax;
    this.#inflated = inflated;
  }

  /** A message of which `fields` are set; a field that is not named is left out. Within the bytes of a frame. */
  message(name: string, fields: readonly string[], random: Prng): Uint8Array {
    return this.#message(SCHEMA.get(name)!, this.#frameBytesMax - 64, random, fields);
  }

  /** The same inside of a frame, as the field of it that is named `kind`. */
  framed(frame: string, kind: string, fields: readonly string[], random: Prng): Uint8Array {
    const { number, type } = fieldOf(frame, kind);
    return delimited(number, this.message(type, fields, random));
  }

  #message(
    { name, fields }: SchemaMessage,
    room: number,
    random: Prng,
    chosen: readonly string[],
  ): Uint8Array {
    const parts: Uint8Array[] = [];
    let left = room;
    for (const field of fields) {
      if (!chosen.includes(field.name)) continue;
      const most = Math.min(ELEMENTS_MAX, valueOf(field.bounds.count ?? '1'));
      const count = field.isRepeated ? pick(random, [1, 2, most >> 1, most, most]) : 1;
      for (let i = 0; i < count; i++) {
        const part = this.#field(name, field, left, random);
        if (part.length > left) break;
        parts.push(part);
        left -= part.length;
      }
    }
    return Buffer.concat(parts);
  }

  #field(message: string, field: SchemaField, room: number, random: Prng): Uint8Array {
    const { number, type, bounds } = field;
    const isInflated = `${message}.${field.name}` === this.#inflated;
    if (isInflated) return delimited(number, randomBytes(random, Math.max(0, room - 256)));
    const lent = this.#lent[`${message}.${field.name}`]?.(random);
    if (lent instanceof Uint8Array) return delimited(number, lent);
    const inner = SCHEMA.get(type);
    if (inner !== undefined) {
      const all = inner.fields.map(({ name }) => name);
      // Whole: what does not fit into the frame is left out by whoever asked.
      return delimited(number, this.#message(inner, this.#frameBytesMax, random, all));
    }
    switch (type) {
      case 'double':
        return Uint8Array.from([...varint(8 * number + 1), ...randomBytes(random, 8)]);
      case 'bytes':
      case 'string': {
        if (bounds.length !== undefined)
          return delimited(number, randomBytes(random, valueOf(bounds.length)));
        const most = Math.min(valueOf(bounds.bytes ?? '0'), Math.max(0, room - 8));
        const size = pick(random, [0, 1, most >> 1, most, most]);
        const fill = pick(random, [0, 255, -1]);
        return delimited(
          number,
          fill < 0 ? randomBytes(random, size) : new Uint8Array(size).fill(fill),
        );
      }
      default: {
        const extreme = type === 'bool' ? [0, 1] : [0, 1, 7, 65_535, 2 ** 32 - 1];
        const value = lent ?? pick(random, extreme);
        return Uint8Array.from([...varint(8 * number), ...varint(value)]);
      }
    }
  }
}

function fieldOf(message: string, name: string): SchemaField {
  return SCHEMA.get(message)!.fields.find((field) => field.name === name)!;
}

export function pick<T>(random: Prng, values: readonly T[]): T {
  return values[random.nextBelow(values.length)]!;
}

/** The first 64 bytes are drawn, and repeated: what is drawn shows, and the drawing costs little. */
export function randomBytes(random: Prng, size: number): Uint8Array {
  const tile = Uint8Array.from({ length: Math.min(64, size) }, () => random.nextBelow(256));
  return Uint8Array.from(Buffer.alloc(size, tile.length > 0 ? tile : 0));
}

/** Frames of `make` until they have `bytesMax` bytes in all. */
export function* upTo(bytesMax: number, make: () => Uint8Array): Generator<Uint8Array> {
  for (let bytes = 0; bytes < bytesMax;) {
    const frame = make();
    bytes += frame.length + 1;
    yield frame;
  }
}
