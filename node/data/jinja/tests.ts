/** What stands behind `is` in a template. */
import { str } from './printing.js';
import {
  Callable,
  compare,
  contains,
  Dict,
  Float,
  isEqual,
  isInteger,
  isList,
  isNumber,
  JinjaError,
  Lazy,
  Range,
  Thing,
  toNumber,
  Tuple,
  typeName,
  Undefined,
  View,
  type Value,
} from './values.js';

type Test = (value: Value, args: readonly Value[]) => boolean;

const isSequence: Test = (value) =>
  typeof value === 'string' ||
  isList(value) ||
  value instanceof Tuple ||
  value instanceof Dict ||
  value instanceof Range ||
  value instanceof View ||
  value instanceof Undefined;

const against =
  (holds: (value: Value, other: Value) => boolean): Test =>
  (value, [other]) => {
    if (other === undefined) throw new JinjaError('the test takes a value');
    return holds(value, other);
  };

function remainder(value: Value, by: Value): number {
  if (!isNumber(value) || !isNumber(by)) {
    throw new JinjaError(`${typeName(value)} has no remainder`);
  }
  return toNumber(value) % toNumber(by);
}

const isLess = (value: Value, other: Value): boolean => compare(value, other) < 0;
const isGreater = (value: Value, other: Value): boolean => compare(value, other) > 0;
const isAtMost = (value: Value, other: Value): boolean => compare(value, other) <= 0;
const isAtLeast = (value: Value, other: Value): boolean => compare(value, other) >= 0;
const isSame = (value: Value, other: Value): boolean =>
  value === other ||
  (isNumber(value) && typeName(value) === typeName(other) && isEqual(value, other));
const hasCase = (text: string): boolean => text.toLowerCase() !== text.toUpperCase();

const TESTS: Readonly<Record<string, Test>> = {
  defined: (value) => !(value instanceof Undefined),
  undefined: (value) => value instanceof Undefined,
  none: (value) => value === null,
  string: (value) => typeof value === 'string',
  number: isNumber,
  integer: (value) => isInteger(value) && typeof value !== 'boolean',
  float: (value) => value instanceof Float,
  boolean: (value) => typeof value === 'boolean',
  true: (value) => value === true,
  false: (value) => value === false,
  mapping: (value) => value instanceof Dict,
  sequence: isSequence,
  iterable: (value) => isSequence(value, []) || value instanceof Lazy,
  callable: (value) =>
    value instanceof Callable ||
    value instanceof Undefined ||
    (value instanceof Thing && value.call !== null),
  odd: (value) => Math.abs(remainder(value, 2)) === 1,
  even: (value) => remainder(value, 2) === 0,
  divisibleby: against((value, by) => remainder(value, by) === 0),
  lower: (value) => hasCase(str(value)) && str(value) === str(value).toLowerCase(),
  upper: (value) => hasCase(str(value)) && str(value) === str(value).toUpperCase(),
  in: against((value, container) => contains(container, value)),
  sameas: against(isSame),
  escaped: () => false,
  ...{ eq: against(isEqual), equalto: against(isEqual), '==': against(isEqual) },
  ...{ ne: against((a, b) => !isEqual(a, b)), '!=': against((a, b) => !isEqual(a, b)) },
  ...{ lt: against(isLess), lessthan: against(isLess), '<': against(isLess) },
  ...{ gt: against(isGreater), greaterthan: against(isGreater), '>': against(isGreater) },
  ...{ le: against(isAtMost), '<=': against(isAtMost) },
  ...{ ge: against(isAtLeast), '>=': against(isAtLeast) },
};

/** Throws JinjaError for a test that there is not. */
export function testNamed(name: string): Test {
  const test = isTestName(name) ? TESTS[name] : undefined;
  if (test === undefined) throw new JinjaError(`there is no test ${name}`);
  return test;
}

export function isTestName(name: string): boolean {
  return Object.hasOwn(TESTS, name) || name === 'filter' || name === 'test';
}
