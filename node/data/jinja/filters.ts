/** Filters of single values: texts, numbers, JSON. Those of lists are in list-filters.ts. */
import { bind, flagOf, textOf, wholeOf } from './arguments.js';
import { joined, repeated } from './budget.js';
import { formatSpec, percentFormat } from './formatting.js';
import { LIST_FILTERS } from './list-filters.js';
import { signed, whole } from './numbers.js';
import { json, str } from './printing.js';
import { rounded } from './rounding.js';
import {
  capitalised,
  centred,
  floatFromText,
  replaced,
  stripped,
  textMethod,
  wholeFromText,
} from './text-methods.js';
import {
  codePoints,
  Dict,
  Float,
  isInteger,
  isNumber,
  isTrue,
  iterate,
  itemsOf,
  JinjaError,
  toNumber,
  Tuple,
  typeName,
  Undefined,
  type Arguments,
  type Value,
} from './values.js';

/** What filters ask the interpreter for. */
export interface FilterContext {
  readonly filter: (name: string, value: Value, args: Arguments) => Value;
  readonly test: (name: string, value: Value, args: Arguments) => boolean;
}

export type Filter = (value: Value, args: Arguments, context: FilterContext) => Value;

const ofText =
  (work: (text: string) => Value): Filter =>
  (value, args) => {
    bind(args, []);
    return work(str(value));
  };

function toJson(value: Value, args: Arguments): string {
  const [ensureAscii, indent = null, separators = null, sortKeys] = bind(args, [
    ...['ensure_ascii', 'indent', 'separators', 'sort_keys'],
  ]);
  const pair = itemsOf(separators)?.map((one) => textOf(one, ''));
  if (pair !== undefined && pair.length !== 2) throw new JinjaError('separators are two texts');
  const [item = '', key = ''] = pair ?? [];
  return json(value, {
    ensureAscii: flagOf(ensureAscii),
    indent:
      indent === null
        ? null
        : typeof indent === 'string'
          ? indent
          : repeated(' ', wholeOf(indent, 0)),
    separators: pair === undefined ? null : [item, key],
    sortKeys: flagOf(sortKeys),
  });
}

function toWhole(value: Value, args: Arguments): Value {
  const [usual = 0, base] = bind(args, ['default', 'base']);
  if (typeof value === 'string') {
    const exact = wholeFromText(value, wholeOf(base, 10));
    if (exact !== null) return whole(exact);
    const near = floatFromText(value);
    return near === null || !Number.isFinite(near) ? usual : whole(BigInt(Math.trunc(near)));
  }
  if (value instanceof Undefined) value.fail();
  if (!isNumber(value)) return usual;
  if (!(value instanceof Float)) return whole(BigInt(value));
  return Number.isFinite(value.value) ? whole(BigInt(Math.trunc(value.value))) : usual;
}

function toFloat(value: Value, args: Arguments): Value {
  const [usual = new Float(0)] = bind(args, ['default']);
  if (value instanceof Undefined) value.fail();
  if (typeof value === 'string') {
    const number = floatFromText(value);
    return number === null ? usual : new Float(number);
  }
  return isNumber(value) ? new Float(toNumber(value)) : usual;
}

function round(value: Value, args: Arguments): Value {
  const [precision, method] = bind(args, ['precision', 'method']);
  if (!isNumber(value)) throw new JinjaError(`${typeName(value)} cannot be rounded`);
  const [digits, way] = [wholeOf(precision, 0), textOf(method, 'common')];
  if (way === 'common') {
    // A whole number stays one.
    if (isInteger(value) && digits >= 0) return whole(BigInt(value));
    const result = rounded(toNumber(value), digits);
    return isInteger(value) ? result : new Float(result);
  }
  if (way !== 'ceil' && way !== 'floor') throw new JinjaError('method is common, ceil or floor');
  const unit = 10 ** digits;
  return new Float(Math[way](toNumber(value) * unit) / unit);
}

function indent(value: Value, args: Arguments): string {
  const [width = 4, first, blank] = bind(args, ['width', 'first', 'blank']);
  if (typeof value !== 'string') throw new JinjaError(`${typeName(value)} cannot be indented`);
  const by = typeof width === 'string' ? width : repeated(' ', wholeOf(width, 4));
  const lines = textMethod(
    `${value}\n`,
    'splitlines',
    () => null,
  )?.({
    positional: [],
    named: new Map(),
  });
  const texts = iterate(lines ?? []).map((line, i) => {
    const text = str(line);
    return i > 0 && (text !== '' || flagOf(blank)) ? by + text : text;
  });
  return (flagOf(first) ? by : '') + joined(texts, '\n');
}

function truncate(value: Value, args: Arguments): string {
  const [length, kills, ending, leeway] = bind(args, ['length', 'killwords', 'end', 'leeway']);
  const [most, end] = [wholeOf(length, 255), textOf(ending, '...')];
  const text = str(value);
  if (codePoints(text) <= most + wholeOf(leeway, 5)) return text;
  const kept = Array.from(text)
    .slice(0, most - codePoints(end))
    .join('');
  if (flagOf(kills)) return kept + end;
  const space = kept.lastIndexOf(' ');
  return (space === -1 ? kept : kept.slice(0, space)) + end;
}

const HTML: Readonly<Record<string, string>> = {
  ...{ '&': '&amp;', '<': '&lt;', '>': '&gt;' },
  ...{ "'": '&#39;', '"': '&#34;' },
};

function escaped(text: string): string {
  return joined(Array.from(text, (character) => HTML[character] ?? character));
}

function quoted(value: Value, isQuery: boolean): string {
  if (/\p{Cs}/u.test(str(value))) throw new JinjaError('half of a character in a URL');
  const text = encodeURIComponent(str(value)).replace(
    /[!'()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  );
  return isQuery ? text.replaceAll('%20', '+') : text.replaceAll('%2F', '/');
}

function urlEncoded(value: Value): string {
  const pairs =
    value instanceof Dict ? value.entries() : itemsOf(value)?.map((pair) => itemsOf(pair) ?? []);
  if (pairs === undefined) return quoted(value, false);
  return joined(
    pairs.map(([key = '', one = '']) => `${quoted(key, true)}=${quoted(one, true)}`),
    '&',
  );
}

const CONTENT_FILTERS: Readonly<Record<string, Filter>> = {
  tojson: toJson,
  default: (value, args) => {
    const [usual = '', boolean] = bind(args, ['default_value', 'boolean']);
    const isMissing = value instanceof Undefined || (flagOf(boolean) && !isTrue(value));
    return isMissing ? usual : value;
  },
  string: ofText((text) => text),
  upper: ofText((text) => text.toUpperCase()),
  lower: ofText((text) => text.toLowerCase()),
  capitalize: ofText(capitalised),
  title: ofText((text) =>
    text
      .split(/([-\s({[<]+)/)
      .map(capitalised)
      .join(''),
  ),
  trim: (value, args) => {
    const [characters = null] = bind(args, ['chars']);
    return stripped(str(value), characters === null ? null : textOf(characters, ''));
  },
  replace: (value, args) => {
    const [old = null, by = null, count = null] = bind(args, ['old', 'new', 'count']);
    return replaced(str(value), str(old), str(by), count === null ? -1 : wholeOf(count, -1));
  },
  indent,
  truncate,
  center: (value, args) => {
    const [width] = bind(args, ['width']);
    return centred(str(value), wholeOf(width, 80));
  },
  wordcount: ofText((text) => text.match(/[\p{L}\p{N}_]+/gu)?.length ?? 0),
  format: (value, { positional, named }) => {
    if (named.size === 0) return percentFormat(str(value), new Tuple(positional));
    return percentFormat(str(value), new Dict(named));
  },
  escape: ofText(escaped),
  e: ofText(escaped),
  forceescape: ofText(escaped),
  safe: (value) => str(value),
  urlencode: urlEncoded,
  filesizeformat: (value, args) => sizeText(value, flagOf(bind(args, ['binary'])[0])),
  int: toWhole,
  float: toFloat,
  round,
  abs: (value) => {
    if (!isNumber(value)) throw new JinjaError(`${typeName(value)} has no absolute value`);
    return signed(value, toNumber(value) < 0);
  },
};

function sizeText(value: Value, isBinary: boolean): string {
  const bytes = toNumber(toFloat(value, { positional: [], named: new Map() }) as Float);
  const base = isBinary ? 1024 : 1000;
  if (bytes === 1) return '1 Byte';
  if (bytes < base) return `${Math.trunc(bytes)} Bytes`;
  const letters = Array.from('KMGTPEZY');
  const at = letters.findIndex((_, i) => bytes < base ** (i + 2));
  const place = at === -1 ? letters.length - 1 : at;
  const prefix = place === 0 && !isBinary ? 'k' : (letters[place] ?? '');
  const number = formatSpec(new Float((base * bytes) / base ** (place + 2)), '.1f');
  return `${number} ${prefix}${isBinary ? 'iB' : 'B'}`;
}

const FILTERS: Readonly<Record<string, Filter>> = {
  ...CONTENT_FILTERS,
  ...LIST_FILTERS,
  d: CONTENT_FILTERS['default'] as Filter,
};

/** Throws JinjaError for a filter that there is not. */
export function filterNamed(name: string): Filter {
  const filter = isFilterName(name) ? FILTERS[name] : undefined;
  if (filter === undefined) throw new JinjaError(`there is no filter ${name}`);
  return filter;
}

export function isFilterName(name: string): boolean {
  return Object.hasOwn(FILTERS, name);
}
