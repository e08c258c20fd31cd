/** Changes to an input: of bytes, and of what JSON and protobuf make of them, so that an input stays well-formed for longer. */
import type { Prng } from '../../protocol/prng.js';
import { INPUT_BYTES_MAX } from './oracle.js';

/** Changes to one input at most, and bytes of a piece that is moved. */
const CHANGES_MAX = 5;
const PIECE_BYTES_MAX = 64;

/** How often a piece is repeated, when it is repeated often. */
const REPEATS = 4_000;

/** Levels of nesting that some changes add. */
const DEPTH = 30_000;

/** Bytes at which lengths, counts, signs, texts and JSON go wrong. */
const BYTES = [0, 1, 0x0a, 0x22, 0x2c, 0x5b, 0x5c, 0x7b, 0x7f, 0x80, 0xc0, 0xfe, 0xff];

/** Values that a field of JSON may not expect, as text. */
const VALUES = [
  ...['null', 'true', '0', '-1', '1.5', '1e308', '1e999', '4294967296', '9007199254740993'],
  ...['""', '[]', '{}', '[[]]', '"__proto__"', '"\\u0000"', '"\\ud800"', '{"__proto__":{"x":1}}'],
  ...['{"constructor":{"prototype":{"x":1}}}', `${'['.repeat(DEPTH)}${']'.repeat(DEPTH)}`],
];
const KEYS = ['__proto__', 'constructor', 'toString', 'hasOwnProperty', '', '0'];

/** `input` after a few changes, INPUT_BYTES_MAX at most; `corpus` lends pieces. */
export function change(input: Uint8Array, corpus: readonly Uint8Array[], random: Prng): Uint8Array {
  let changed = input;
  for (let left = 1 + random.nextBelow(CHANGES_MAX); left > 0; left--) {
    changed = changedOnce(changed, corpus, random).subarray(0, INPUT_BYTES_MAX);
  }
  return Uint8Array.from(changed);
}

function changedOnce(input: Uint8Array, corpus: readonly Uint8Array[], random: Prng): Uint8Array {
  const way = random.nextBelow(8);
  if (way < 3 && (input[0] === 0x7b || input[0] === 0x5b)) return changedJson(input, random);
  if (way === 3) return changedProtobuf(input, random) ?? changedBytes(input, corpus, random);
  return changedBytes(input, corpus, random);
}

function changedBytes(input: Uint8Array, corpus: readonly Uint8Array[], random: Prng): Uint8Array {
  const at = random.nextBelow(input.length + 1);
  const length = 1 + random.nextBelow(PIECE_BYTES_MAX);
  const [before, piece, after] = [
    input.subarray(0, at),
    input.subarray(at, at + length),
    input.subarray(at + length),
  ];
  const next = input.subarray(at + 1);
  const byte = BYTES[random.nextBelow(BYTES.length)] ?? 0;
  const other = corpus[random.nextBelow(corpus.length)] ?? input;
  const from = random.nextBelow(other.length + 1);
  switch (random.nextBelow(10)) {
    case 0:
      return Buffer.concat([
        before,
        Uint8Array.of((input[at] ?? 0) ^ (1 << random.nextBelow(8))),
        next,
      ]);
    case 1:
      return Buffer.concat([before, Uint8Array.of(byte), next]);
    case 2:
      return Buffer.concat([
        before,
        Uint8Array.of((input[at] ?? 0) + random.nextBelow(33) - 16),
        next,
      ]);
    case 3:
      return Buffer.concat([before, Uint8Array.of(random.nextBelow(256)), piece, after]);
    case 4:
      return Buffer.concat([before, after]);
    case 5:
      return before;
    case 6:
      return Buffer.concat([before, piece, piece, after]);
    case 7: {
      const times = random.nextBelow(8) === 0 ? REPEATS : 2 + random.nextBelow(30);
      return Buffer.concat([before, ...Array<Uint8Array>(times).fill(piece), after]);
    }
    case 8:
      return Buffer.concat([before, other.subarray(from, from + length), after]);
    default:
      return Buffer.concat([before, other.subarray(from)]);
  }
}

/** A value, a key or an entry of JSON text is replaced, repeated or taken out, found by its punctuation. */
function changedJson(input: Uint8Array, random: Prng): Uint8Array {
  const text = Buffer.from(input).toString('utf8');
  const tokens = text.match(/"(?:[^"\\]|\\.)*"|[[\]{},:]|[^[\]{},:"\s]+|\s+|"/gs) ?? [];
  const at = random.nextBelow(tokens.length + 1);
  const isKey = tokens[at + 1] === ':';
  const choices = isKey ? KEYS.map((key) => JSON.stringify(key)) : VALUES;
  const token = choices[random.nextBelow(choices.length)] ?? 'null';
  // Up to the token that ends this value, so that brackets stay in pairs.
  let [end, depth] = [at, 0];
  do {
    if (/[[{]/.test(tokens[end]?.[0] ?? '')) depth += 1;
    if (/[\]}]/.test(tokens[end]?.[0] ?? '')) depth -= 1;
    end += 1;
  } while (depth > 0 && end < tokens.length);
  const value = tokens.slice(at, end);
  const parts = [
    [token],
    [...value, ',', ...value],
    [...value, ',', token],
    [...value, ',', '"__proto__":', token],
  ][isKey ? 0 : random.nextBelow(4)] ?? [token];
  return Buffer.from([...tokens.slice(0, at), ...parts, ...tokens.slice(end)].join(''));
}

/** One field of a protobuf message, or of a message in it: `body` is what follows tag and length. */
interface Field {
  start: number;
  end: number;
  body: Uint8Array | null;
  tag: number;
}

/** The fields of `bytes`; null for what is no message. Tags of one byte and lengths of two suffice here. */
function fieldsOf(bytes: Uint8Array): Field[] | null {
  const fields: Field[] = [];
  for (let at = 0; at < bytes.length;) {
    const start = at;
    const tag = bytes[at] ?? 0;
    const [value, afterValue] = varint(bytes, at + 1);
    if (tag < 8 || tag > 127) return null;
    const kind = tag & 7;
    if (kind === 0) at = afterValue;
    else if (kind === 1) at += 9;
    else if (kind === 2) at = afterValue + value;
    else return null;
    if (at > bytes.length) return null;
    fields.push({ start, end: at, tag, body: kind === 2 ? bytes.subarray(afterValue, at) : null });
  }
  return fields;
}

/** A field is repeated, taken out, moved to the end, changed inside, or made longer or shorter with its length. */
function changedProtobuf(input: Uint8Array, random: Prng, depth = 0): Uint8Array | null {
  const fields = fieldsOf(input) ?? [];
  const field = fields[random.nextBelow(fields.length || 1)];
  if (field === undefined) return null;
  const [before, whole, after] = [
    input.subarray(0, field.start),
    input.subarray(field.start, field.end),
    input.subarray(field.end),
  ];
  const { body, tag } = field;
  if (body !== null && random.nextBelow(3) > 0) {
    const inner = depth < 6 ? changedProtobuf(body, random, depth + 1) : null;
    const changed = inner ?? changedBytes(body, [input], random);
    return Buffer.concat([before, Uint8Array.of(tag), lengthOf(changed), changed, after]);
  }
  switch (random.nextBelow(4)) {
    case 0:
      return Buffer.concat([before, after]);
    case 1:
      return Buffer.concat([
        before,
        ...Array<Uint8Array>(1 + random.nextBelow(80)).fill(whole),
        after,
      ]);
    case 2:
      return Buffer.concat([before, after, whole]);
    default: {
      const value = Uint8Array.from({ length: 9 }, () => 128 | random.nextBelow(128));
      const ended = [...value.subarray(0, random.nextBelow(10)), random.nextBelow(128)];
      return Buffer.concat([before, Uint8Array.of(tag & ~7, ...ended), after]);
    }
  }
}

function varint(bytes: Uint8Array, at: number): [value: number, end: number] {
  let [value, shift, end] = [0, 1, at];
  for (; end < bytes.length && end < at + 10; end++, shift *= 128) {
    const byte = bytes[end] ?? 0;
    value += (byte & 127) * shift;
    if (byte < 128) return [value, end + 1];
  }
  return [value, end];
}

function lengthOf({ length }: Uint8Array): Uint8Array {
  const bytes: number[] = [];
  for (let rest = length; rest > 0 || bytes.length === 0; rest = Math.floor(rest / 128)) {
    bytes.push((rest % 128) | (rest >= 128 ? 128 : 0));
  }
  return Uint8Array.from(bytes);
}
