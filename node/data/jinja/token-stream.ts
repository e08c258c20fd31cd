/** The tokens of a chat template, one after another, and how much has been made of them. */
import { TooMuchError } from '../text-budget.js';
import { NODES_MAX } from './budget.js';
import type { Token } from './lexer.js';
import { JinjaError } from './values.js';

/** Expressions and blocks in each other. */
const DEPTH_MAX = 200;

export class TokenStream {
  #at = 0;
  #nodes = 0;
  #depth = 0;

  constructor(readonly tokens: readonly Token[]) {}

  /** The token that comes next, which is then behind. */
  take(): Token {
    const token = this.now;
    this.#at++;
    return token;
  }

  skip(count = 1): void {
    this.#at += count;
  }

  get now(): Token {
    return this.tokens[this.#at] ?? { kind: 'eof', text: '' };
  }

  is(text: string, kind: Token['kind'] = 'operator', ahead = 0): boolean {
    const token = this.tokens[this.#at + ahead];
    return token?.kind === kind && token.text === text;
  }

  isName(text: string): boolean {
    return this.is(text, 'name');
  }

  skipIf(text: string, kind: Token['kind'] = 'operator'): boolean {
    const is = this.is(text, kind);
    if (is) this.#at++;
    return is;
  }

  expect(text: string, kind: Token['kind'] = 'operator'): void {
    if (!this.skipIf(text, kind)) this.fail(`expected ${text}`);
  }

  name(): string {
    const { kind, text } = this.now;
    if (kind !== 'name') this.fail('expected a name');
    this.#at++;
    return text;
  }

  fail(what = 'unexpected'): never {
    const { kind, text } = this.now;
    throw new JinjaError(`${what}, at ${kind === 'eof' ? 'the end' : JSON.stringify(text)}`);
  }

  counted<T>(node: T): T {
    if (++this.#nodes <= NODES_MAX) return node;
    throw new TooMuchError(`has more than ${NODES_MAX} expressions and statements`);
  }

  deeper<T>(parse: () => T): T {
    if (++this.#depth > DEPTH_MAX) this.fail(`more than ${DEPTH_MAX} expressions in each other`);
    const node = parse();
    this.#depth--;
    return node;
  }
}
