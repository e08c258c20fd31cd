/** A command line of murmurate, read as the program itself reads it, and not run. */
import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { z } from 'zod';
import '../../node/net/polyfill.js';
import { runProgram } from '../../node/cli/program.js';
import type { Verb } from '../../node/cli/verb.js';
import { VERBS } from '../../node/cli/verbs.js';
import type { OptionSpec, OptionType } from '../../node/config.js';
import { parseAddress } from '../../node/net/addresses.js';

/** What a verb would have been called with. */
export interface Parsed {
  verb: string;
  /** Positional arguments in order; a missing optional one is null. */
  args: readonly (string | null)[];
  options: Readonly<Record<string, unknown>>;
}

/** What documents write for a value: `FILE`, `N`, `PEER:WEIGHT`, `NAME:2`. */
export const PLACEHOLDER = /^[A-Z][A-Z_]*(?::[A-Z\d]+)?$/;

/** Fails for what the program refuses: verb, option, value, number of arguments, or address. A placeholder is any value. */
export async function parsed(args: readonly string[]): Promise<Parsed> {
  const calls: Parsed[] = [];
  const verbs = VERBS.map((verb): Verb => {
    const run: Verb['run'] = async ({ args: given, options }) => {
      calls.push({ verb: verb.name, args: given, options: options as Parsed['options'] });
    };
    return { ...verb, options: withPlaceholders(verb.options), run };
  });
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const { signal } = new AbortController();
  const io = { stdout, stderr, terminal: false, signal, interrupt: (): void => undefined };
  const exitCode = await runProgram(verbs, args, io, { MURMURATE_CONFIG: 'none' });
  const [call] = calls;
  const [error = ''] = /^error: .*$/m.exec(String(stderr.read())) ?? [];
  assert.ok(exitCode === 0 && call, `murmurate ${args.join(' ')}: ${error}`);
  for (const address of addressesOf(call)) parseAddress(address);
  // What follows its first argument is a command line of that verb.
  const rest = call.args.filter((arg) => arg !== null);
  if (call.verb === 'config' && rest.length > 0) await parsed(rest);
  return call;
}

function withPlaceholders(options: Verb['options']): Verb['options'] {
  const entries = Object.entries(options).map(([name, spec]): [string, OptionSpec] => {
    if (spec.kind === 'switch') return [name, spec];
    const parse: OptionType<unknown>['parse'] = (text) =>
      PLACEHOLDER.test(text) ? text : spec.type.parse(text);
    return [name, { ...spec, type: { ...spec.type, parse } }];
  });
  return Object.fromEntries(entries);
}

/** The addresses that the program would read only when it runs. */
function addressesOf({ verb, args, options }: Parsed): string[] {
  const named = ['listen', 'bootstrap'].flatMap((name) =>
    z.array(z.string()).parse(options[name] ?? []),
  );
  // An invite is none; without one the run of the data directory is meant.
  const contact = verb === 'join' ? args.filter((arg) => arg !== null) : [];
  return [...contact, ...named].filter(
    (text) => !PLACEHOLDER.test(text) && !text.startsWith('murmurate1'),
  );
}
