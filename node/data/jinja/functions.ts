/** The functions that every template can call, and values from JavaScript. */
import { bind, textOf, wholeOf } from './arguments.js';
import { TooMuchError } from '../text-budget.js';
import { ExactNumber } from '../exact-json.js';
import { wholeOf as wholeOfText } from './numbers.js';
import { str } from './printing.js';
import { strftime } from './strftime.js';
import {
  Callable,
  checkDepth,
  Dict,
  Float,
  iterate,
  JinjaError,
  Namespace,
  Range,
  Thing,
  Undefined,
  type Arguments,
  type Value,
} from './values.js';

/** Numbers of one range(), as in Jinja's own sandbox. */
const RANGE_MAX = 100_000;

function range(args: Arguments): Value {
  const [first, second, third] = args.positional;
  if (args.named.size > 0 || args.positional.length > 3) {
    throw new JinjaError('range() takes up to three whole numbers');
  }
  const [start, stop] = second === undefined ? [0, first] : [first, second];
  const made = new Range(wholeOf(start ?? null, 0), wholeOf(stop ?? null, 0), wholeOf(third, 1));
  if (made.step === 0) throw new JinjaError('range() takes a step other than 0');
  if (made.length <= RANGE_MAX) return made;
  throw new TooMuchError(`asks for a range() of ${made.length} numbers, more than ${RANGE_MAX}`);
}

function dict({ positional, named }: Arguments): Dict {
  const [from] = positional;
  const made = new Dict(from instanceof Dict ? from.entries() : pairsOf(from));
  for (const [name, value] of named) made.set(name, value);
  return made;
}

function pairsOf(value: Value | undefined): [Value, Value][] {
  return iterate(value ?? []).map((pair) => {
    const [key, one, more] = iterate(pair);
    if (key === undefined || one === undefined || more !== undefined) {
      throw new JinjaError('a dict is made of pairs');
    }
    return [key, one];
  });
}

function namespace(args: Arguments): Namespace {
  const made = new Namespace();
  for (const [key, value] of dict(args).entries()) {
    if (typeof key !== 'string' || key.startsWith('_')) {
      throw new JinjaError('names of a namespace are texts that do not begin with _');
    }
    made.attributes.set(key, value);
  }
  return made;
}

/** Gives a separator each time but the first. */
function joiner(args: Arguments): Thing {
  const separator = textOf(bind(args, ['sep'])[0], ', ');
  let isUsed = false;
  return new Thing(
    () => undefined,
    () => {
      const text = isUsed ? separator : '';
      isUsed = true;
      return text;
    },
  );
}

function cycler({ positional: items }: Arguments): Thing {
  if (items.length === 0) throw new JinjaError('at least one item has to be provided');
  let at = 0;
  const current = (): Value => items[at] ?? null;
  const next = new Callable(() => {
    const value = current();
    at = (at + 1) % items.length;
    return value;
  });
  const reset = new Callable(() => {
    at = 0;
    return null;
  });
  return new Thing((name) =>
    name === 'next' ? next : name === 'reset' ? reset : name === 'current' ? current() : undefined,
  );
}

/** `now`: what strftime_now tells. */
export function globals(now: () => Date): Map<string, Value> {
  const functions: Readonly<Record<string, (args: Arguments) => Value>> = {
    ...{ range, dict, namespace, joiner, cycler },
    raise_exception: (args) => {
      throw new JinjaError(str(bind(args, ['message'])[0] ?? ''));
    },
    strftime_now: (args) => strftime(now(), textOf(bind(args, ['format'])[0] ?? null, '')),
  };
  // Jinja's own, of which a template can ask only whether they are there.
  const others = ['self', 'lipsum'].map((name): [string, Value] => [
    name,
    new Thing(() => undefined),
  ]);
  return new Map([
    ...others,
    ...Object.entries(functions).map(([name, call]): [string, Value] => [name, new Callable(call)]),
  ]);
}

/** A value of JavaScript, as JSON.parse or parseExactly makes it. */
export function valueOf(given: unknown, depth = 0): Value {
  checkDepth(depth);
  if (given === undefined) return new Undefined('a value');
  if (given === null || typeof given === 'string' || typeof given === 'boolean') return given;
  if (typeof given === 'bigint') return wholeOfText(String(given));
  if (typeof given === 'number') return Number.isSafeInteger(given) ? given : new Float(given);
  if (given instanceof ExactNumber) {
    return given.isWhole ? wholeOfText(given.text) : new Float(Number(given.text));
  }
  if (Array.isArray(given)) return given.map((one: unknown) => valueOf(one, depth + 1));
  const entries = given instanceof Map ? [...given] : Object.entries(given);
  return new Dict(
    entries.map(([key, one]): [Value, Value] => [String(key), valueOf(one, depth + 1)]),
  );
}
