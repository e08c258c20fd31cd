/** Python's arithmetic: whole numbers of any size, floats, and the other operators of texts and lists. */
import { percentFormat } from './formatting.js';
import { repeated, spendItems, spendCharacters } from './budget.js';
import {
  Float,
  isInteger,
  isList,
  isNumber,
  JinjaError,
  toNumber,
  Tuple,
  typeName,
  Undefined,
  type Value,
} from './values.js';

type Whole = number | bigint | boolean;

/** Bits of the largest whole number that a template may make: none needs more than 64. */
const BITS_MAX = 4096n;

/** As small as it can be: a number where that is exact. */
export function whole(value: bigint): number | bigint {
  const near = Number(value);
  return Number.isSafeInteger(near) ? near : value;
}

/** The text of a whole number, as Python reads it. */
export function wholeOf(text: string): number | bigint {
  return whole(BigInt(text));
}

/** left operator right; texts, lists and tuples too. Throws JinjaError for what Python refuses. */
export function binary(operator: string, left: Value, right: Value): Value {
  if (left instanceof Undefined) left.fail();
  if (right instanceof Undefined) right.fail();
  if (operator === '%' && typeof left === 'string') return percentFormat(left, right);
  if (isNumber(left) && isNumber(right)) return arithmetic(operator, left, right);
  if (operator === '+') {
    if (typeof left === 'string' && typeof right === 'string') {
      spendCharacters(left.length + right.length);
      return left + right;
    }
    if (isList(left) && isList(right)) return concatenated(left, right);
    if (left instanceof Tuple && right instanceof Tuple) {
      return new Tuple(concatenated(left.items, right.items));
    }
  }
  if (operator === '*') {
    if (isInteger(right)) return times(left, toNumber(right));
    if (isInteger(left)) return times(right, toNumber(left));
  }
  throw new JinjaError(`${typeName(left)} ${operator} ${typeName(right)} is not possible`);
}

function concatenated(left: readonly Value[], right: readonly Value[]): readonly Value[] {
  spendItems(left.length + right.length);
  return [...left, ...right];
}

function times(value: Value, count: number): Value {
  if (typeof value === 'string') return repeated(value, count);
  const copies = (items: readonly Value[]): Value[] => {
    const number = Math.max(0, count);
    spendItems(items.length * number);
    return Array.from({ length: number }, () => items).flat();
  };
  if (isList(value)) return copies(value);
  if (value instanceof Tuple) return new Tuple(copies(value.items));
  throw new JinjaError(`${typeName(value)} * int is not possible`);
}

function arithmetic(operator: string, a: Whole | Float, b: Whole | Float): Value {
  if (operator === '/') return new Float(divided(toNumber(a), toNumber(b)));
  if (a instanceof Float || b instanceof Float || (operator === '**' && toNumber(b) < 0)) {
    return new Float(ofFloats(operator, toNumber(a), toNumber(b)));
  }
  return ofWholes(operator, a, b);
}

function divided(a: number, b: number): number {
  if (b === 0) throw new JinjaError('division by zero');
  return a / b;
}

function ofFloats(operator: string, a: number, b: number): number {
  switch (operator) {
    case '+':
      return a + b;
    case '-':
      return a - b;
    case '*':
      return a * b;
    case '//':
      return Math.floor(divided(a, b));
    case '%':
      return a - Math.floor(divided(a, b)) * b;
    default: {
      const power = a ** b;
      if (Number.isFinite(power)) return power;
      throw new JinjaError('a power that is no finite number');
    }
  }
}

function ofWholes(operator: string, a: Whole, b: Whole): number | bigint {
  const [x, y] = [Number(a), Number(b)];
  const quick =
    operator === '+' ? x + y : operator === '-' ? x - y : operator === '*' ? x * y : NaN;
  if (Number.isSafeInteger(quick) && Number.isSafeInteger(x) && Number.isSafeInteger(y)) {
    return quick;
  }
  return whole(ofLarge(operator, BigInt(a), BigInt(b)));
}

function ofLarge(operator: string, a: bigint, b: bigint): bigint {
  switch (operator) {
    case '+':
      return a + b;
    case '-':
      return a - b;
    case '*':
      return bounded(a * b);
    case '**':
      if (bitsOf(a) * b > BITS_MAX) throw new JinjaError('a power that is too large');
      return a ** b;
    default: {
      if (b === 0n) throw new JinjaError('division by zero');
      const rest = a % b;
      const floor = a / b - (rest !== 0n && rest < 0n !== b < 0n ? 1n : 0n);
      return operator === '//' ? floor : a - floor * b;
    }
  }
}

function bitsOf(value: bigint): bigint {
  return BigInt(value.toString(2).length);
}

function bounded(value: bigint): bigint {
  if (bitsOf(value) > BITS_MAX) throw new JinjaError('a product that is too large');
  return value;
}

/** -x, or +x. */
export function signed(value: Value, isNegative: boolean): Value {
  if (value instanceof Undefined) value.fail();
  if (!isNumber(value)) throw new JinjaError(`${typeName(value)} has no sign`);
  if (value instanceof Float) return isNegative ? new Float(-value.value) : value;
  return whole(isNegative ? -BigInt(value) : BigInt(value));
}
