/** Options of the command line as data: one description for parsing, checking and --help. */
import { EXIT_USAGE, UserError } from './errors.js';

/** How one value is read from text. */
export interface OptionType<T> {
  /** Stands for the value in --help, e.g. "SECONDS". */
  placeholder: string;
  /** Completes "it must be ...". */
  expected: string;
  /** Words that it takes, which a shell can complete; not all that it takes where there are other values. */
  words?: readonly string[];
  /** Undefined when `text` is not such a value. */
  parse: (text: string) => T | undefined;
}

/** An option with a value (`--rank N`), with several (`--data FILE...`), or without (`--json`). */
export type OptionSpec<T = unknown> =
  | {
      kind: 'one';
      type: OptionType<T>;
      /** The value when the flag is not given; null where there is none. */
      default: T | null;
      /** What --help says about the default where the value itself says little. */
      defaultText?: string;
      help: string;
    }
  | { kind: 'many'; type: OptionType<T>; default: readonly T[]; defaultText?: string; help: string }
  | { kind: 'switch'; help: string };

/** Options by name in camelCase: `epochSeconds` is the flag --epoch-seconds. */
export type OptionSpecs = Readonly<Record<string, OptionSpec>>;

/** The values of `S` after parsing; an option without a default can be null. */
export type OptionValues<S extends OptionSpecs> = {
  [K in keyof S]: S[K] extends { kind: 'switch' }
    ? boolean
    : S[K] extends { kind: 'many'; type: OptionType<infer T> }
      ? readonly T[]
      : S[K] extends { kind: 'one'; type: OptionType<infer T>; default: infer D }
        ? D extends null
          ? T | null
          : T
        : never;
};

/** One value; `null` as default means that it may be missing. */
export function option<T, D extends T | null>(
  type: OptionType<T>,
  byDefault: D,
  help: string,
  defaultText?: string,
): { kind: 'one'; type: OptionType<T>; default: D; help: string; defaultText?: string } {
  const spec = { kind: 'one' as const, type, default: byDefault, help };
  return defaultText === undefined ? spec : { ...spec, defaultText };
}

/** Several values after one flag, which may also be repeated. */
export function manyOption<T>(
  type: OptionType<T>,
  byDefault: readonly T[],
  help: string,
): { kind: 'many'; type: OptionType<T>; default: readonly T[]; help: string } {
  return { kind: 'many', type, default: byDefault, help };
}

/** A flag without a value. */
export function switchOption(help: string): { kind: 'switch'; help: string } {
  return { kind: 'switch', help };
}

/** What the options are where none is given. */
export function defaultsOf<const S extends OptionSpecs>(specs: S): OptionValues<S> {
  const values = Object.entries(specs).map(([name, spec]) => [
    name,
    spec.kind === 'switch' ? false : spec.default,
  ]);
  // Each value is the default of the very spec that gives its type.
  return Object.fromEntries(values) as OptionValues<S>;
}

/** `epochSeconds` -> "epoch-seconds", as in a config file. */
export function keyOf(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

/** `epochSeconds` -> "--epoch-seconds". */
export function flagOf(name: string): string {
  return `--${keyOf(name)}`;
}

/**
 * Reads one value. Throws UserError (exit code 2) naming the flag, the value and what it must be; `place`: where
 * the value was found, when that is not the command line.
 */
export function parseValue<T>(name: string, type: OptionType<T>, text: string, place?: string): T {
  const value = type.parse(text);
  if (value === undefined) throw wrongValue(name, text, type.expected, place);
  return value;
}

function wrongValue(name: string, text: string, expected: string, place?: string): UserError {
  const where = place === undefined ? '' : ` (${place})`;
  return new UserError(`${flagOf(name)} is "${text}"${where}; it must be ${expected}`, EXIT_USAGE);
}

/**
 * The value of an option as a file, the environment or a program gives it: `texts` has one text for each of several
 * values, and exactly one else. Throws UserError as parseValue does.
 */
export function valueOf(
  name: string,
  spec: OptionSpec,
  texts: readonly string[],
  place?: string,
): unknown {
  if (spec.kind === 'many') return texts.map((one) => parseValue(name, spec.type, one, place));
  const [text = '', ...more] = texts;
  if (more.length > 0) throw wrongValue(name, texts.join(', '), 'one value', place);
  if (spec.kind === 'one') return parseValue(name, spec.type, text, place);
  if (text !== 'true' && text !== 'false') throw wrongValue(name, text, 'true or false', place);
  return text === 'true';
}

/** Whole numbers from `min` to `max`. */
export function integer(placeholder: string, min: number, max: number): OptionType<number> {
  return {
    placeholder,
    expected: `a whole number from ${min} to ${max}`,
    parse: (text) => {
      const value = /^[+-]?\d+$/.test(text) ? Number(text) : NaN;
      return Number.isSafeInteger(value) && value >= min && value <= max ? value : undefined;
    },
  };
}

/** Numbers from `min` to `max`, also like 1e-3. */
export function real(placeholder: string, min: number, max: number): OptionType<number> {
  return {
    placeholder,
    expected: `a number from ${min} to ${max}`,
    parse: (text) => {
      const value = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text) ? Number(text) : NaN;
      return value >= min && value <= max ? value : undefined;
    },
  };
}

/** Any text that is not empty. */
export function text(
  placeholder: string,
  expected = 'a text that is not empty',
): OptionType<string> {
  return { placeholder, expected, parse: (value) => (value === '' ? undefined : value) };
}

/** One of a few words. */
export function choice<const T extends string>(words: readonly T[]): OptionType<T> {
  return {
    placeholder: words.join('|'),
    expected: `one of ${words.join(', ')}`,
    words,
    parse: (value) => words.find((word) => word === value),
  };
}

/** `word` itself, or whatever `type` reads. */
export function orWord<const W extends string, T>(word: W, type: OptionType<T>): OptionType<T | W> {
  return {
    placeholder: `${type.placeholder}|${word}`,
    expected: `${type.expected}, or ${word}`,
    words: [...(type.words ?? []), word],
    parse: (value) => (value === word ? word : type.parse(value)),
  };
}

/** Text that matches `pattern`. */
export function matching(
  placeholder: string,
  pattern: RegExp,
  expected: string,
): OptionType<string> {
  return { placeholder, expected, parse: (value) => (pattern.test(value) ? value : undefined) };
}
