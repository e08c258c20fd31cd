/** Runs the syntax tree of a chat template. */
import { NO_ARGUMENTS } from './arguments.js';
import { attributeOf, itemOf, sliceOf } from './attributes.js';
import { joined, spendStep } from './budget.js';
import { filterNamed, isFilterName, type FilterContext } from './filters.js';
import { loopOver, type LoopState } from './loop.js';
import { bindParameters, specialNames } from './macro.js';
import { binary, signed } from './numbers.js';
import { str } from './printing.js';
import { Scope } from './scope.js';
import type {
  CallArguments,
  Expression,
  ForStatement,
  Parameters,
  Statement,
  Target,
} from './syntax.js';
import { isTestName, testNamed } from './tests.js';
import {
  Callable,
  compare,
  contains,
  Dict,
  isEqual,
  isTrue,
  iterate,
  JinjaError,
  Namespace,
  orUndefined,
  Thing,
  Tuple,
  typeName,
  Undefined,
  type Arguments,
  type Value,
} from './values.js';

/** Macros and recursive loops within each other. */
const CALLS_MAX = 100;

/** How a body ended. */
type Ending = 'break' | 'continue' | null;

/** What stands before and behind the text of {% generation %} in what is rendered. */
export interface Marks {
  readonly begin: string;
  readonly end: string;
}

export class Interpreter {
  #calls = 0;
  readonly #context: FilterContext;

  constructor(readonly marks: Marks) {
    this.#context = {
      filter: (name, value, args) => filterNamed(name)(value, args, this.#context),
      test: (name, value, args) => this.#test(name, value, args),
    };
  }

  /** The text of the template. Throws JinjaError and TooMuchError. */
  run(template: readonly Statement[], scope: Scope): string {
    return this.#text(template, scope);
  }

  #text(body: readonly Statement[], scope: Scope): string {
    const out: string[] = [];
    this.#body(body, scope, out);
    return joined(out);
  }

  #body(body: readonly Statement[], scope: Scope, out: string[]): Ending {
    for (const statement of body) {
      const ending = this.#statement(statement, scope, out);
      if (ending !== null) return ending;
    }
    return null;
  }

  #statement(statement: Statement, scope: Scope, out: string[]): Ending {
    spendStep();
    switch (statement.type) {
      case 'text':
        out.push(statement.text);
        return null;
      case 'print':
        out.push(str(this.evaluate(statement.value, scope)));
        return null;
      case 'if': {
        const branch = statement.branches.find(({ test }) => isTrue(this.evaluate(test, scope)));
        return this.#body(branch?.body ?? statement.otherwise, scope, out);
      }
      case 'for':
        this.#for(statement, scope, out);
        return null;
      case 'set':
        this.#assign(statement.target, this.evaluate(statement.value, scope), scope);
        return null;
      case 'setBlock': {
        const text = this.#text(statement.body, new Scope(scope));
        const { filter } = statement;
        const value = filter === null ? text : this.#filtered(filter, text, scope);
        this.#assign(statement.target, value, scope);
        return null;
      }
      case 'break':
      case 'continue':
        return statement.type;
      case 'refused':
        throw new JinjaError(`{% ${statement.name} %} takes another template, and there is none`);
      default:
        return this.#scoped(statement, scope, out);
    }
  }

  /** Statements with a scope of their own. */
  #scoped(
    statement: Extract<
      Statement,
      { type: 'macro' | 'callBlock' | 'filterBlock' | 'with' | 'scope' | 'generation' }
    >,
    scope: Scope,
    out: string[],
  ): Ending {
    const inner = new Scope(scope);
    switch (statement.type) {
      case 'macro':
        scope.set(statement.name, this.#macro(statement, scope));
        return null;
      case 'callBlock': {
        const { call, parameters, body } = statement;
        const caller = this.#macro({ name: 'caller', parameters, body }, scope);
        out.push(str(this.#call(call as Extract<Expression, { type: 'call' }>, scope, caller)));
        return null;
      }
      case 'filterBlock':
        out.push(str(this.#filtered(statement.filter, this.#text(statement.body, inner), scope)));
        return null;
      case 'with': {
        const values = statement.assignments.map(([target, value]) => {
          return [target, this.evaluate(value, scope)] as const;
        });
        for (const [target, value] of values) this.#assign(target, value, inner);
        return this.#body(statement.body, inner, out);
      }
      case 'scope':
        return this.#body(statement.body, inner, out);
      case 'generation': {
        out.push(this.marks.begin);
        const ending = this.#body(statement.body, inner, out);
        out.push(this.marks.end);
        return ending;
      }
    }
  }

  #assign(target: Target, value: Value, scope: Scope): void {
    if (target.type === 'name') {
      scope.set(target.name, value);
    } else if (target.type === 'attribute') {
      const namespace = scope.get(target.of);
      if (!(namespace instanceof Namespace)) {
        throw new JinjaError('attributes can be set on namespaces alone');
      }
      if (target.name.startsWith('_')) throw new JinjaError('a name that begins with _');
      namespace.attributes.set(target.name, value);
    } else {
      const items = iterate(value);
      if (items.length !== target.items.length) {
        throw new JinjaError(`${items.length} values for ${target.items.length} names`);
      }
      for (const [i, one] of target.items.entries()) {
        this.#assign(one, items[i] as Value, scope);
      }
    }
  }

  // -- Loops and macros ----------------------------------------------------------------------------------------------

  #for(statement: ForStatement, scope: Scope, out: string[]): void {
    this.#loop(statement, this.evaluate(statement.of, scope), scope, out, 0);
  }

  #loop(statement: ForStatement, over: Value, scope: Scope, out: string[], depth: number): void {
    const { target, test, body, otherwise, isRecursive } = statement;
    const scopeOf = (item: Value): Scope => {
      const inner = new Scope(scope);
      this.#assign(target, item, inner);
      return inner;
    };
    const all = iterate(over);
    const items =
      test === null ? all : all.filter((item) => isTrue(this.evaluate(test, scopeOf(item))));
    const again = (one: Value): Value => {
      if (!isRecursive) throw new JinjaError('the loop is not recursive');
      return this.#called(() => {
        const inner: string[] = [];
        this.#loop(statement, one, scope, inner, depth + 1);
        return joined(inner);
      });
    };
    const state: LoopState = { items, index: 0, depth, changed: null };
    const loop = loopOver(state, again);
    let isWhole = false;
    for (const [i, item] of items.entries()) {
      spendStep();
      state.index = i;
      const inner = scopeOf(item);
      inner.set('loop', loop);
      const ending = this.#body(body, inner, out);
      if (ending === 'break') break;
      if (ending === null) isWhole = true;
    }
    // As Jinja has it: also where no turn came to its end.
    if (!isWhole) this.#body(otherwise, new Scope(scope), out);
  }

  #macro(
    { name, parameters, body }: { name: string; parameters: Parameters; body: Statement[] },
    scope: Scope,
  ): Callable {
    const special = specialNames(body);
    const call = (args: Arguments): Value =>
      this.#called(() => {
        const inner = new Scope(scope);
        bindParameters({ name, parameters, special }, args, inner, (usual) =>
          this.evaluate(usual, inner),
        );
        return this.#text(body, inner);
      });
    return new Callable(call, (attribute) =>
      attribute === 'name'
        ? name
        : attribute === 'arguments'
          ? new Tuple(parameters.names)
          : undefined,
    );
  }

  #called<T>(work: () => T): T {
    if (++this.#calls > CALLS_MAX) {
      throw new JinjaError(`more than ${CALLS_MAX} macros and loops in each other`);
    }
    const result = work();
    this.#calls--;
    return result;
  }

  // -- Expressions ---------------------------------------------------------------------------------------------------

  evaluate(node: Expression, scope: Scope): Value {
    spendStep();
    switch (node.type) {
      case 'constant':
        return node.value;
      case 'name':
        return orUndefined(scope.get(node.name), node.name);
      case 'list':
        return node.items.map((item) => this.evaluate(item, scope));
      case 'tuple':
        return new Tuple(node.items.map((item) => this.evaluate(item, scope)));
      case 'dict':
        return new Dict(
          node.entries.map(([key, value]) => [
            this.evaluate(key, scope),
            this.evaluate(value, scope),
          ]),
        );
      case 'attribute':
        return attributeOf(this.evaluate(node.of, scope), node.name);
      case 'item':
        return itemOf(this.evaluate(node.of, scope), this.evaluate(node.key, scope));
      case 'slice': {
        const bounds = node.bounds.map((bound) => bound && this.evaluate(bound, scope));
        return sliceOf(this.evaluate(node.of, scope), bounds);
      }
      case 'call':
        return this.#call(node, scope);
      case 'filter':
        return this.#filtered(node, null, scope);
      case 'test': {
        const value = this.evaluate(node.of, scope);
        return this.#test(node.name, value, this.#arguments(node.args, scope));
      }
      default:
        return this.#operation(node, scope);
    }
  }

  #operation(
    node: Extract<
      Expression,
      { type: 'not' | 'sign' | 'binary' | 'and' | 'or' | 'concat' | 'compare' | 'condition' }
    >,
    scope: Scope,
  ): Value {
    switch (node.type) {
      case 'not':
        return !isTrue(this.evaluate(node.of, scope));
      case 'sign':
        return signed(this.evaluate(node.of, scope), node.isNegative);
      case 'binary':
        return binary(
          node.operator,
          this.evaluate(node.left, scope),
          this.evaluate(node.right, scope),
        );
      case 'and':
      case 'or': {
        const left = this.evaluate(node.left, scope);
        return isTrue(left) === (node.type === 'or') ? left : this.evaluate(node.right, scope);
      }
      case 'concat':
        return joined(node.parts.map((part) => str(this.evaluate(part, scope))));
      case 'compare':
        return this.#compared(node, scope);
      case 'condition': {
        if (isTrue(this.evaluate(node.test, scope))) return this.evaluate(node.then, scope);
        return node.else === null
          ? new Undefined('a condition without else')
          : this.evaluate(node.else, scope);
      }
    }
  }

  #compared({ first, rest }: Extract<Expression, { type: 'compare' }>, scope: Scope): boolean {
    let left = this.evaluate(first, scope);
    for (const [operator, node] of rest) {
      const right = this.evaluate(node, scope);
      if (!holds(operator, left, right)) return false;
      left = right;
    }
    return true;
  }

  /** `given`: what a filter without an expression before it works on. */
  #filtered(node: Expression, given: Value, scope: Scope): Value {
    if (node.type !== 'filter') return this.evaluate(node, scope);
    const value = node.of === null ? given : this.#filtered(node.of, given, scope);
    return this.#context.filter(node.name, value, this.#arguments(node.args, scope));
  }

  #test(name: string, value: Value, args: Arguments): boolean {
    if (name === 'filter') return isFilterName(str(value));
    if (name === 'test') return isTestName(str(value));
    return testNamed(name)(value, args.positional);
  }

  #call(
    { callee, args }: Extract<Expression, { type: 'call' }>,
    scope: Scope,
    caller?: Callable,
  ): Value {
    const called = this.evaluate(callee, scope);
    const given = this.#arguments(args, scope);
    const all =
      caller === undefined
        ? given
        : { ...given, named: new Map([...given.named, ['caller', caller] as const]) };
    if (called instanceof Undefined) called.fail();
    if (called instanceof Callable) return called.call(all);
    if (called instanceof Thing && called.call !== null) return called.call(all);
    throw new JinjaError(`${typeName(called)} cannot be called`);
  }

  #arguments({ positional, named, list, dict }: CallArguments, scope: Scope): Arguments {
    if (positional.length === 0 && named.length === 0 && list === null && dict === null) {
      return NO_ARGUMENTS;
    }
    const byName = new Map(named.map(([name, value]) => [name, this.evaluate(value, scope)]));
    const more = dict === null ? null : this.evaluate(dict, scope);
    if (more !== null && !(more instanceof Dict)) throw new JinjaError('** takes a dict');
    for (const [key, value] of more?.entries() ?? []) byName.set(str(key), value);
    return {
      positional: [
        ...positional.map((value) => this.evaluate(value, scope)),
        ...(list === null ? [] : iterate(this.evaluate(list, scope))),
      ],
      named: byName,
    };
  }
}

function holds(operator: string, left: Value, right: Value): boolean {
  switch (operator) {
    case '==':
      return isEqual(left, right);
    case '!=':
      return !isEqual(left, right);
    case 'in':
      return contains(right, left);
    case 'not in':
      return !contains(right, left);
    case '<':
      return compare(left, right) < 0;
    case '>':
      return compare(left, right) > 0;
    case '<=':
      return compare(left, right) <= 0;
    default:
      return compare(left, right) >= 0;
  }
}
