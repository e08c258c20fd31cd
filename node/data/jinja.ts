/**
 * Chat templates as Transformers runs them: @huggingface/jinja, with what it does otherwise than Python put right
 * here (methods of texts, equality, white space, dates), and with {% generation %} kept instead of left out.
 */
import { randomBytes } from 'node:crypto';
import { types } from 'node:util';
import {
  Environment,
  Interpreter,
  owned,
  parseTemplate,
  range,
  startRendering,
  type Environment as Scope,
  type Filter,
  type Operation,
  type Value,
} from './bounded-jinja.js';
import { boundedJoin } from './bounded-library.js';

type Method = (args: readonly Value[]) => unknown;

/** A rendered text, and what stands between {% generation %} and {% endgeneration %} in it. */
export interface Rendering {
  text: string;
  /** Null where the template has no such tags. */
  generated: [start: number, end: number][] | null;
}

export interface JinjaTemplate {
  /** Throws what the template throws, Error for what is no valid use of a value, and TooMuchError. */
  render(variables: Readonly<Record<string, unknown>>): Rendering;
}

/** No text of anybody's: a character that Unicode keeps free, and a number that nobody can know. */
const MARK = `\ufdd0${randomBytes(8).toString('hex')}`;
const [BEGIN, END] = [`${MARK}b\ufdd0`, `${MARK}e\ufdd0`];
const BEGIN_TAG = /\{%(-?)\s*generation\s*(-?)%\}/g;
const END_TAG = /\{%(-?)\s*endgeneration\s*(-?)%\}/g;

/**
 * `now`: what strftime_now tells. Throws Error for what is no valid template, and TooMuchError. withTimeLimit is the
 * caller's duty, for each rendering too.
 */
export function compileJinja(source: string, now: () => Date = () => new Date()): JinjaTemplate {
  const isMarked = /\{%-?\s*generation\s*-?%\}/.test(source);
  // Conditions that always hold keep the tags' own white-space control.
  const marked = source
    // As Jinja reads a template: whatever its line breaks are, they are line feeds.
    .replace(/\r\n?/g, '\n')
    .replace(
      BEGIN_TAG,
      (_, left: string, right: string) =>
        `{%${left} if true %}{{ "${BEGIN}" }}{% if true ${right}%}`,
    )
    .replace(
      END_TAG,
      (_, left: string, right: string) => `{%${left} endif %}{{ "${END}" }}{% endif ${right}%}`,
    );
  const program = parseTemplate(marked);
  return {
    render(variables) {
      startRendering();
      const environment = new Environment();
      for (const [name, value] of Object.entries({ ...globals(now), ...variables })) {
        environment.set(name, owned(value));
      }
      const text = String(new PythonInterpreter(environment).run(program).value);
      return isMarked ? withoutMarks(text) : { text, generated: null };
    },
  };
}

function withoutMarks(marked: string): Rendering {
  const generated: [number, number][] = [];
  let text = '';
  let start = 0;
  for (const part of marked.split(/(\ufdd0[0-9a-f]{16}[be]\ufdd0)/)) {
    if (part === BEGIN) start = text.length;
    else if (part === END) generated.push([start, text.length]);
    else text += part;
  }
  return { text, generated };
}

function globals(now: () => Date): Record<string, unknown> {
  return {
    ...{ true: true, True: true, false: false, False: false, none: null, None: null },
    raise_exception: (message: unknown): never => {
      throw new Error(String(message));
    },
    range,
    strftime_now: (format: unknown) => strftime(now(), String(format)),
  };
}

const DAYS = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday'];
const MONTHS = [
  ...['January', 'February', 'March', 'April', 'May', 'June', 'July', 'August', 'September'],
  ...['October', 'November', 'December'],
];

/** In English, whatever the machine's language: models were trained with these names. */
function strftime(date: Date, format: string): string {
  const two = (value: number): string => String(value).padStart(2, '0');
  const [day, month] = [DAYS[date.getDay()] ?? '', MONTHS[date.getMonth()] ?? ''];
  const start = new Date(date.getFullYear(), 0, 1);
  const values: Readonly<Record<string, string>> = {
    ...{ '%': '%', A: day, a: day.slice(0, 3), B: month, b: month.slice(0, 3) },
    ...{
      d: two(date.getDate()),
      e: String(date.getDate()).padStart(2),
      '-d': String(date.getDate()),
    },
    ...{ m: two(date.getMonth() + 1), '-m': String(date.getMonth() + 1) },
    ...{ Y: String(date.getFullYear()), y: two(date.getFullYear() % 100) },
    ...{ H: two(date.getHours()), I: two(date.getHours() % 12 || 12), M: two(date.getMinutes()) },
    ...{ S: two(date.getSeconds()), p: date.getHours() < 12 ? 'AM' : 'PM' },
    j: String(Math.round((date.getTime() - start.getTime()) / 86_400_000) + 1).padStart(3, '0'),
  };
  const nested = format
    .replace(/%F/g, '%Y-%m-%d')
    .replace(/%T/g, '%H:%M:%S')
    .replace(/%D/g, '%m/%d/%y');
  return nested.replace(/%(-?[A-Za-z%])/g, (whole, name: string) => values[name] ?? whole);
}

// -- What the library does otherwise than Python -------------------------------------------------------------------

const toValue = (value: unknown): Value => new Environment().set('value', owned(value));

/** What {% break %} and {% continue %} throw, with the text before them. */
interface Control extends Error {
  text?: string;
}
const [BreakControl, ContinueControl] = ['Break', 'Continue'].map((type) => {
  try {
    new Interpreter(new Environment()).evaluate({ type }, new Environment());
  } catch (control) {
    return (control as Error).constructor as new () => Control;
  }
  throw new Error('@huggingface/jinja has changed inside');
}) as [new () => Control, new () => Control];

class PythonInterpreter extends Interpreter {
  readonly #loopBodies = new WeakSet<readonly unknown[]>();
  readonly #left = new WeakSet<readonly unknown[]>();

  /** In Python '' is not false and '1' is not 1. */
  override evaluateBinaryExpression(node: Operation, environment: Scope): Value {
    const { value: operator } = node.operator;
    if (operator !== '==' && operator !== '!=') {
      return super.evaluateBinaryExpression(node, environment);
    }
    const left = this.evaluate(node.left, environment);
    const right = this.evaluate(node.right, environment);
    return toValue(isEqual(left, right) === (operator === '=='));
  }

  override applyFilter(operand: Value, filter: Filter, environment: Scope): Value {
    if (filter.value === 'trim' && typeof operand.value === 'string') {
      return toValue(stripped(operand.value, null, 'both'));
    }
    if (operand.type === 'UndefinedValue' && nameOf(filter) === 'tojson') {
      throw new Error('a value that is not defined cannot be written as JSON');
    }
    return super.applyFilter(operand, filter, environment);
  }

  override evaluateFor(node: { body: readonly unknown[] }, environment: Scope): Value {
    this.#loopBodies.add(node.body);
    this.#left.delete(node.body);
    return super.evaluateFor(node, environment);
  }

  /** The text before {% break %} or {% continue %} stays. */
  override evaluateBlock(statements: readonly unknown[], environment: Scope): Value {
    if (this.#left.has(statements)) throw new BreakControl();
    let text = '';
    try {
      for (const statement of statements) {
        const value = this.evaluate(statement, environment);
        if (value.type !== 'NullValue' && value.type !== 'UndefinedValue') text += value.toString();
      }
    } catch (control) {
      if (!(control instanceof BreakControl || control instanceof ContinueControl)) throw control;
      text += control.text ?? '';
      if (!this.#loopBodies.has(statements)) throw Object.assign(control, { text });
      // The library leaves the loop when the next turn of it throws.
      if (control instanceof BreakControl) this.#left.add(statements);
    }
    return toValue(text);
  }
}

/** Of a filter with arguments or without. */
function nameOf(filter: Filter): string | undefined {
  return filter.value ?? filter.callee?.value;
}

function isEqual(left: Value, right: Value): boolean {
  const [a, b] = [left.value, right.value];
  const number = (value: unknown): number | null =>
    typeof value === 'number' ? value : typeof value === 'boolean' ? Number(value) : null;
  if (number(a) !== null && number(b) !== null) return number(a) === number(b);
  if (Array.isArray(a) && Array.isArray(b)) {
    const [x, y] = [a as Value[], b as Value[]];
    return x.length === y.length && x.every((one, i) => isEqual(one, y[i] as Value));
  }
  // Not `instanceof Map`: the library's are those of another context.
  if (types.isMap(a) && types.isMap(b)) {
    const [x, y] = [a as Map<string, Value>, b as Map<string, Value>];
    return (
      x.size === y.size &&
      [...x].every(([key, one]) => y.has(key) && isEqual(one, y.get(key) as Value))
    );
  }
  return a === b;
}

/** As str.isspace: U+0085 and the separators of ASCII are white space, U+FEFF is not. */
function isPythonSpace(character: string): boolean {
  const code = character.charCodeAt(0);
  return (code >= 0x1c && code <= 0x1f) || /\p{White_Space}/u.test(character);
}

function stripped(
  text: string,
  characters: string | null,
  sides: 'left' | 'right' | 'both',
): string {
  const all = Array.from(text);
  const set = characters === null ? null : new Set(characters);
  const goes = (character = 'a'): boolean => set?.has(character) ?? isPythonSpace(character);
  let [from, to] = [0, all.length];
  if (sides !== 'right') while (from < to && goes(all[from])) from++;
  if (sides !== 'left') while (to > from && goes(all[to - 1])) to--;
  return all.slice(from, to).join('');
}

function textArgument(args: readonly Value[], index: number): string | null {
  const value = args[index]?.value;
  return typeof value === 'string' ? value : null;
}

/** Methods of str that templates use and the library lacks, or has without their arguments. */
function methodsOf(text: string): Record<string, Method> {
  const find = (args: readonly Value[], isLast: boolean): number => {
    const sought = textArgument(args, 0) ?? '';
    const at = isLast
      ? text.lastIndexOf(sought)
      : text.indexOf(sought, Number(args[1]?.value ?? 0));
    return at === -1 ? -1 : Array.from(text.slice(0, at)).length;
  };
  const without = (affix: string, isThere: boolean, rest: string): string =>
    isThere && affix !== '' ? rest : text;
  return {
    strip: (args) => stripped(text, textArgument(args, 0), 'both'),
    lstrip: (args) => stripped(text, textArgument(args, 0), 'left'),
    rstrip: (args) => stripped(text, textArgument(args, 0), 'right'),
    find: (args) => find(args, false),
    rfind: (args) => find(args, true),
    count: (args) => text.split(textArgument(args, 0) ?? '').length - 1,
    removeprefix: (args) => {
      const affix = textArgument(args, 0) ?? '';
      return without(affix, text.startsWith(affix), text.slice(affix.length));
    },
    removesuffix: (args) => {
      const affix = textArgument(args, 0) ?? '';
      return without(affix, text.endsWith(affix), text.slice(0, text.length - affix.length));
    },
    splitlines: () =>
      text
        .replace(/\r\n|\r|\n$/, '\n')
        .replace(/\n$/, '')
        .split(/\r\n|\r|\n/),
    join: (args) =>
      boundedJoin(
        ((args[0]?.value ?? []) as Value[]).map(({ value }) => (value ?? String(value)) as string),
        text,
      ),
    isdigit: () => /^\p{Nd}+$/u.test(text),
    isspace: () => text !== '' && Array.from(text).every((character) => isPythonSpace(character)),
    rsplit: (args) => rsplit(text, textArgument(args, 0), Number(args[1]?.value ?? -1)),
    partition: (args) => partition(text, textArgument(args, 0) ?? ' '),
  };
}

function rsplit(text: string, separator: string | null, most: number): string[] {
  const parts = separator === null ? text.trim().split(/\s+/) : text.split(separator);
  if (most < 0 || parts.length <= most + 1) return parts;
  const cut = parts.length - most;
  return [parts.slice(0, cut).join(separator ?? ' '), ...parts.slice(cut)];
}

function partition(text: string, separator: string): string[] {
  const at = text.indexOf(separator);
  return at === -1
    ? [text, '', '']
    : [text.slice(0, at), separator, text.slice(at + separator.length)];
}

/** Gives every text of the library these methods. */
function addMethods(): void {
  const text = toValue('');
  const method = toValue(() => null);
  const makeMethod = (work: (args: readonly Value[]) => Value): Value => {
    const made = Object.create(Object.getPrototypeOf(method) as object) as Value;
    return Object.assign(made, { type: method.type, value: work });
  };
  const prototype = Object.getPrototypeOf(text) as object;
  const own = Object.getOwnPropertyDescriptor(prototype, 'builtins');
  const original = Symbol('builtins');
  if (own?.get === undefined) throw new Error('@huggingface/jinja has changed inside');
  const builtinsOf = (value: Value): Map<string, Value> =>
    Reflect.get(prototype, original, value) as Map<string, Value>;
  Object.defineProperty(prototype, original, own);
  Object.defineProperty(prototype, 'builtins', {
    configurable: true,
    get(this: Value): Map<string, Value> {
      const methods = builtinsOf(this);
      if (methods.has('removeprefix')) return methods;
      for (const [name, work] of Object.entries(methodsOf(String(this.value)))) {
        methods.set(
          name,
          makeMethod((args) => toValue(work(args))),
        );
      }
      return methods;
    },
  });
}
addMethods();
