/** Reads expressions of a chat template, from the loosest operator to the tightest, as Jinja's own parser does. */
import type { CallArguments, Expression } from './syntax.js';
import type { TokenStream } from './token-stream.js';

const COMPARISONS = ['==', '!=', '<', '>', '<=', '>='];
/** Names that cannot be assigned to. */
export const CONSTANTS: Readonly<Record<string, boolean | null>> = {
  ...{ true: true, True: true, false: false, False: false, none: null, None: null },
};

export class ExpressionParser {
  constructor(readonly stream: TokenStream) {}

  /** Several with commas between are a tuple. */
  tuple({
    conditions = true,
    end = null,
    inParentheses = false,
  }: { conditions?: boolean; end?: string | null; inParentheses?: boolean } = {}): Expression {
    const items: Expression[] = [];
    let isTuple = false;
    for (;;) {
      if (
        this.stream.is(')') ||
        this.stream.now.kind === 'end' ||
        (end !== null && this.stream.isName(end))
      )
        break;
      items.push(conditions ? this.expression() : this.stream.deeper(() => this.#or()));
      if (!this.stream.skipIf(',')) break;
      isTuple = true;
    }
    const [first] = items;
    if (!isTuple && first !== undefined) return first;
    if (!isTuple && !inParentheses) this.stream.fail('expected an expression');
    return this.stream.counted({ type: 'tuple', items });
  }

  expression(): Expression {
    return this.stream.deeper(() => {
      let value = this.#or();
      while (this.stream.skipIf('if', 'name')) {
        const test = this.#or();
        const otherwise = this.stream.skipIf('else', 'name') ? this.expression() : null;
        value = this.stream.counted({ type: 'condition', test, then: value, else: otherwise });
      }
      return value;
    });
  }

  #or(): Expression {
    let left = this.#and();
    while (this.stream.skipIf('or', 'name')) {
      left = this.stream.counted({ type: 'or', left, right: this.#and() });
    }
    return left;
  }

  #and(): Expression {
    let left = this.#not();
    while (this.stream.skipIf('and', 'name')) {
      left = this.stream.counted({ type: 'and', left, right: this.#not() });
    }
    return left;
  }

  #not(): Expression {
    if (!this.stream.skipIf('not', 'name')) return this.#comparison();
    return this.stream.counted({ type: 'not', of: this.stream.deeper(() => this.#not()) });
  }

  #comparison(): Expression {
    const first = this.#sum();
    const rest: [string, Expression][] = [];
    for (;;) {
      const { kind, text } = this.stream.now;
      if (kind === 'operator' && COMPARISONS.includes(text)) {
        this.stream.skip();
        rest.push([text, this.#sum()]);
      } else if (this.stream.skipIf('in', 'name')) {
        rest.push(['in', this.#sum()]);
      } else if (this.stream.isName('not') && this.stream.is('in', 'name', 1)) {
        this.stream.skip(2);
        rest.push(['not in', this.#sum()]);
      } else break;
    }
    return rest.length === 0 ? first : this.stream.counted({ type: 'compare', first, rest });
  }

  #chain(operators: readonly string[], operand: () => Expression): Expression {
    let left = operand();
    for (;;) {
      const { kind, text: operator } = this.stream.now;
      if (kind !== 'operator' || !operators.includes(operator)) return left;
      this.stream.skip();
      left = this.stream.counted({ type: 'binary', operator, left, right: operand() });
    }
  }

  #sum(): Expression {
    return this.#chain(['+', '-'], () => this.#concat());
  }

  #concat(): Expression {
    const product = (): Expression =>
      this.#chain(['*', '/', '//', '%'], () => this.#chain(['**'], () => this.#unary()));
    const parts = [product()];
    while (this.stream.skipIf('~')) parts.push(product());
    const [first] = parts;
    return parts.length === 1 && first ? first : this.stream.counted({ type: 'concat', parts });
  }

  #unary(hasFilters = true): Expression {
    const isNegative = this.stream.is('-');
    let node: Expression;
    if (isNegative || this.stream.is('+')) {
      this.stream.skip();
      const of = this.stream.deeper(() => this.#unary(false));
      node = this.stream.counted({ type: 'sign', of, isNegative });
    } else node = this.#primary();
    node = this.#postfix(node);
    return hasFilters ? this.#filtered(node) : node;
  }

  #primary(): Expression {
    const token = this.stream.now;
    this.stream.skip();
    const { kind, text } = token;
    if (kind === 'name') {
      const constant = Object.hasOwn(CONSTANTS, text) ? CONSTANTS[text] : undefined;
      if (constant !== undefined) return this.stream.counted({ type: 'constant', value: constant });
      return this.stream.counted({ type: 'name', name: text });
    }
    if (kind === 'number')
      return this.stream.counted({ type: 'constant', value: token.value ?? null });
    if (kind === 'string') {
      let value = token.value as string;
      while (this.stream.now.kind === 'string') value += this.stream.take().value as string;
      return this.stream.counted({ type: 'constant', value });
    }
    if (kind === 'operator' && text === '(') {
      const inner = this.tuple({ inParentheses: true });
      this.stream.expect(')');
      return inner;
    }
    if (kind === 'operator' && text === '[') {
      return this.stream.counted({
        type: 'list',
        items: this.#separated(']', () => this.expression()),
      });
    }
    if (kind === 'operator' && text === '{') {
      const entries = this.#separated('}', (): [Expression, Expression] => {
        const key = this.expression();
        this.stream.expect(':');
        return [key, this.expression()];
      });
      return this.stream.counted({ type: 'dict', entries });
    }
    this.stream.skip(-1);
    return this.stream.fail();
  }

  /** With commas between, and perhaps one more, up to `close`. */
  #separated<T>(close: string, parse: () => T): T[] {
    const items: T[] = [];
    while (!this.stream.is(close)) {
      if (items.length > 0) this.stream.expect(',');
      if (this.stream.is(close)) break;
      items.push(parse());
    }
    this.stream.expect(close);
    return items;
  }

  #postfix(from: Expression): Expression {
    let node = from;
    for (;;) {
      if (this.stream.skipIf('.')) node = this.#attribute(node);
      else if (this.stream.skipIf('[')) node = this.#subscript(node);
      else if (this.stream.is('(')) node = this.#call(node);
      else return node;
    }
  }

  #attribute(of: Expression): Expression {
    const { kind, text, value = null } = this.stream.now;
    if (kind === 'name') {
      this.stream.skip();
      return this.stream.counted({ type: 'attribute', of, name: text });
    }
    if (kind !== 'number' || typeof value !== 'number')
      this.stream.fail('expected a name or number');
    this.stream.skip();
    return this.stream.counted({ type: 'item', of, key: { type: 'constant', value } });
  }

  #subscript(of: Expression): Expression {
    const bounds: (Expression | null)[] = [null, null, null];
    let place = 0;
    let isSlice = false;
    while (!this.stream.is(']')) {
      if (this.stream.skipIf(':')) {
        isSlice = true;
        if (++place > 2) this.stream.fail();
      } else {
        if (bounds[place] !== null) this.stream.fail();
        bounds[place] = this.expression();
      }
    }
    this.stream.expect(']');
    const [key] = bounds;
    if (isSlice) return this.stream.counted({ type: 'slice', of, bounds });
    if (key === null || key === undefined) this.stream.fail('expected a key');
    return this.stream.counted({ type: 'item', of, key });
  }

  #call(callee: Expression): Expression {
    return this.stream.counted({ type: 'call', callee, args: this.#arguments() });
  }

  #arguments(): CallArguments {
    this.stream.expect('(');
    const args: CallArguments = { positional: [], named: [], list: null, dict: null };
    this.#separated(')', () => {
      if (this.stream.skipIf('*')) args.list = this.expression();
      else if (this.stream.skipIf('**')) args.dict = this.expression();
      else if (this.stream.now.kind === 'name' && this.stream.is('=', 'operator', 1)) {
        const name = this.stream.name();
        this.stream.expect('=');
        args.named.push([name, this.expression()]);
      } else {
        if (args.named.length > 0 || args.list || args.dict)
          this.stream.fail('an argument by place');
        args.positional.push(this.expression());
      }
    });
    return args;
  }

  #filtered(from: Expression): Expression {
    let node = from;
    for (;;) {
      if (this.stream.skipIf('|')) node = this.filter(node);
      else if (this.stream.skipIf('is', 'name')) node = this.#test(node);
      else if (this.stream.is('(')) node = this.#call(node);
      else return node;
    }
  }

  /** Behind its bar. */
  filter(of: Expression | null): Expression {
    let node = of;
    do {
      let name = this.stream.name();
      while (this.stream.skipIf('.')) name += `.${this.stream.name()}`;
      node = this.stream.counted({ type: 'filter', of: node, name, args: this.#givenArguments() });
    } while (of === null && this.stream.skipIf('|'));
    return node;
  }

  #givenArguments(): CallArguments {
    if (this.stream.is('(')) return this.#arguments();
    return { positional: [], named: [], list: null, dict: null };
  }

  /** Behind `is`. */
  #test(of: Expression): Expression {
    const isNegated = this.stream.skipIf('not', 'name');
    let name = this.stream.name();
    while (this.stream.skipIf('.')) name += `.${this.stream.name()}`;
    const args = this.#givenArguments();
    if (args.positional.length === 0 && !this.#wasCalled() && this.#beginsArgument()) {
      args.positional.push(this.#postfix(this.#primary()));
    }
    const node: Expression = this.stream.counted({ type: 'test', of, name, args });
    return isNegated ? this.stream.counted({ type: 'not', of: node }) : node;
  }

  #wasCalled(): boolean {
    return this.stream.is(')', 'operator', -1);
  }

  /** Whether an argument follows the name of a test: `is divisibleby 3`. */
  #beginsArgument(): boolean {
    const { kind, text } = this.stream.now;
    if (kind === 'name') {
      if (text === 'is') this.stream.fail('tests cannot be chained');
      return !['else', 'or', 'and'].includes(text);
    }
    return kind === 'string' || kind === 'number' || this.stream.is('[') || this.stream.is('{');
  }
}
