/** Python's values as chat templates see them: which there are, which are equal, which is less, what they contain. */
import { spendItems } from './budget.js';

/** What a template does wrong, in words like Python's. */
export class JinjaError extends Error {
  override readonly name = 'JinjaError';
}

/** A float; whole numbers are JavaScript's numbers as far as those are exact, and bigint beyond. */
export class Float {
  constructor(readonly value: number) {}
}

/** A name or attribute that is not there: it prints as nothing, and most of what is done with it is an error. */
export class Undefined {
  constructor(readonly name: string) {}

  /** Throws for a use that takes a value. */
  fail(): never {
    throw new JinjaError(`${this.name} is undefined`);
  }
}

export class Tuple {
  constructor(readonly items: readonly Value[]) {}
}

/** What map, select and others give: it can be gone through once. */
export class Lazy {
  #items: Value[] | null;

  constructor(items: readonly Value[]) {
    this.#items = [...items];
  }

  take(): Value[] {
    const items = this.#items ?? [];
    this.#items = null;
    return items;
  }

  /** The next one alone. */
  next(): Value | undefined {
    return this.#items?.shift();
  }
}

/** Keys in the order in which they came. */
export class Dict {
  readonly #entries = new Map<unknown, readonly [Value, Value]>();

  constructor(entries: Iterable<readonly [Value, Value]> = []) {
    for (const [key, value] of entries) this.set(key, value);
  }

  get size(): number {
    return this.#entries.size;
  }

  /** Throws JinjaError for a key that can change. */
  set(key: Value, value: Value): void {
    const hash = hashOf(key);
    // As in Python an equal key stays as it was first written.
    this.#entries.set(hash, [this.#entries.get(hash)?.[0] ?? key, value]);
  }

  get(key: Value): Value | undefined {
    return this.#entries.get(hashOf(key))?.[1];
  }

  has(key: Value): boolean {
    return this.#entries.has(hashOf(key));
  }

  entries(): (readonly [Value, Value])[] {
    return [...this.#entries.values()];
  }

  keys(): Value[] {
    return this.entries().map(([key]) => key);
  }

  values(): Value[] {
    return this.entries().map(([, value]) => value);
  }
}

/** What .items(), .keys() and .values() give. */
export class View {
  constructor(
    readonly kind: 'items' | 'keys' | 'values',
    readonly of: Dict,
  ) {}

  items(): Value[] {
    if (this.kind === 'items') return this.of.entries().map((pair) => new Tuple(pair));
    return this.kind === 'keys' ? this.of.keys() : this.of.values();
  }
}

export class Range {
  constructor(
    readonly from: number,
    readonly to: number,
    readonly step: number,
  ) {}

  get length(): number {
    return Math.max(0, Math.ceil((this.to - this.from) / this.step));
  }

  items(): number[] {
    spendItems(this.length);
    return Array.from({ length: this.length }, (_, i) => this.from + i * this.step);
  }
}

/** What a template may write into, made by namespace(). */
export class Namespace {
  readonly attributes = new Map<string, Value>();
}

/** Something with attributes that only the engine makes: loop, a macro, a joiner. */
export interface Attributes {
  readonly attribute: (name: string) => Value | undefined;
}

/** Arguments by place and by name. */
export interface Arguments {
  readonly positional: readonly Value[];
  readonly named: ReadonlyMap<string, Value>;
}

/** A function, a method or a macro. */
export class Callable implements Attributes {
  constructor(
    readonly call: (args: Arguments) => Value,
    readonly attribute: Attributes['attribute'] = () => undefined,
  ) {}
}

/** An object of the engine's own. */
export class Thing implements Attributes {
  constructor(
    readonly attribute: Attributes['attribute'],
    /** What calling it does, and its items, if it can be called or gone through. */
    readonly call: ((args: Arguments) => Value) | null = null,
    readonly length: (() => number) | null = null,
  ) {}
}

export type Value =
  | string
  | number
  | bigint
  | boolean
  | null
  | Float
  | Undefined
  | readonly Value[]
  | Tuple
  | Lazy
  | Dict
  | View
  | Range
  | Namespace
  | Callable
  | Thing;

/** What is not there is Undefined; None is there. */
export function orUndefined(value: Value | undefined, name: string): Value {
  return value === undefined ? new Undefined(name) : value;
}

/** Array.isArray, which loses the type of a readonly list. */
export function isList(value: Value): value is readonly Value[] {
  return Array.isArray(value);
}

export function isNumber(value: Value): value is number | bigint | Float | boolean {
  return (
    typeof value === 'number' ||
    typeof value === 'bigint' ||
    typeof value === 'boolean' ||
    value instanceof Float
  );
}

/** An int, or a bool, which is one. */
export function isInteger(value: Value): value is number | bigint | boolean {
  return isNumber(value) && !(value instanceof Float);
}

/** As Python's numbers: the value as a JavaScript number, near for those beyond its exact ones. */
export function toNumber(value: number | bigint | Float | boolean): number {
  return value instanceof Float ? value.value : Number(value);
}

/** Keys that are equal in Python hash to one: 1, 1.0 and True. */
function hashOf(key: Value): unknown {
  if (typeof key === 'string' || key === null) return key;
  if (isNumber(key)) {
    if (key instanceof Float) return key.value;
    return typeof key === 'bigint' && !Number.isSafeInteger(Number(key)) ? key : Number(key);
  }
  throw new JinjaError(`${typeName(key)} cannot be the key of a dict here`);
}

/** Python's name of a type. */
export function typeName(value: Value): string {
  if (value === null) return 'None';
  if (typeof value === 'string') return 'str';
  if (typeof value === 'boolean') return 'bool';
  if (typeof value === 'number' || typeof value === 'bigint') return 'int';
  if (value instanceof Float) return 'float';
  if (isList(value)) return 'list';
  if (value instanceof Tuple) return 'tuple';
  if (value instanceof Dict) return 'dict';
  if (value instanceof Undefined) return 'Undefined';
  if (value instanceof Lazy) return 'generator';
  if (value instanceof View) return `dict_${value.kind}`;
  if (value instanceof Range) return 'range';
  if (value instanceof Namespace) return 'Namespace';
  return value instanceof Callable ? 'function' : 'object';
}

export function isTrue(value: Value): boolean {
  if (isNumber(value)) return toNumber(value) !== 0;
  if (typeof value === 'string') return value !== '';
  if (value === null || value instanceof Undefined) return false;
  if (isList(value)) return value.length > 0;
  if (value instanceof Tuple) return value.items.length > 0;
  if (value instanceof Dict) return value.size > 0;
  if (value instanceof View) return value.of.size > 0;
  if (value instanceof Range) return value.length > 0;
  return !(value instanceof Thing && value.length?.() === 0);
}

/** The items of a list or a tuple; null of anything else. */
export function itemsOf(value: Value): readonly Value[] | null {
  if (isList(value)) return value;
  return value instanceof Tuple ? value.items : null;
}

/** Lists within each other that are compared or printed. */
export const DEPTH_MAX = 200;

export function checkDepth(depth: number): void {
  if (depth > DEPTH_MAX) {
    throw new JinjaError(`more than ${DEPTH_MAX} lists and objects in each other`);
  }
}

export function isEqual(a: Value, b: Value, depth = 0): boolean {
  checkDepth(depth);
  if (isNumber(a) && isNumber(b)) return compareNumbers(a, b) === 0;
  if (a instanceof Undefined) return b instanceof Undefined;
  if ((isList(a) && isList(b)) || (a instanceof Tuple && b instanceof Tuple)) {
    const [x, y] = [itemsOf(a) ?? [], itemsOf(b) ?? []];
    return x.length === y.length && x.every((one, i) => isEqual(one, y[i] as Value, depth + 1));
  }
  if (a instanceof Dict && b instanceof Dict) {
    return (
      a.size === b.size &&
      a.entries().every(([key, one]) => {
        const other = b.get(key);
        return other !== undefined && isEqual(one, other, depth + 1);
      })
    );
  }
  if (a instanceof Range && b instanceof Range) return isEqual(a.items(), b.items());
  return a === b;
}

function comparable(value: number | bigint | Float | boolean): number | bigint {
  return typeof value === 'bigint' ? value : toNumber(value);
}

function compareNumbers(
  a: number | bigint | Float | boolean,
  b: number | bigint | Float | boolean,
): number {
  const [x, y] = [comparable(a), comparable(b)];
  if (x < y) return -1;
  if (x > y) return 1;
  // Of a number and a bigint === is never true.
  return x <= y ? 0 : NaN;
}

/** Below 0, 0 or above 0. Throws JinjaError for what Python cannot put in order. */
export function compare(a: Value, b: Value, depth = 0): number {
  checkDepth(depth);
  if (isNumber(a) && isNumber(b)) return compareNumbers(a, b);
  if (typeof a === 'string' && typeof b === 'string') return compareTexts(a, b);
  if ((isList(a) && isList(b)) || (a instanceof Tuple && b instanceof Tuple)) {
    const [x, y] = [itemsOf(a) ?? [], itemsOf(b) ?? []];
    const at = x.findIndex((one, i) => i >= y.length || !isEqual(one, y[i] as Value));
    if (at === -1 || at >= y.length) return x.length - y.length;
    return compare(x[at] as Value, y[at] as Value, depth + 1);
  }
  if (a instanceof Undefined) a.fail();
  if (b instanceof Undefined) b.fail();
  throw new JinjaError(`${typeName(a)} and ${typeName(b)} cannot be put in order`);
}

/** By code points: UTF-16 puts U+E000 to U+FFFF behind those beyond. */
function compareTexts(a: string, b: string): number {
  if (a === b) return 0;
  let at = 0;
  while (at < a.length && at < b.length && a[at] === b[at]) at++;
  const low = at > 0 && /[\ud800-\udbff]/.test(a[at - 1] ?? '') ? at - 1 : at;
  return (a.codePointAt(low) ?? -1) - (b.codePointAt(low) ?? -1);
}

/** What a for loop goes through. Throws JinjaError for what has no items. */
export function iterate(value: Value): readonly Value[] {
  if (isList(value)) return value;
  if (value instanceof Tuple) return value.items;
  if (value instanceof Dict) return value.keys();
  if (value instanceof View || value instanceof Range) return value.items();
  if (value instanceof Lazy) return value.take();
  if (value instanceof Undefined) return [];
  if (typeof value === 'string') {
    spendItems(value.length);
    return Array.from(value);
  }
  throw new JinjaError(`${typeName(value)} has no items to go through`);
}

/** len(): of a text in code points. */
export function lengthOf(value: Value): number {
  if (typeof value === 'string') return codePoints(value);
  if (value instanceof Dict) return value.size;
  if (value instanceof View) return value.of.size;
  if (value instanceof Range) return value.length;
  if (value instanceof Undefined) return 0;
  if (value instanceof Thing && value.length !== null) return value.length();
  const items = itemsOf(value);
  if (items !== null) return items.length;
  throw new JinjaError(`${typeName(value)} has no length`);
}

export function codePoints(text: string): number {
  // Most texts have no character of two units.
  if (!/[\ud800-\udbff]/.test(text)) return text.length;
  return Array.from(text).length;
}

/** `item in container`. */
export function contains(container: Value, item: Value): boolean {
  if (typeof container === 'string') {
    if (typeof item === 'string') return container.includes(item);
    throw new JinjaError(`${typeName(item)} cannot be in a text`);
  }
  if (container instanceof Dict) return container.has(item);
  if (container instanceof View && container.kind === 'keys') return container.of.has(item);
  return iterate(container).some((one) => one === item || isEqual(one, item));
}
