/** The command line of a bench: options as the program's own are described, with --help and one sentence for a mistake. */
import { parseArgs, type ParseArgsConfig } from 'node:util';
import {
  defaultsOf,
  keyOf,
  valueOf,
  type OptionSpec,
  type OptionSpecs,
  type OptionType,
} from '../node/config.js';
import type { OptionValues } from '../node/config.js';
import { EXIT_FAILURE, EXIT_USAGE, UserError } from '../node/errors.js';

/** What a bench says of itself. */
export interface BenchUsage<S extends OptionSpecs> {
  /** As npm run knows it, e.g. "bench:learning". */
  name: string;
  /** A sentence or more. */
  summary: string;
  /** Stands for what follows the options; none: nothing may. */
  operands?: string;
  options: S;
}

/** Values with commas between them, at least one. */
export function listOf<T>(type: OptionType<T>): OptionType<readonly T[]> {
  return {
    placeholder: `${type.placeholder},...`,
    expected: `${type.expected}, or several with commas between them`,
    parse: (text) => {
      const values = text.split(',').map((one) => type.parse(one));
      return values.every((value) => value !== undefined) ? values : undefined;
    },
  };
}

/**
 * What the process was called with. Prints --help and exits. Throws UserError (wrong usage) for an option that there is
 * not, and for a value outside of its bounds.
 */
export function readOptions<const S extends OptionSpecs>(
  usage: BenchUsage<S>,
): { options: OptionValues<S>; operands: readonly string[] } {
  const { values, positionals } = parse(usage);
  if (values['help'] === true) {
    process.stdout.write(helpOf(usage));
    process.exit(0);
  }
  const options: Record<string, unknown> = { ...defaultsOf(usage.options) };
  for (const [name, spec] of Object.entries(usage.options)) {
    const given = values[keyOf(name)];
    if (given !== undefined) options[name] = valueOf(name, spec, [given].flat().map(String));
  }
  // Each value was read by the very spec that gives its type.
  return { options: options as OptionValues<S>, operands: positionals };
}

function parse({ name, options, operands }: BenchUsage<OptionSpecs>): {
  values: Record<string, string | boolean | (string | boolean)[] | undefined>;
  positionals: readonly string[];
} {
  const known: NonNullable<ParseArgsConfig['options']> = { help: { type: 'boolean' } };
  for (const [option, spec] of Object.entries(options)) {
    const type = spec.kind === 'switch' ? 'boolean' : 'string';
    known[keyOf(option)] = { type, multiple: spec.kind === 'many' };
  }
  try {
    return parseArgs({ options: known, allowPositionals: operands !== undefined });
  } catch (error) {
    // Its first sentence says what is wrong, the others how Node would have it.
    const [words = ''] = error instanceof Error ? error.message.split(/\. |\n/) : [];
    throw new UserError(`${words}; see "npm run ${name} -- --help"`, EXIT_USAGE);
  }
}

function helpOf({ name, summary, operands = '', options }: BenchUsage<OptionSpecs>): string {
  const lines = Object.entries(options).map(([option, spec]) => {
    const value = spec.kind === 'switch' ? '' : ` ${spec.type.placeholder}`;
    return [`--${keyOf(option)}${value}`, `${spec.help}${defaultOf(spec)}`] as const;
  });
  const width = Math.max(...lines.map(([flag]) => flag.length));
  const rows = lines.map(([flag, help]) => `  ${flag.padEnd(width)}  ${help}\n`);
  return `npm run ${name} -- [OPTIONS] ${operands}\n\n${summary}\n\n${rows.join('')}`;
}

function defaultOf(spec: OptionSpec): string {
  if (spec.kind === 'switch') return '';
  const values = spec.kind === 'many' ? spec.default : [spec.default ?? ''].flat();
  const text = spec.defaultText ?? values.map(String).join(',');
  return text === '' ? '' : ` (default: ${text})`;
}

/** Runs `main` and ends the process: with 0, or with a sentence and its exit code where something went wrong. */
export async function runBench(main: () => Promise<void>): Promise<never> {
  try {
    await main();
    process.exit(0);
  } catch (error) {
    const isKnown = error instanceof UserError;
    const text = error instanceof Error && !isKnown ? error.stack : undefined;
    process.stderr.write(
      `error: ${text ?? (error instanceof Error ? error.message : String(error))}\n`,
    );
    process.exit(isKnown ? error.exitCode : EXIT_FAILURE);
  }
}
