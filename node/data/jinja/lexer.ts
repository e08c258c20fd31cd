/** Cuts a chat template into tokens, with the options of Transformers: trim_blocks and lstrip_blocks. */
import { wholeOf } from './numbers.js';
import { Float, JinjaError, type Value } from './values.js';

export interface Token {
  /** `text` stands between tags; `begin` and `end` are the borders of a tag, {{ }} or {% %}. */
  kind: 'text' | 'begin' | 'end' | 'name' | 'number' | 'string' | 'operator' | 'eof';
  /** Of a border "{{" or "{%", whatever white space it takes. */
  text: string;
  value?: Value;
}

const NAME = /[\p{L}\p{Nl}_][\p{L}\p{Nl}\p{Mn}\p{Mc}\p{Nd}\p{Pc}]*/uy;
const FLOAT = /(?:\d+_)*\d+(?:(?:\.(?:\d+_)*\d+)?e[+-]?(?:\d+_)*\d+|\.(?:\d+_)*\d+)/iy;
const WHOLE = /0b(?:_?[01])+|0o(?:_?[0-7])+|0x(?:_?[\da-f])+|[1-9](?:_?\d)*|0(?:_?0)*/iy;
const STRING = /'([^'\\]*(?:\\[\s\S][^'\\]*)*)'|"([^"\\]*(?:\\[\s\S][^"\\]*)*)"/y;
const OPERATOR = /\/\/|\*\*|==|!=|>=|<=|[-+/*%~[\](){}><=.:|,;]/y;
const SPACE = /\s+/y;
const OPEN: Readonly<Record<string, string>> = { ')': '(', ']': '[', '}': '{' };

/** Throws JinjaError. */
export function tokensOf(source: string): Token[] {
  // As Jinja reads a template: any line break is a line feed, and one at the end is none.
  const text = source.replace(/\r\n?/g, '\n').replace(/\n$/, '');
  return new Lexer(text).tokens();
}

class Lexer {
  #at = 0;
  readonly #tokens: Token[] = [];
  /** Whether what comes begins a line. */
  #beginsLine = true;

  constructor(readonly source: string) {}

  tokens(): Token[] {
    const opening = /\{[{%#]/g;
    for (;;) {
      opening.lastIndex = this.#at;
      const found = opening.exec(this.source);
      const until = found?.index ?? this.source.length;
      const data = this.source.slice(this.#at, until);
      if (found === null) {
        this.#text(data);
        this.#tokens.push({ kind: 'eof', text: '' });
        return this.#tokens;
      }
      this.#at = until + 2;
      const sign = /^[-+]/.exec(this.source.slice(this.#at, this.#at + 1))?.[0] ?? '';
      this.#at += sign.length;
      this.#text(this.#before(data, sign, found[0] === '{{'));
      this.#tag(found[0]);
    }
  }

  #text(text: string): void {
    if (text !== '') this.#tokens.push({ kind: 'text', text });
  }

  /** The text before a tag without the white space that the tag takes. */
  #before(text: string, sign: string, isVariable: boolean): string {
    if (sign === '-') return withoutEnd(text);
    if (sign === '+' || isVariable) return text;
    const line = text.lastIndexOf('\n') + 1;
    if (line === 0 && !this.#beginsLine) return text;
    return withoutEnd(text.slice(line)) === '' ? text.slice(0, line) : text;
  }

  #tag(open: string): void {
    if (open === '{#') {
      this.#comment();
      return;
    }
    if (open === '{%' && this.#raw()) return;
    this.#tokens.push({ kind: 'begin', text: open });
    this.#inside(open === '{{' ? '}}' : '%}');
  }

  #comment(): void {
    const end = this.source.indexOf('#}', this.#at);
    if (end === -1) throw new JinjaError('a comment that does not end');
    const sign = end > this.#at ? (this.source[end - 1] ?? '') : '';
    this.#at = end + 2;
    this.#after(sign === '-' || sign === '+' ? sign : '', true);
  }

  /** Behind the end of a tag: the white space that it takes. */
  #after(sign: string, trimsLine: boolean): void {
    if (sign === '-') this.#skip();
    else if (sign !== '+' && trimsLine && this.source[this.#at] === '\n') this.#at++;
    this.#beginsLine = this.source[this.#at - 1] === '\n';
  }

  #skip(): void {
    SPACE.lastIndex = this.#at;
    if (SPACE.test(this.source)) this.#at = SPACE.lastIndex;
  }

  /** {% raw %}: what is within it is text. */
  #raw(): boolean {
    const begin = /\s*raw\s*(-?)%\}/y;
    begin.lastIndex = this.#at;
    const found = begin.exec(this.source);
    if (found === null) return false;
    this.#at = begin.lastIndex;
    this.#after(found[1] ?? '', false);
    const end = /\{%([-+]?)\s*endraw\s*([-+]?)%\}/g;
    end.lastIndex = this.#at;
    const close = end.exec(this.source);
    if (close === null) throw new JinjaError('{% raw %} without its end');
    this.#text(this.#before(this.source.slice(this.#at, close.index), close[1] ?? '', false));
    this.#at = end.lastIndex;
    this.#after(close[2] ?? '', true);
    return true;
  }

  #inside(close: string): void {
    const open: string[] = [];
    for (;;) {
      this.#skip();
      if (this.#at >= this.source.length) throw new JinjaError('a tag that does not end');
      if (open.length === 0 && this.#closes(close)) return;
      const token = this.#token();
      if ('([{'.includes(token.text) && token.kind === 'operator') open.push(token.text);
      if (token.kind === 'operator' && OPEN[token.text] !== undefined) {
        if (open.pop() !== OPEN[token.text]) throw new JinjaError(`unexpected ${token.text}`);
      }
      this.#tokens.push(token);
    }
  }

  #closes(close: string): boolean {
    const sign = /^[-+]/.exec(this.source.slice(this.#at, this.#at + 1))?.[0] ?? '';
    if (sign === '+' && close === '}}') return false;
    if (!this.source.startsWith(close, this.#at + sign.length)) return false;
    this.#at += sign.length + close.length;
    this.#after(sign, close === '%}');
    this.#tokens.push({ kind: 'end', text: close });
    return true;
  }

  #token(): Token {
    const match = (pattern: RegExp): RegExpExecArray | null => {
      pattern.lastIndex = this.#at;
      const found = pattern.exec(this.source);
      if (found !== null) this.#at = pattern.lastIndex;
      return found;
    };
    // Of words.0.1 neither is a float.
    const number = this.source[this.#at - 1] === '.' ? null : match(FLOAT);
    if (number !== null) {
      const value = new Float(Number(number[0].replaceAll('_', '')));
      return { kind: 'number', text: number[0], value };
    }
    const whole = match(WHOLE);
    if (whole !== null) {
      return { kind: 'number', text: whole[0], value: wholeOf(whole[0].replaceAll('_', '')) };
    }
    const name = match(NAME);
    if (name !== null) return { kind: 'name', text: name[0] };
    const string = match(STRING);
    if (string !== null) {
      const value = unescaped(string[1] ?? string[2] ?? '');
      return { kind: 'string', text: string[0], value };
    }
    const operator = match(OPERATOR);
    if (operator !== null) return { kind: 'operator', text: operator[0] };
    throw new JinjaError(`unexpected character ${JSON.stringify(this.source[this.#at])}`);
  }
}

/** As rstrip(), in time that does not grow with what is before the white space. */
function withoutEnd(text: string): string {
  let end = text.length;
  while (end > 0 && /\s/.test(text[end - 1] ?? '')) end--;
  return text.slice(0, end);
}

const ESCAPES: Readonly<Record<string, string>> = {
  ...{ '\n': '', '\\': '\\', "'": "'", '"': '"', a: '\x07', b: '\b' },
  ...{ f: '\f', n: '\n', r: '\r', t: '\t', v: '\v' },
};

/** As Python's unicode_escape: what is no escape stays as it is written. */
function unescaped(text: string): string {
  const pattern =
    /\\(?:([0-7]{1,3})|x([\da-fA-F]{2})|u([\da-fA-F]{4})|U([\da-fA-F]{8})|([xuUN])|([\s\S]))/g;
  return text.replace(
    pattern,
    (
      whole: string,
      octal?: string,
      x?: string,
      u?: string,
      long?: string,
      broken?: string,
      other?: string,
    ): string => {
      if (octal !== undefined) return String.fromCodePoint(parseInt(octal, 8));
      const hex = x ?? u ?? long;
      if (hex !== undefined) return String.fromCodePoint(parseInt(hex, 16));
      if (broken !== undefined) {
        throw new JinjaError(`the escape \\${broken} is not complete, or not supported`);
      }
      return ESCAPES[other ?? ''] ?? whole;
    },
  );
}
