/** How Python writes values: str(), repr() and json.dumps(). */
import { joined, repeated, spendCharacters } from './budget.js';
import {
  checkDepth,
  Dict,
  Float,
  isList,
  isNumber,
  itemsOf,
  JinjaError,
  Namespace,
  Range,
  Tuple,
  typeName,
  Undefined,
  View,
  type Value,
} from './values.js';

/** A value as it is printed. */
export function str(value: Value): string {
  if (typeof value === 'string') return value;
  if (value instanceof Undefined) return '';
  return repr(value);
}

/** A value as it is printed within others. */
export function repr(value: Value, depth = 0): string {
  checkDepth(depth);
  if (value === null) return 'None';
  if (typeof value === 'string') return reprText(value);
  if (typeof value === 'boolean') return value ? 'True' : 'False';
  if (typeof value === 'number' || typeof value === 'bigint') return String(value);
  if (value instanceof Float) return floatText(value.value);
  if (value instanceof Undefined) return 'Undefined';
  const within = (items: readonly Value[]): string =>
    joined(
      items.map((item) => repr(item, depth + 1)),
      ', ',
    );
  if (isList(value)) return `[${within(value)}]`;
  if (value instanceof Tuple) {
    return `(${within(value.items)}${value.items.length === 1 ? ',' : ''})`;
  }
  if (value instanceof Dict) return reprEntries(value.entries(), depth);
  if (value instanceof View) return `dict_${value.kind}([${within(value.items())}])`;
  if (value instanceof Range) {
    return `range(${value.from}, ${value.to}${value.step === 1 ? '' : `, ${value.step}`})`;
  }
  if (value instanceof Namespace) {
    return `<Namespace ${reprEntries([...value.attributes], depth)}>`;
  }
  throw new JinjaError(`${typeName(value)} cannot be written`);
}

function reprEntries(entries: readonly (readonly [Value, Value])[], depth: number): string {
  const pairs = entries.map(([key, one]) => `${repr(key, depth + 1)}: ${repr(one, depth + 1)}`);
  return `{${joined(pairs, ', ')}}`;
}

const ESCAPES: Readonly<Record<string, string>> = {
  '\\': '\\\\',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
};

function reprText(text: string): string {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  // What is not printable, and spaces other than the usual one.
  const inner = text.replace(/[\\\n\r\t'"]|\p{C}|(?! )\p{Z}/gu, (character) => {
    if (character === quote) return `\\${quote}`;
    if (character === "'" || character === '"') return character;
    return ESCAPES[character] ?? codeOf(character.codePointAt(0) ?? 0);
  });
  spendCharacters(inner.length + 2);
  return `${quote}${inner}${quote}`;
}

function codeOf(code: number): string {
  const [letter, digits] = code < 0x100 ? ['x', 2] : code < 0x10000 ? ['u', 4] : ['U', 8];
  return `\\${letter}${code.toString(16).padStart(digits, '0')}`;
}

/** As repr() of a float: the fewest digits that say which it is, with an exponent below 1e-4 and from 1e16 on. */
export function floatText(value: number): string {
  if (Number.isNaN(value)) return 'nan';
  if (!Number.isFinite(value)) return value < 0 ? '-inf' : 'inf';
  if (value === 0) return Object.is(value, -0) ? '-0.0' : '0.0';
  const [digits = '', exponent = ''] = value.toExponential().split('e');
  const power = Number(exponent);
  if (power < -4 || power >= 16) {
    const places = String(Math.abs(power)).padStart(2, '0');
    return `${digits}e${power < 0 ? '-' : '+'}${places}`;
  }
  const text = String(value);
  return text.includes('.') ? text : `${text}.0`;
}

/** Options of json.dumps. */
export interface JsonOptions {
  readonly ensureAscii?: boolean;
  /** What a level is indented by; null for everything in one line. */
  readonly indent?: string | null;
  readonly separators?: readonly [item: string, key: string] | null;
  readonly sortKeys?: boolean;
}

/** As json.dumps writes it. Throws JinjaError for what is no JSON. */
export function json(value: Value, options: JsonOptions = {}, depth = 0): string {
  checkDepth(depth);
  const { indent = null, ensureAscii = false } = options;
  if (value === null) return 'null';
  if (typeof value === 'boolean') return value ? 'true' : 'false';
  if (typeof value === 'string') return jsonText(value, ensureAscii);
  if (isNumber(value)) return jsonNumber(value);
  const [itemSeparator, keySeparator] = options.separators ?? [indent === null ? ', ' : ',', ': '];
  const within = (parts: readonly string[], [open, close]: readonly [string, string]): string => {
    if (parts.length === 0) return open + close;
    if (indent === null) return open + joined(parts, itemSeparator) + close;
    const line = `\n${repeated(indent, depth)}`;
    const inner = line + indent;
    return open + inner + joined(parts, itemSeparator + inner) + line + close;
  };
  const items = itemsOf(value);
  if (items !== null) {
    return within(
      items.map((item) => json(item, options, depth + 1)),
      ['[', ']'],
    );
  }
  if (!(value instanceof Dict))
    throw new JinjaError(`${typeName(value)} cannot be written as JSON`);
  const entries = value
    .entries()
    .map(([key, one]) => [jsonKey(key), json(one, options, depth + 1)] as const);
  // Python sorts texts by code points; keys of a schema are ASCII.
  if (options.sortKeys === true) entries.sort(([a], [b]) => (a < b ? -1 : 1));
  return within(
    entries.map(([key, one]) => jsonText(key, ensureAscii) + keySeparator + one),
    ['{', '}'],
  );
}

function jsonNumber(value: number | bigint | Float | boolean): string {
  if (!(value instanceof Float)) return String(value);
  if (Number.isNaN(value.value)) return 'NaN';
  if (!Number.isFinite(value.value)) return value.value < 0 ? '-Infinity' : 'Infinity';
  return floatText(value.value);
}

function jsonKey(key: Value): string {
  if (typeof key === 'string') return key;
  if (key === null) return 'null';
  if (typeof key === 'boolean') return key ? 'true' : 'false';
  if (isNumber(key)) return jsonNumber(key);
  throw new JinjaError(`${typeName(key)} cannot be the key of a JSON object`);
}

const JSON_ESCAPES: Readonly<Record<string, string>> = {
  ...{ '"': '\\"', '\\': '\\\\', '\n': '\\n', '\r': '\\r' },
  ...{ '\t': '\\t', '\f': '\\f', '\b': '\\b' },
};

function jsonText(text: string, ensureAscii: boolean): string {
  // eslint-disable-next-line no-control-regex -- these are what JSON escapes
  const pattern = ensureAscii ? /["\\]|[^ -~]/g : /["\\\u0000-\u001f]/g;
  const inner = text.replace(
    pattern,
    (unit) => JSON_ESCAPES[unit] ?? `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
  spendCharacters(inner.length + 2);
  return `"${inner}"`;
}
