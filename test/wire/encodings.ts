/** Encodings of every field of the schema, at its bound and just beyond, written without the encoder under test. */
import { isScalar, valueOf, type SchemaField, type SchemaMessage } from './schema.js';

export interface BoundCase {
  /** E.g. "SyncFrame.have.authors.digest: one byte more". */
  what: string;
  bytes: Uint8Array;
  isWithin: boolean;
}

const WIRE_TYPES: Readonly<Record<string, number>> = { uint32: 0, uint64: 0, bool: 0, double: 1 };

export function varint(value: number): number[] {
  const bytes: number[] = [];
  for (; value > 127; value = Math.floor(value / 128)) bytes.push((value % 128) + 128);
  return [...bytes, value];
}

/** A field of bytes, text or a message: `value` after its tag and length. */
export function delimited(number: number, value: Uint8Array): Uint8Array {
  return Buffer.concat([
    Uint8Array.from([...varint(8 * number + 2), ...varint(value.length)]),
    value,
  ]);
}

/** What each field of `message`, and of every message inside of it, may be, and what it may not be. */
export function* boundCases(
  message: SchemaMessage,
  schema: readonly SchemaMessage[],
): Generator<BoundCase> {
  for (const field of message.fields) {
    const inner = schema.find(({ name }) => name === field.type);
    const name = `${message.name}.${field.name}`;
    for (const own of ownCases(field)) yield { ...own, what: `${name}: ${own.what}` };
    if (inner === undefined) continue;
    for (const { what, bytes, isWithin } of boundCases(inner, schema)) {
      yield { what: `${name}: ${what}`, bytes: delimited(field.number, bytes), isWithin };
    }
  }
}

function* ownCases(field: SchemaField): Generator<BoundCase> {
  const { count, bytes, length } = field.bounds;
  const [most, exact] = [bytes, length].map((bound) =>
    bound === undefined ? NaN : valueOf(bound),
  );
  const sized = (size: number): Uint8Array => delimited(field.number, new Uint8Array(size));
  if (bytes !== undefined) {
    yield { what: 'at its bound', bytes: sized(most!), isWithin: true };
    yield { what: 'one byte more', bytes: sized(most! + 1), isWithin: false };
  }
  if (length !== undefined) {
    yield { what: 'of its length', bytes: sized(exact!), isWithin: true };
    yield { what: 'one byte more', bytes: sized(exact! + 1), isWithin: false };
    yield { what: 'one byte less', bytes: sized(exact! - 1), isWithin: false };
    yield { what: 'no bytes', bytes: sized(0), isWithin: !field.isRepeated };
  }
  if (bytes !== undefined || length !== undefined || !isScalar(field.type)) {
    const claim = Uint8Array.from([...varint(8 * field.number + 2), ...varint(2 ** 31)]);
    yield { what: 'a length of 2 GiB and nothing after it', bytes: claim, isWithin: false };
  }
  const one = shortest(field);
  const times = (n: number): Uint8Array => Buffer.concat(Array<Uint8Array>(n).fill(one));
  const [many, unit] = [count === undefined ? 1 : valueOf(count), 'as often as it may occur'];
  yield { what: unit, bytes: times(many), isWithin: true };
  yield { what: 'once more than it may occur', bytes: times(many + 1), isWithin: false };
}

/** One occurrence of a field in few bytes. */
function shortest({ number, type, bounds }: SchemaField): Uint8Array {
  const wireType = WIRE_TYPES[type] ?? 2;
  const tag = varint(8 * number + wireType);
  if (wireType === 0) return Uint8Array.from([...tag, 1]);
  if (wireType === 1) return Uint8Array.from([...tag, ...new Uint8Array(8)]);
  return delimited(
    number,
    new Uint8Array(bounds.length === undefined ? 0 : valueOf(bounds.length)),
  );
}
