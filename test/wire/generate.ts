/**
 * Generates what bounds the decoders: protocol/wire/bounds.ts out of the annotations in messages.proto, and a way through
 * the guard into every decoder that protons wrote. The last step of `npm run generate:wire`.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { faultOf, isScalar, readSchema, WIRE_FOLDER, type SchemaMessage } from './schema.js';

/** The text of bounds.ts, before prettier. @throws Error for a field without a bound. */
export function boundsSource(messages: readonly SchemaMessage[]): string {
  const lines = [
    '/** The bounds of every field of messages.proto; generated from it by npm run generate:wire. */',
    "import * as limits from '../limits.js';",
    "import { messageBounds } from './guard.js';",
  ];
  for (const { name, fields } of messages) {
    lines.push('', `export const ${name} = messageBounds('${name}', [`);
    for (const field of fields) {
      const fault = faultOf(field);
      if (fault !== null) throw new Error(`${name}.${field.name} ${fault}`);
      const kind = isScalar(field.type) ? `'${field.type}'` : field.type;
      const bounds = Object.entries(field.bounds).map(([bound, value]) => {
        return `, ${bound}: ${/^\d+$/.test(value) ? value : `limits.${value}`}`;
      });
      lines.push(
        `{ number: ${field.number}, name: '${field.name}', kind: ${kind}${bounds.join('')} },`,
      );
    }
    lines.push(']);');
  }
  return `${lines.join('\n')}\n`;
}

const RUNTIME =
  'import { decodeMessage, encodeMessage, MaxLengthError, message, streamMessage } from';
const DECODE =
  / {2}export function decode \(buf: ([^,]+), opts\?: [^)]+\): (\w+) \{\n.*\n {2}\}\n/g;
const STREAM = /\n {2}export function stream \(.*\n.*\n {2}\}\n/g;
const STREAM_CODEC = /\}, function \* \([\s\S]*?\n {6}\}\)\n {4}\}\n\n {4}return _codec/g;
const EVENT = / {2}export interface \w+FieldEvent \{\n(?: {4}.*\n)+ {2}\}\n\n/g;

/** What protons wrote, with the guard in every decoder, and without the second way to decode that it offers. */
export function guarded(source: string): string {
  return source
    .replace(
      RUNTIME,
      "import * as bounds from './bounds.js'\n" +
        "import { decodeBounded } from './guard.js'\n" +
        'import { encodeMessage, MaxLengthError, message } from',
    )
    .replace(DECODE, (_, buffer: string, name: string) => {
      return (
        `  export function decode (buf: ${buffer}): ${name} {\n` +
        `    return decodeBounded(buf, ${name}.codec(), bounds.${name})\n  }\n`
      );
    })
    .replace(STREAM, '')
    .replace(STREAM_CODEC, '})\n    }\n\n    return _codec')
    .replace(EVENT, '')
    .replace('import type { Codec, DecodeOptions }', 'import type { Codec }');
}

if (process.argv[1]?.includes('generate')) {
  const file = path.join(WIRE_FOLDER, 'messages.ts');
  writeFileSync(file, guarded(readFileSync(file, 'utf8')));
  writeFileSync(path.join(WIRE_FOLDER, 'bounds.ts'), boundsSource(readSchema()));
}
