/**
 * Patterns of tokenizer.json as JavaScript's regular expressions. They are written for Oniguruma, where \s, \w, \d
 * and \b mean Unicode's classes, "^" and "$" lines, and "?+" takes without giving back.
 */
import { fieldsOf, FormatError, type Fields } from './fields.js';

/** A pattern has 100 to 500 characters. */
const PATTERN_LENGTH_MAX = 20_000;
/** Classes in classes and groups in groups. */
const DEPTH_MAX = 64;

/** Names of POSIX classes, and what Oniguruma takes them for. */
const NAMED: Readonly<Record<string, string>> = {
  alnum: '[\\p{Alphabetic}\\p{Nd}]',
  alpha: '\\p{Alphabetic}',
  blank: '[\\p{Zs}\\t]',
  cntrl: '\\p{Cc}',
  digit: '\\p{Nd}',
  lower: '\\p{Lowercase}',
  punct: '[\\p{P}\\p{S}]',
  space: '\\p{White_Space}',
  upper: '\\p{Uppercase}',
  word: '[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}]',
  xdigit: '[0-9A-Fa-f]',
};
const WORD = NAMED['word'] ?? '';
const CLASSES: Readonly<Record<string, string>> = {
  s: '\\p{White_Space}',
  S: '\\P{White_Space}',
  d: '\\p{Nd}',
  D: '\\P{Nd}',
  w: WORD,
  W: `[^${WORD}]`,
  h: '[0-9A-Fa-f]',
  H: '[^0-9A-Fa-f]',
};
const ASSERTIONS: Readonly<Record<string, string>> = {
  A: '(?<![^])',
  z: '(?![^])',
  Z: '(?=\\n?(?![^]))',
  b: `(?:(?<=${WORD})(?!${WORD})|(?<!${WORD})(?=${WORD}))`,
  B: `(?:(?<=${WORD})(?=${WORD})|(?<!${WORD})(?!${WORD}))`,
};
const CONTROLS: Readonly<Record<string, string>> = {
  n: '\n',
  r: '\r',
  t: '\t',
  f: '\f',
  v: '\v',
  a: '\u0007',
  e: '\u001b',
};
/** What folds to an ASCII letter besides its capital. */
const FOLDED: Readonly<Record<string, string>> = { s: '\u017f', k: '\u212a' };

/** Of a "pattern" field: {"String": "..."} or {"Regex": "..."}. Global, to be used from its beginning. */
export function patternOf(fields: Fields): RegExp {
  const pattern = fieldsOf(fields['pattern'], '"pattern"');
  if (typeof pattern['String'] === 'string') return literalPattern(pattern['String']);
  if (typeof pattern['Regex'] === 'string') return regexPattern(pattern['Regex']);
  throw new FormatError('"pattern" has neither a "String" nor a "Regex"');
}

export function literalPattern(text: string): RegExp {
  return new RegExp(Array.from(text, literal).join('') || '(?:)', 'gv');
}

/** Throws FormatError for what has no counterpart here. */
export function regexPattern(source: string): RegExp {
  if (source.length > PATTERN_LENGTH_MAX) throw new FormatError('a pattern is too long');
  const translated = new Translator(source).translate();
  try {
    return new RegExp(translated, 'gv');
  } catch {
    throw new FormatError(`the pattern ${JSON.stringify(source)} cannot be used here`);
  }
}

function literal(character: string): string {
  return /[\p{L}\p{N} ]/u.test(character)
    ? character
    : `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`;
}

class Translator {
  readonly #characters: readonly string[];
  #at = 0;
  #groups = 0;
  #depth = 0;

  constructor(readonly source: string) {
    this.#characters = Array.from(source);
  }

  translate(): string {
    const out = this.#alternatives(false);
    if (this.#at < this.#characters.length) throw this.#unknown();
    return out;
  }

  #peek(ahead = 0): string {
    return this.#characters[this.#at + ahead] ?? '';
  }

  #take(): string {
    const character = this.#peek();
    if (character === '') throw this.#unknown();
    this.#at++;
    return character;
  }

  #skip(text: string): boolean {
    const isThere = Array.from(text).every((character, i) => this.#peek(i) === character);
    if (isThere) this.#at += text.length;
    return isThere;
  }

  #unknown(): FormatError {
    return new FormatError(`the pattern ${JSON.stringify(this.source)} cannot be read`);
  }

  /** Up to the end of a group. `folds`: whether the case of letters does not matter. */
  #alternatives(folds: boolean): string {
    if (++this.#depth > DEPTH_MAX) throw this.#unknown();
    let out = '';
    while (this.#at < this.#characters.length && this.#peek() !== ')') {
      if (this.#skip('|')) {
        out += '|';
      } else if (this.#skip('(?i)')) {
        // Up to the end of the group, alternatives included.
        out += `(?:${this.#alternatives(true)})`;
      } else {
        out += this.#quantified(this.#atom(folds));
      }
    }
    this.#depth--;
    return out;
  }

  #quantified(atom: string): string {
    let out = atom;
    for (;;) {
      const rest = this.#characters.slice(this.#at, this.#at + 24).join('');
      const [counted] = /^\{(?:\d+(?:,\d*)?|,\d+)\}/.exec(rest) ?? [];
      let times: string;
      if (counted !== undefined) {
        this.#at += counted.length;
        times = counted.replace('{,', '{0,');
      } else if ('*+?'.includes(this.#peek() || ' ')) {
        times = this.#take();
      } else {
        return out;
      }
      if (this.#skip('?')) out = `${out}${times}?`;
      else if (counted === undefined && this.#skip('+')) out = this.#possessive(`${out}${times}`);
      else out = `${out}${times}`;
      // A quantifier of a quantifier counts the whole.
      out = `(?:${out})`;
    }
  }

  /** What matched once is not given back: a look-ahead is never entered again. */
  #possessive(inner: string): string {
    const name = `p${++this.#groups}`;
    return `(?:(?=(?<${name}>${inner}))\\k<${name}>)`;
  }

  #atom(folds: boolean): string {
    const character = this.#take();
    switch (character) {
      case '(':
        return this.#group(folds);
      case '[':
        return this.#class(folds);
      case '.':
        return '[^\\n]';
      case '^':
        return '(?:(?<![^])|(?<=\\n))';
      case '$':
        return '(?:(?![^])|(?=\\n))';
      case '\\':
        return this.#escape();
      case '*':
      case '+':
      case '?':
        throw this.#unknown();
      default:
        return folds ? folded(character) : literal(character);
    }
  }

  #group(folds: boolean): string {
    const close = (open: string, folding = folds): string => {
      const inner = this.#alternatives(folding);
      if (!this.#skip(')')) throw this.#unknown();
      return `${open}${inner})`;
    };
    for (const open of ['(?:', '(?=', '(?!', '(?<=', '(?<!']) {
      if (this.#skip(open.slice(1))) return close(open);
    }
    if (this.#skip('?i:')) return close('(?:', true);
    if (this.#skip('?-i:')) return close('(?:', false);
    if (this.#skip('?>')) return this.#possessive(close('(?:'));
    if (this.#skip('?<')) {
      while (this.#take() !== '>');
      return close('(?:');
    }
    if (this.#peek() === '?') throw this.#unknown();
    // Nothing refers back to a group of a tokenizer's pattern.
    return close('(?:');
  }

  #escape(): string {
    const name = this.#peek();
    const assertion = ASSERTIONS[name];
    if (assertion !== undefined) {
      this.#at++;
      return assertion;
    }
    return this.#set() ?? literal(this.#escaped());
  }

  /** A class after a backslash; null, and nothing taken, where none stands there. */
  #set(): string | null {
    const name = this.#peek();
    const known = CLASSES[name];
    if (known !== undefined) {
      this.#at++;
      return known;
    }
    if (name !== 'p' && name !== 'P') return null;
    this.#at++;
    let property = '';
    if (this.#skip('{')) {
      while (this.#peek() !== '}') property += this.#take();
      this.#at++;
    } else {
      property = this.#take();
    }
    const isNegated = property.startsWith('^') !== (name === 'P');
    return propertyClass(property.replace(/^\^/, ''), isNegated);
  }

  /** The character that a backslash and what follows stand for. */
  #escaped(): string {
    const character = this.#take();
    const control = CONTROLS[character];
    if (control !== undefined) return control;
    const rest = this.#characters.slice(this.#at, this.#at + 12).join('');
    const hex = { x: /^(?:\{([0-9A-Fa-f]{1,6})\}|([0-9A-Fa-f]{1,2}))/, u: /^([0-9A-Fa-f]{4})/ };
    if (character === 'x' || character === 'u') {
      const match = hex[character].exec(rest);
      const code = Number.parseInt(match?.[1] ?? match?.[2] ?? '', 16);
      if (match === null || code > 0x10ffff) throw this.#unknown();
      this.#at += match[0].length;
      return String.fromCodePoint(code);
    }
    if (/[A-Za-z0-9]/.test(character)) throw this.#unknown();
    return character;
  }

  /** After "[". A class of JavaScript's kind "v", which has classes in classes and "&&" as Oniguruma does. */
  #class(folds: boolean): string {
    if (++this.#depth > DEPTH_MAX) throw this.#unknown();
    const isNegated = this.#skip('^');
    const operands: string[] = [];
    let union = '';
    let isFirst = true;
    while (isFirst || this.#peek() !== ']') {
      if (this.#skip('&&')) {
        operands.push(`[${union}]`);
        union = '';
      } else {
        union += this.#member(folds);
      }
      isFirst = false;
    }
    this.#at++;
    this.#depth--;
    operands.push(`[${union}]`);
    const inner = operands.length === 1 ? union : operands.join('&&');
    return `[${isNegated ? '^' : ''}${inner}]`;
  }

  #member(folds: boolean): string {
    if (this.#skip('[:')) {
      const isNegated = this.#skip('^');
      let name = '';
      while (!this.#skip(':]')) name += this.#take();
      return propertyClass(name, isNegated);
    }
    if (this.#skip('[')) return this.#class(folds);
    if (this.#peek() === '\\' && /[sSdDwWhHpP]/.test(this.#peek(1))) {
      this.#at++;
      return this.#set() ?? '';
    }
    const from = this.#classCharacter();
    const isRange = this.#peek() === '-' && this.#peek(1) !== ']' && this.#peek(1) !== '[';
    if (!isRange || this.#peek(1) === '&') return folds ? foldedMembers(from) : literal(from);
    this.#at++;
    const to = this.#classCharacter();
    const range = (start: string, end: string): string => `${literal(start)}-${literal(end)}`;
    if (!folds || !/^[a-z]{2}$|^[A-Z]{2}$/.test(from + to)) return range(from, to);
    return (
      range(from.toLowerCase(), to.toLowerCase()) + range(from.toUpperCase(), to.toUpperCase())
    );
  }

  #classCharacter(): string {
    return this.#skip('\\') ? this.#escaped() : this.#take();
  }
}

function foldedMembers(character: string): string {
  const [lower, upper] = [character.toLowerCase(), character.toUpperCase()];
  const forms = [lower, upper, FOLDED[lower] ?? ''].filter((form) => Array.from(form).length === 1);
  return Array.from(new Set(forms), literal).join('');
}

function folded(character: string): string {
  const members = foldedMembers(character);
  return members === literal(character) ? members : `[${members}]`;
}

/** Scripts go by their bare names in Oniguruma. */
function propertyClass(name: string, isNegated: boolean): string {
  const posix = Object.hasOwn(NAMED, name.toLowerCase()) ? NAMED[name.toLowerCase()] : undefined;
  if (posix !== undefined) return isNegated ? `[^${posix}]` : posix;
  const script = name.replace(/^Is_?/i, '');
  for (const form of [name, `Script=${name}`, `Script=${script}`]) {
    const found = `\\${isNegated ? 'P' : 'p'}{${form}}`;
    try {
      new RegExp(found, 'v');
      return found;
    } catch {
      // Not this one.
    }
  }
  throw new FormatError(`a pattern has the unknown property ${JSON.stringify(name)}`);
}
