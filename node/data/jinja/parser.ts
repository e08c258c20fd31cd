/** Reads the statements of a chat template as Jinja's own parser does. */
import { CONSTANTS, ExpressionParser } from './expression-parser.js';
import { tokensOf } from './lexer.js';
import type { Expression, Parameters, Statement, Target } from './syntax.js';
import { TokenStream } from './token-stream.js';

/** Statements that take other templates, of which there are none. */
const REFUSED = ['include', 'import', 'from', 'extends'];

/** Throws JinjaError for what is no template, and TooMuchError. */
export function parseTemplate(source: string): Statement[] {
  return new Parser(new TokenStream(tokensOf(source))).template();
}

class Parser {
  /** Loops around the statement that is read. */
  #loops = 0;
  readonly expressions: ExpressionParser;

  constructor(readonly stream: TokenStream) {
    this.expressions = new ExpressionParser(stream);
  }

  template(): Statement[] {
    const body = this.#statements([]);
    if (this.stream.now.kind !== 'eof') this.stream.fail();
    return body;
  }

  /** Up to a tag that begins with one of `ends`, whose name is the next token; or to the end. */
  #statements(ends: readonly string[]): Statement[] {
    const body: Statement[] = [];
    for (;;) {
      const { kind, text } = this.stream.now;
      if (kind === 'eof') return body;
      this.stream.skip();
      if (kind === 'text') body.push(this.stream.counted({ type: 'text', text }));
      else if (text === '{{') {
        body.push(this.stream.counted({ type: 'print', value: this.expressions.tuple() }));
        this.stream.expect('}}', 'end');
      } else {
        if (ends.some((end) => this.stream.isName(end))) return body;
        body.push(...this.stream.deeper(() => this.#statement()));
        this.stream.expect('%}', 'end');
      }
    }
  }

  /** The body of a statement, whose tag ends here; then the name of the tag behind it. */
  #body(...ends: string[]): { body: Statement[]; end: string } {
    this.stream.skipIf(':');
    this.stream.expect('%}', 'end');
    const body = this.#statements(ends);
    if (this.stream.now.kind === 'eof') this.stream.fail(`expected ${ends.join(' or ')}`);
    return { body, end: this.stream.name() };
  }

  #statement(): Statement[] {
    const name = this.stream.name();
    const one = (statement: Statement): Statement[] => [this.stream.counted(statement)];
    switch (name) {
      case 'if':
        return one(this.#if());
      case 'for':
        return one(this.#for());
      case 'set':
        return one(this.#set());
      case 'macro': {
        const macro = this.stream.name();
        const parameters = this.#parameters();
        return one({ type: 'macro', name: macro, parameters, body: this.#outside('endmacro') });
      }
      case 'call':
        return one(this.#callBlock());
      case 'filter': {
        const filter = this.expressions.filter(null);
        return one({ type: 'filterBlock', filter, body: this.#body('endfilter').body });
      }
      case 'with':
        return one(this.#with());
      case 'print': {
        const values = [this.expressions.expression()];
        while (this.stream.skipIf(',')) values.push(this.expressions.expression());
        return values.map((value) => this.stream.counted({ type: 'print', value }));
      }
      case 'block': {
        const block = this.stream.name();
        this.stream.skipIf('scoped', 'name');
        const { body } = this.#body('endblock');
        this.stream.skipIf(block, 'name');
        return one({ type: 'scope', body });
      }
      case 'generation':
        return one({ type: 'generation', body: this.#body('endgeneration').body });
      case 'break':
      case 'continue':
        if (this.#loops === 0) this.stream.fail(`${name} outside of a loop`);
        return one({ type: name });
      default:
        if (!REFUSED.includes(name)) this.stream.fail(`unknown tag ${name}`);
        while (this.stream.now.kind !== 'end' && this.stream.now.kind !== 'eof') this.stream.skip();
        return one({ type: 'refused', name });
    }
  }

  /** The body of what is a function of its own: a loop around it is not its loop. */
  #outside(end: string): Statement[] {
    const loops = this.#loops;
    this.#loops = 0;
    const { body } = this.#body(end);
    this.#loops = loops;
    return body;
  }

  #if(): Statement {
    const branches: { test: Expression; body: Statement[] }[] = [];
    for (;;) {
      const test = this.expressions.tuple({ conditions: false });
      const { body, end } = this.#body('elif', 'else', 'endif');
      branches.push({ test, body });
      if (end === 'elif') continue;
      const otherwise = end === 'else' ? this.#body('endif').body : [];
      return { type: 'if', branches, otherwise };
    }
  }

  #for(): Statement {
    const target = this.#target('in');
    this.stream.expect('in', 'name');
    const of = this.expressions.tuple({ conditions: false, end: 'recursive' });
    const test = this.stream.skipIf('if', 'name') ? this.expressions.expression() : null;
    const isRecursive = this.stream.skipIf('recursive', 'name');
    this.#loops++;
    const { body, end } = this.#body('endfor', 'else');
    this.#loops--;
    const otherwise = end === 'else' ? this.#body('endfor').body : [];
    return { type: 'for', target, of, test, isRecursive, body, otherwise };
  }

  #set(): Statement {
    const target = this.#target(null);
    if (this.stream.skipIf('=')) return { type: 'set', target, value: this.expressions.tuple() };
    let filter: Expression | null = null;
    while (this.stream.skipIf('|')) filter = this.expressions.filter(filter);
    return { type: 'setBlock', target, filter, body: this.#body('endset').body };
  }

  #callBlock(): Statement {
    const parameters = this.stream.is('(') ? this.#parameters() : { names: [], defaults: [] };
    const call = this.expressions.expression();
    if (call.type !== 'call') this.stream.fail('expected a call');
    return { type: 'callBlock', parameters, call, body: this.#outside('endcall') };
  }

  #with(): Statement {
    const assignments: [Target, Expression][] = [];
    while (this.stream.now.kind !== 'end') {
      if (assignments.length > 0) this.stream.expect(',');
      const target = this.#target(null);
      this.stream.expect('=');
      assignments.push([target, this.expressions.expression()]);
    }
    return { type: 'with', assignments, body: this.#body('endwith').body };
  }

  #parameters(): Parameters {
    const names: string[] = [];
    const defaults: Expression[] = [];
    this.stream.expect('(');
    while (!this.stream.is(')')) {
      if (names.length > 0) this.stream.expect(',');
      names.push(this.#assignable(this.stream.name()));
      if (this.stream.skipIf('=')) defaults.push(this.expressions.expression());
      else if (defaults.length > 0)
        this.stream.fail('a parameter without default behind one with it');
    }
    this.stream.expect(')');
    return { names, defaults };
  }

  #assignable(name: string): string {
    if (name in CONSTANTS) this.stream.fail(`cannot assign to ${name}`);
    return name;
  }

  /** `end`: the name behind the target, in a for loop; there are no attributes in one. */
  #target(end: string | null): Target {
    const items: Target[] = [];
    let isTuple = false;
    for (;;) {
      if (this.stream.is('=') || (end !== null && this.stream.isName(end)) || this.stream.is(')'))
        break;
      items.push(this.#oneTarget(end === null));
      if (!this.stream.skipIf(',')) break;
      isTuple = true;
    }
    const [first] = items;
    if (first === undefined) this.stream.fail('expected a name');
    return isTuple ? { type: 'tuple', items } : first;
  }

  #oneTarget(hasAttributes: boolean): Target {
    if (this.stream.skipIf('(')) {
      const inner = this.stream.deeper(() => this.#target(null));
      this.stream.expect(')');
      return inner;
    }
    const name = this.#assignable(this.stream.name());
    if (!hasAttributes || !this.stream.skipIf('.')) return { type: 'name', name };
    return { type: 'attribute', of: name, name: this.stream.name() };
  }
}
