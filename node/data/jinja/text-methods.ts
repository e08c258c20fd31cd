/** The methods of Python's str. */
import { bind, textOf, wholeOf } from './arguments.js';
import { joined, repeated, spendCharacters, spendItems } from './budget.js';
import { braceFormat } from './formatting.js';
import {
  codePoints,
  iterate,
  JinjaError,
  Tuple,
  typeName,
  type Arguments,
  type Value,
} from './values.js';

type Method = (text: string, args: Arguments) => Value;

/** As str.isspace: U+0085 and the separators of ASCII are white space, U+FEFF is not. */
const SPACE =
  '\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000';
const IS_SPACE = new RegExp(`^[${SPACE}]+$`);
const WORDS = new RegExp(`[^${SPACE}]+`, 'g');
// eslint-disable-next-line no-control-regex -- Python breaks lines at them
const LINE_BREAK = /\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]/g;

/** The text without the characters at its ends that are white space, or in `characters`. */
export function stripped(
  text: string,
  characters: string | null,
  sides: 'left' | 'right' | 'both' = 'both',
): string {
  const set = characters === null ? null : new Set(characters);
  const goes = (character: string): boolean =>
    set === null ? IS_SPACE.test(character) : set.has(character);
  let [from, to] = [0, text.length];
  const width = (at: number): number => ((text.codePointAt(at) ?? 0) > 0xffff ? 2 : 1);
  if (sides !== 'right') {
    while (from < to && goes(text.slice(from, from + width(from)))) from += width(from);
  }
  if (sides !== 'left') {
    for (;;) {
      const last = to - (to - 2 >= from && width(to - 2) === 2 ? 2 : 1);
      if (to <= from || !goes(text.slice(last, to))) break;
      to = last;
    }
  }
  return text.slice(from, to);
}

function strip(sides: 'left' | 'right' | 'both'): Method {
  return (text, args) => {
    const [characters = null] = bind(args, ['chars']);
    return stripped(text, characters === null ? null : textOf(characters, ''), sides);
  };
}

/** Where `sought` is, in code points, between two bounds; -1 where it is not. */
function placeOf(text: string, args: Arguments, isLast: boolean): number {
  const [sought, start, end] = bind(args, ['sub', 'start', 'end']);
  const { slice, from } = between(text, start, end);
  const part = textOf(sought, '');
  const at = isLast ? slice.lastIndexOf(part) : slice.indexOf(part);
  return at === -1 ? -1 : from + codePoints(slice.slice(0, at));
}

/** The part of a text between two bounds, as a slice has them. */
function between(
  text: string,
  start: Value | undefined,
  end: Value | undefined,
): { slice: string; from: number } {
  if ((start ?? null) === null && (end ?? null) === null) return { slice: text, from: 0 };
  const all = Array.from(text);
  const bound = (value: Value | undefined, usual: number): number => {
    const at = (value ?? null) === null ? usual : wholeOf(value, usual);
    return Math.min(all.length, Math.max(0, at < 0 ? at + all.length : at));
  };
  const from = bound(start, 0);
  return { slice: all.slice(from, bound(end, all.length)).join(''), from };
}

function found(place: number): number {
  if (place === -1) throw new JinjaError('the text that is sought is not there');
  return place;
}

function hasAffix(isEnd: boolean): Method {
  return (text, args) => {
    const [affix, start, end] = bind(args, [isEnd ? 'suffix' : 'prefix', 'start', 'end']);
    const { slice } = between(text, start, end);
    const affixes = affix instanceof Tuple ? affix.items : [affix];
    return affixes.some((one) => {
      const part = textOf(one ?? null, '');
      return isEnd ? slice.endsWith(part) : slice.startsWith(part);
    });
  };
}

function split(text: string, args: Arguments, fromRight: boolean): Value {
  const [given = null, most] = bind(args, ['sep', 'maxsplit']);
  const limit = wholeOf(most, -1);
  if (given !== null) {
    const separator = textOf(given, '');
    if (separator === '') throw new JinjaError('an empty separator');
    const parts = text.split(separator);
    spendItems(parts.length);
    if (limit < 0 || parts.length <= limit + 1) return parts;
    const cut = fromRight ? parts.length - limit : limit;
    return fromRight
      ? [parts.slice(0, cut).join(separator), ...parts.slice(cut)]
      : [...parts.slice(0, cut), parts.slice(cut).join(separator)];
  }
  const words = [...text.matchAll(WORDS)];
  spendItems(words.length);
  const all = words.map(([word]) => word);
  if (limit < 0 || all.length <= limit) return all;
  if (fromRight) {
    const cut = words.length - limit;
    const end = (words[cut - 1]?.index ?? 0) + (all[cut - 1]?.length ?? 0);
    return [text.slice(0, end), ...all.slice(cut)];
  }
  return [...all.slice(0, limit), text.slice(words[limit]?.index)];
}

function lines(text: string, args: Arguments): Value {
  const [keeps = false] = bind(args, ['keepends']);
  const parts: string[] = [];
  let from = 0;
  for (const { 0: end, index } of text.matchAll(LINE_BREAK)) {
    parts.push(text.slice(from, index) + (keeps === false ? '' : end));
    from = index + end.length;
  }
  if (from < text.length) parts.push(text.slice(from));
  spendItems(parts.length);
  return parts;
}

/** As str.replace. */
export function replaced(text: string, old: string, by: string, count: number): string {
  const places = old === '' ? codePoints(text) + 1 : text.split(old).length - 1;
  const times = count < 0 ? places : Math.min(count, places);
  spendCharacters(text.length + times * (by.length - old.length));
  if (times === 0) return text;
  if (old === '') {
    const all = Array.from(text);
    const pieces = all.map((character, i) => (i < times ? by : '') + character);
    return pieces.join('') + (times > all.length ? by : '');
  }
  const parts = text.split(old);
  return [parts.slice(0, times).join(by), parts.slice(times).join(old)].join(by);
}

function parted(text: string, args: Arguments, isLast: boolean): Value {
  const [given] = bind(args, ['sep']);
  const separator = textOf(given ?? null, '');
  if (separator === '') throw new JinjaError('an empty separator');
  const at = isLast ? text.lastIndexOf(separator) : text.indexOf(separator);
  if (at === -1) return new Tuple(isLast ? ['', '', text] : [text, '', '']);
  return new Tuple([text.slice(0, at), separator, text.slice(at + separator.length)]);
}

/** As str.title, for which every letter after another character begins a word. */
function title(text: string): string {
  return text.replace(
    /\p{L}[\p{L}\p{M}]*/gu,
    (word) => upperFirst(word) + word.slice(firstLength(word)).toLowerCase(),
  );
}

function firstLength(text: string): number {
  return (text.codePointAt(0) ?? 0) > 0xffff ? 2 : 1;
}

function upperFirst(text: string): string {
  return text.slice(0, firstLength(text)).toUpperCase();
}

export function capitalised(text: string): string {
  return upperFirst(text) + text.slice(firstLength(text)).toLowerCase();
}

function aligned(place: (missing: number) => [number, number]): Method {
  return (text, args) => {
    const [width, given] = bind(args, ['width', 'fillchar']);
    const fill = textOf(given, ' ');
    const missing = Math.max(0, wholeOf(width ?? null, 0) - codePoints(text));
    const [left, right] = place(missing);
    return repeated(fill, left) + text + repeated(fill, right);
  };
}

/** Python puts what is left over on the left where the width is odd. */
export function centred(text: string, width: number, fill = ' '): string {
  const missing = Math.max(0, width - codePoints(text));
  const left = (missing >> 1) + (missing & width & 1);
  return repeated(fill, left) + text + repeated(fill, missing - left);
}

function zeros(text: string, args: Arguments): string {
  const [width] = bind(args, ['width']);
  const sign = /^[-+]/.exec(text)?.[0] ?? '';
  const missing = Math.max(0, wholeOf(width ?? null, 0) - codePoints(text));
  return sign + repeated('0', missing) + text.slice(sign.length);
}

function tabsAsSpaces(text: string, args: Arguments): string {
  const [size] = bind(args, ['tabsize']);
  const width = wholeOf(size, 8);
  let column = 0;
  const parts = Array.from(text, (character) => {
    if (character === '\n' || character === '\r') column = 0;
    else if (character !== '\t') column++;
    else {
      const spaces = width <= 0 ? 0 : width - (column % width);
      column += spaces;
      return ' '.repeat(spaces);
    }
    return character;
  });
  return joined(parts);
}

/** What `separator.join(values)` makes, which takes texts alone. */
function joinTexts(separator: string, args: Arguments): string {
  const [given] = bind(args, ['iterable']);
  const parts = iterate(given ?? null).map((part) => {
    if (typeof part === 'string') return part;
    throw new JinjaError(`join() takes texts, not ${typeName(part)}`);
  });
  return joined(parts, separator);
}

const affixless =
  (isEnd: boolean): Method =>
  (text, args) => {
    const affix = textOf(bind(args, ['affix'])[0] ?? null, '');
    if (affix === '') return text;
    if (isEnd) return text.endsWith(affix) ? text.slice(0, -affix.length) : text;
    return text.startsWith(affix) ? text.slice(affix.length) : text;
  };

const is =
  (pattern: RegExp): Method =>
  (text, args) => {
    bind(args, []);
    return pattern.test(text);
  };

const plain =
  (work: (text: string) => Value): Method =>
  (text, args) => {
    bind(args, []);
    return work(text);
  };

const hasCase = (text: string): boolean => text.toLowerCase() !== text.toUpperCase();
const isLower = (text: string): boolean => hasCase(text) && text === text.toLowerCase();
const isUpper = (text: string): boolean => hasCase(text) && text === text.toUpperCase();

const METHODS: Readonly<Record<string, Method>> = {
  strip: strip('both'),
  lstrip: strip('left'),
  rstrip: strip('right'),
  find: (text, args) => placeOf(text, args, false),
  rfind: (text, args) => placeOf(text, args, true),
  index: (text, args) => found(placeOf(text, args, false)),
  rindex: (text, args) => found(placeOf(text, args, true)),
  count: (text, args) => {
    const [sought, start, end] = bind(args, ['sub', 'start', 'end']);
    const { slice } = between(text, start, end);
    const part = textOf(sought ?? null, '');
    return part === '' ? codePoints(slice) + 1 : slice.split(part).length - 1;
  },
  startswith: hasAffix(false),
  endswith: hasAffix(true),
  split: (text, args) => split(text, args, false),
  rsplit: (text, args) => split(text, args, true),
  splitlines: lines,
  partition: (text, args) => parted(text, args, false),
  rpartition: (text, args) => parted(text, args, true),
  replace: (text, args) => {
    const [old, by, count] = bind(args, ['old', 'new', 'count']);
    return replaced(text, textOf(old ?? null, ''), textOf(by ?? null, ''), wholeOf(count, -1));
  },
  removeprefix: affixless(false),
  removesuffix: affixless(true),
  upper: plain((text) => text.toUpperCase()),
  lower: plain((text) => text.toLowerCase()),
  casefold: plain((text) => text.toLowerCase().replaceAll('ß', 'ss')),
  title: plain(title),
  capitalize: plain(capitalised),
  swapcase: plain((text) =>
    Array.from(text, (one) =>
      one === one.toLowerCase() ? one.toUpperCase() : one.toLowerCase(),
    ).join(''),
  ),
  join: joinTexts,
  ljust: aligned((missing) => [0, missing]),
  rjust: aligned((missing) => [missing, 0]),
  center: (text, args) => {
    const [width, fill] = bind(args, ['width', 'fillchar']);
    return centred(text, wholeOf(width ?? null, 0), textOf(fill, ' '));
  },
  zfill: zeros,
  expandtabs: tabsAsSpaces,
  isdigit: is(/^[\p{Nd}¹²³⁰⁴-⁹₀-₉①-⑨⑴-⑼⒈-⒐]+$/u),
  isdecimal: is(/^\p{Nd}+$/u),
  isnumeric: is(/^\p{N}+$/u),
  isalpha: is(/^\p{L}+$/u),
  isalnum: is(/^[\p{L}\p{N}]+$/u),
  isspace: is(IS_SPACE),
  isascii: is(/^[\0-\x7f]*$/),
  isidentifier: is(/^[\p{L}\p{Nl}_][\p{L}\p{Nl}\p{Mn}\p{Mc}\p{Nd}\p{Pc}]*$/u),
  islower: plain(isLower),
  isupper: plain(isUpper),
  istitle: plain((text) => hasCase(text) && text === title(text)),
};

/** The method `name` of a text, ready to be called; undefined where there is none. */
export function textMethod(
  text: string,
  name: string,
  attribute: (value: Value, name: string, isItem: boolean) => Value,
): ((args: Arguments) => Value) | undefined {
  if (name === 'format') return (args) => braceFormat(text, args, attribute);
  const method = Object.hasOwn(METHODS, name) ? METHODS[name] : undefined;
  return method && ((args) => method(text, args));
}

/** As int(text, base); null for what is no number. */
export function wholeFromText(text: string, base: number): bigint | null {
  const digits = stripped(text, null)
    .toLowerCase()
    .replace(/(?<=[\da-z])_(?=[\da-z])/g, '');
  const [, sign = '', rest = ''] = /^([-+]?)(.*)$/s.exec(digits) ?? [];
  const prefix = { 2: '0b', 8: '0o', 16: '0x' }[base];
  const bare = prefix !== undefined && rest.startsWith(prefix) ? rest.slice(2) : rest;
  if (bare === '' || bare.length > 1000) return null;
  let value = 0n;
  for (const digit of bare) {
    const place = '0123456789abcdefghijklmnopqrstuvwxyz'.indexOf(digit);
    if (place === -1 || place >= base) return null;
    value = value * BigInt(base) + BigInt(place);
  }
  return sign === '-' ? -value : value;
}

/** As float(text); null for what is no number. */
export function floatFromText(text: string): number | null {
  const plainText = stripped(text, null).replace(/(?<=\d)_(?=\d)/g, '');
  if (/^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(plainText)) return Number(plainText);
  const named = /^([-+]?)(inf|infinity|nan)$/i.exec(plainText);
  if (named === null) return null;
  const value = /nan/i.test(named[2] ?? '') ? NaN : Infinity;
  return named[1] === '-' ? -value : value;
}
