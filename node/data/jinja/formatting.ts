/** '%s' % x and '{}'.format(x), as far as templates go. */
import { joined, repeated } from './budget.js';
import { exactFixed } from './rounding.js';
import { floatText, repr, str } from './printing.js';
import {
  codePoints,
  Dict,
  Float,
  isInteger,
  isNumber,
  JinjaError,
  toNumber,
  Tuple,
  typeName,
  type Arguments,
  type Value,
} from './values.js';

/** Characters of one field at most: a width is what a template may ask for. */
const WIDTH_MAX = 1 << 16;

const PERCENT = /%(?:\((\w+)\))?([-+ 0#]*)(\d+)?(?:\.(\d+))?[hlL]?(.)/gsu;

/** As `template % given`. */
export function percentFormat(template: string, given: Value): string {
  const values = given instanceof Tuple ? given.items : [given];
  let used = 0;
  const next = (): Value => {
    const value = values[used++];
    if (value === undefined) throw new JinjaError('not enough values for the format');
    return value;
  };
  const parts: string[] = [];
  let from = 0;
  for (const match of template.matchAll(PERCENT)) {
    const [whole, name, flags = '', width, precision, kind = ''] = match;
    parts.push(template.slice(from, match.index));
    from = match.index + whole.length;
    if (kind === '%') {
      parts.push('%');
      continue;
    }
    const value = name === undefined ? next() : named(given, name);
    const fill = flags.includes('0') && !flags.includes('-') ? '0' : ' ';
    const spec: Spec = {
      ...{ fill, align: flags.includes('-') ? '<' : fill === '0' && kind !== 's' ? '=' : '>' },
      sign: flags.includes('+') ? '+' : flags.includes(' ') ? ' ' : '-',
      ...{ isAlternate: flags.includes('#'), width: Number(width ?? 0), grouping: '' },
      precision: precision === undefined ? null : Number(precision),
      kind: kind === 'i' || kind === 'u' ? 'd' : kind,
    };
    parts.push(percentField(value, spec));
  }
  const rest = template.slice(from);
  if (rest.includes('%')) throw new JinjaError('an incomplete format');
  parts.push(rest);
  if (!(given instanceof Dict) && used < values.length) {
    throw new JinjaError('not all values are used by the format');
  }
  return joined(parts);
}

function named(given: Value, name: string): Value {
  const value = given instanceof Dict ? given.get(name) : undefined;
  if (value === undefined) throw new JinjaError(`the format has no value for ${name}`);
  return value;
}

function percentField(value: Value, spec: Spec): string {
  const { kind } = spec;
  if (kind === 's' || kind === 'r') {
    return padded(cut(kind === 's' ? str(value) : repr(value), spec.precision), spec);
  }
  if (!isNumber(value)) throw new JinjaError(`%${kind} takes a number, not ${typeName(value)}`);
  const number = kind === 'd' && value instanceof Float ? Math.trunc(value.value) : value;
  return formatted(number, spec);
}

/** How one value is written. */
interface Spec {
  fill: string;
  align: string;
  sign: string;
  isAlternate: boolean;
  width: number;
  grouping: string;
  precision: number | null;
  kind: string;
}

const FIELD = /\{\{|\}\}|\{([^{}]*)\}|[{}]/g;
const SPEC = /^(?:(.)?([<>=^]))?([-+ ])?(#)?(0)?(\d+)?([,_])?(?:\.(\d+))?([bcdeEfFgGnosxX%])?$/su;

/** As `template.format(...)`; `attribute`: how a field's attributes and items are found. */
export function braceFormat(
  template: string,
  { positional, named: byName }: Arguments,
  attribute: (value: Value, name: string, isItem: boolean) => Value,
): string {
  let used = 0;
  const parts: string[] = [];
  let from = 0;
  for (const match of template.matchAll(FIELD)) {
    const [whole, field] = match;
    parts.push(template.slice(from, match.index));
    from = match.index + whole.length;
    if (whole === '{{' || whole === '}}') {
      parts.push(whole[0] ?? '');
      continue;
    }
    if (field === undefined) throw new JinjaError('a single brace in a format');
    const [, name = '', path = '', conversion = '', spec = ''] =
      /^([^.[!:]*)([^!:]*)(?:!([rsa]))?(?::(.*))?$/su.exec(field) ?? [];
    const key = name === '' ? String(used++) : name;
    let value = /^\d+$/.test(key) ? positional[Number(key)] : byName.get(key);
    if (value === undefined) throw new JinjaError(`the format has no value for ${key}`);
    for (const [, dotted, item] of path.matchAll(/\.(\w+)|\[([^\]]*)\]/gu)) {
      value = attribute(value, dotted ?? item ?? '', dotted === undefined);
    }
    parts.push(formatSpec(conversion === 'r' ? repr(value) : value, spec));
  }
  return joined([...parts, template.slice(from)]);
}

/** As format(value, spec). */
export function formatSpec(value: Value, text: string): string {
  if (text === '') return str(value);
  const found = SPEC.exec(text);
  if (found === null) throw new JinjaError('a format that is not known');
  const [, fill, align, sign = '-', alternate, zero, width, grouping = '', precision, kind] = found;
  const isText = typeof value === 'string';
  const spec: Spec = {
    fill: fill ?? (zero === undefined ? ' ' : '0'),
    align: align ?? (zero === undefined ? (isText ? '<' : '>') : '='),
    ...{ sign, isAlternate: alternate !== undefined, width: Number(width ?? 0), grouping },
    precision: precision === undefined ? null : Number(precision),
    kind: kind ?? '',
  };
  if (isText) return padded(cut(value, spec.precision), spec);
  if (isNumber(value)) return formatted(value, spec);
  throw new JinjaError(`${typeName(value)} takes no format`);
}

function cut(text: string, length: number | null): string {
  return length === null ? text : Array.from(text).slice(0, length).join('');
}

function padded(text: string, { width, fill, align }: Spec): string {
  if (width > WIDTH_MAX) throw new JinjaError(`a field of more than ${WIDTH_MAX} characters`);
  const missing = width - codePoints(text);
  if (missing <= 0) return text;
  if (align === '<') return text + repeated(fill, missing);
  if (align === '^') {
    return repeated(fill, missing >> 1) + text + repeated(fill, missing - (missing >> 1));
  }
  const signed = align === '=' && /^[-+ ]/.test(text) ? 1 : 0;
  return text.slice(0, signed) + repeated(fill, missing) + text.slice(signed);
}

function formatted(value: number | bigint | boolean | Float, spec: Spec): string {
  const negative = toNumber(value) < 0 || Object.is(toNumber(value), -0);
  const plain = digitsOf(value, spec).replace(/^-/, '');
  const [whole = '', fraction] = plain.split('.');
  const grouped =
    spec.grouping === '' ? whole : whole.replace(/\B(?=(\d{3})+(?!\d))/g, spec.grouping);
  const text = fraction === undefined ? grouped : `${grouped}.${fraction}`;
  const sign = negative ? '-' : spec.sign === '-' ? '' : spec.sign;
  return padded(sign + text, spec);
}

function digitsOf(value: number | bigint | boolean | Float, spec: Spec): string {
  const { kind, isAlternate } = spec;
  const precision = Math.min(100, spec.precision ?? 6);
  const number = toNumber(value);
  switch (kind) {
    case 'd':
    case 'n':
      return wholeDigits(value, 10);
    case 'x':
      return (isAlternate ? '0x' : '') + wholeDigits(value, 16);
    case 'X':
      return (isAlternate ? '0X' : '') + wholeDigits(value, 16).toUpperCase();
    case 'o':
      return (isAlternate ? '0o' : '') + wholeDigits(value, 8);
    case 'b':
      return (isAlternate ? '0b' : '') + wholeDigits(value, 2);
    case 'f':
    case 'F':
      return exactFixed(number, precision);
    case '%':
      return `${exactFixed(number * 100, precision)}%`;
    case 'e':
    case 'E': {
      const text = number.toExponential(precision).replace(/e([-+])(\d)$/, 'e$10$2');
      return kind === 'E' ? text.toUpperCase() : text;
    }
    case 'g':
    case 'G':
      return general(number, precision === 0 ? 1 : precision);
    case '':
      if (isInteger(value)) return wholeDigits(value, 10);
      return spec.precision === null ? floatText(number) : general(number, precision);
    default:
      throw new JinjaError(`the format ${kind} is not for numbers`);
  }
}

function wholeDigits(value: number | bigint | boolean | Float, base: number): string {
  if (!isInteger(value)) throw new JinjaError('a format of whole numbers, for a float');
  return BigInt(value).toString(base);
}

/** As %g: the shorter of two ways, without zeros at the end. */
function general(value: number, digits: number): string {
  if (value === 0) return '0';
  const power = Number(value.toExponential(digits - 1).split('e')[1]);
  if (power < -4 || power >= digits) {
    const [mantissa = '', exponent = ''] = value.toExponential(digits - 1).split('e');
    const short = mantissa.includes('.') ? mantissa.replace(/\.?0+$/, '') : mantissa;
    return `${short}e${exponent[0]}${exponent.slice(1).padStart(2, '0')}`;
  }
  const text = exactFixed(value, Math.max(0, digits - 1 - power));
  return text.includes('.') ? text.replace(/\.?0+$/, '') : text;
}
