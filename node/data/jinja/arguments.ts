/** Arguments of functions, methods, filters and tests by the names that Python gives them. */
import { isInteger, isTrue, JinjaError, typeName, type Arguments, type Value } from './values.js';

/** The arguments in the order of `names`; undefined where none is given. Throws JinjaError for others. */
export function bind(
  { positional, named }: Arguments,
  names: readonly string[],
): (Value | undefined)[] {
  if (positional.length > names.length) {
    throw new JinjaError(`takes at most ${names.length} arguments`);
  }
  const bound: (Value | undefined)[] = names.map((_, i) => positional[i]);
  for (const [name, value] of named) {
    const place = names.indexOf(name);
    if (place === -1 || bound[place] !== undefined) {
      throw new JinjaError(`takes no argument ${name}`);
    }
    bound[place] = value;
  }
  return bound;
}

/** Arguments of which none is given. */
export const NO_ARGUMENTS: Arguments = { positional: [], named: new Map() };

export function byPlace(...positional: Value[]): Arguments {
  return { positional, named: new Map() };
}

export function textOf(value: Value | undefined, usual: string): string {
  if (value === undefined) return usual;
  if (typeof value === 'string') return value;
  throw new JinjaError(`takes a text, not ${typeName(value)}`);
}

export function wholeOf(value: Value | undefined, usual: number): number {
  if (value === undefined) return usual;
  const number = isInteger(value) ? Number(value) : NaN;
  if (Number.isSafeInteger(number)) return number;
  throw new JinjaError(`takes a whole number, not ${typeName(value)}`);
}

export function flagOf(value: Value | undefined, usual = false): boolean {
  return value === undefined ? usual : isTrue(value);
}
