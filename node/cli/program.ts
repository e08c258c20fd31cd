/** The command line: verbs and their options handed to commander, errors to sentences and exit codes. */
import { existsSync } from 'node:fs';
import { Command, CommanderError, Option } from 'commander';
import { OutOfMemoryError } from '../engine/errors.js';
import { EXIT_FAILURE, EXIT_INTERRUPTED, EXIT_USAGE, UserError } from '../errors.js';
import { flagOf, parseValue, type OptionSpec, type OptionSpecs } from '../config.js';
import { CONFIG_FILE, readConfigFile } from '../config/file.js';
import { Sources, type ResolvedOptions } from '../config/sources.js';
import { StoreUnavailableError, TrainerDiedError } from '../interfaces.js';
import { ForeignLogError } from '../store/log-scan.js';
import {
  InvalidManifestError,
  InvalidPeerIdError,
  NotAMemberError,
} from '../../protocol/errors.js';
import { INVITE_PREFIX } from '../../protocol/invite.js';
import { VERSION } from '../version.js';
import type { Verb, VerbCall, VerbIo } from './verb.js';
import { printableOutput } from './output.js';

/** The environment as a process has it. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** Runs `args` (without node and the script). Resolves with the exit code; never rejects. */
export async function runProgram(
  verbs: readonly Verb[],
  args: readonly string[],
  io: VerbIo,
  environment: Environment = process.env,
): Promise<number> {
  const stderr = printableOutput(io.stderr);
  const safe = { ...io, stdout: printableOutput(io.stdout), stderr };
  const program = createProgram(verbs, safe, environment);
  try {
    await program.parseAsync([...args], { from: 'user' });
    return 0;
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return 0;
    // What was under way stopped because it was told to.
    if (io.signal.aborted && isAbort(error, io.signal)) return EXIT_INTERRUPTED;
    const { text, exitCode } = describeError(error, args);
    stderr.write(`error: ${text.replaceAll(INVITES, `${INVITE_PREFIX}...`)}\n`);
    return exitCode;
  }
}

/** An invite is a secret, wherever on the command line it stands. */
const INVITES = new RegExp(`${INVITE_PREFIX}\\w+`, 'gi');

/** Whether `error` is what a wait threw when `signal` aborted: its reason, or Node's own AbortError. */
function isAbort(error: unknown, signal: AbortSignal): boolean {
  return error === signal.reason || (error instanceof Error && error.name === 'AbortError');
}

/** Errors whose message is a sentence for the user. */
const SENTENCES = [
  StoreUnavailableError,
  ForeignLogError,
  TrainerDiedError,
  InvalidManifestError,
  InvalidPeerIdError,
  NotAMemberError,
  OutOfMemoryError,
];

function describeError(
  error: unknown,
  args: readonly string[],
): { text: string; exitCode: number } {
  if (error instanceof UserError) return { text: error.message, exitCode: error.exitCode };
  if (error instanceof CommanderError) {
    // commander prints this one's help itself when no verb is given.
    if (error.code === 'commander.help') {
      return { text: 'name a verb, like "murmurate start --help"', exitCode: EXIT_USAGE };
    }
    const isVerbUnknown = error.code === 'commander.unknownCommand';
    const verb = isVerbUnknown ? undefined : args.find((arg) => !arg.startsWith('-'));
    const message = error.message.replace(/^error: /, '').replaceAll(/\s*\n\s*/g, ' ');
    const help = verb === undefined ? 'murmurate --help' : `murmurate ${verb} --help`;
    return { text: `${message}; see "${help}"`, exitCode: EXIT_USAGE };
  }
  if (SENTENCES.some((type) => error instanceof type) && error instanceof Error) {
    return { text: error.message, exitCode: EXIT_FAILURE };
  }
  const details = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return { text: `this is a fault of murmurate itself: ${details}`, exitCode: EXIT_FAILURE };
}

function createProgram(verbs: readonly Verb[], io: VerbIo, environment: Environment): Command {
  const program = new Command('murmurate');
  program.description('Peers fine-tune one language model together, with no server.');
  program.version(VERSION);
  program.enablePositionalOptions();
  configure(program, io);
  const resolveVerb = async (verb: Verb, command: Command): Promise<ResolvedOptions> => {
    const { [CONFIG_OPTION]: config, ...flags } = command.opts<Record<string, unknown>>();
    const path = typeof config === 'string' ? config : null;
    return (await readSources(verbs, verb, path, environment)).resolve(verb, flags);
  };
  const resolve: VerbCall<OptionSpecs>['resolve'] = async (name, args) => {
    const verb = verbs.find((one) => one.name === name);
    if (!verb) {
      throw new UserError(`there is no verb ${name}; see "murmurate --help"`, EXIT_USAGE);
    }
    const command = toCommand(verb, io).allowExcessArguments(false);
    return { verb, ...(await resolveVerb(verb, command.parse(args, { from: 'user' }))) };
  };
  for (const verb of verbs) {
    const command = toCommand(verb, io);
    command.action(async () => {
      const count = Math.max(verb.args.length, command.args.length);
      const args = Array.from({ length: count }, (_, i) => command.args[i] ?? null);
      const { values: options, origins } = await resolveVerb(verb, command);
      const given = new Set(origins.keys());
      await verb.run({ args, options, given, origins, verbs, resolve, io });
    });
    program.addCommand(command);
  }
  return program;
}

/** Names the config file; a flag of every verb that reads one. */
const CONFIG_OPTION = 'config';

/** Instead of a file: none, also where ./murmurate.yaml is. */
const NO_FILE = 'none';

/** What file and environment say to `verb`; `path` is what --config says. Throws UserError. */
async function readSources(
  verbs: readonly Verb[],
  { isUnconfigured }: Verb,
  path: string | null,
  environment: Environment,
): Promise<Sources> {
  if (isUnconfigured === true) return new Sources(verbs, null, {});
  const named = path ?? (environment['MURMURATE_CONFIG'] || null);
  const isThere = named ?? (existsSync(CONFIG_FILE) ? CONFIG_FILE : NO_FILE);
  const file = isThere === NO_FILE ? null : await readConfigFile(isThere);
  return new Sources(verbs, file, environment);
}

function toCommand(verb: Verb, io: VerbIo): Command {
  const command = new Command(verb.name).description(verb.summary);
  configure(command, io);
  command.addHelpText('after', `\nExample:\n${indent(verb.example)}`);
  for (const { name, help, required, several } of verb.args) {
    const shown = several === true ? `${name}...` : name;
    command.argument(required ? `<${shown}>` : `[${shown}]`, help);
  }
  for (const [name, spec] of Object.entries(verb.options)) command.addOption(toOption(name, spec));
  if (verb.isWrapper === true) command.passThroughOptions();
  if (verb.isUnconfigured !== true) {
    const help = `options in YAML (default: ./${CONFIG_FILE} where it is); ${NO_FILE}: no file`;
    command.option(`--${CONFIG_OPTION} <FILE>`, help);
  }
  return command;
}

function configure(command: Command, io: VerbIo): void {
  command.exitOverride();
  command.configureOutput({
    writeOut: (text) => io.stdout.write(text),
    writeErr: (text) => io.stderr.write(text),
    // runProgram prints the sentence.
    outputError: () => undefined,
  });
  command.configureHelp({ sortOptions: false });
}

function toOption(name: string, spec: OptionSpec): Option {
  const flag = flagOf(name);
  if (spec.kind === 'switch') {
    const option = new Option(flag, spec.help);
    // commander would make --no-x the opposite of an option x; here it is a switch like any other.
    option.negate = false;
    return option;
  }
  const value =
    spec.kind === 'many' ? `<${spec.type.placeholder}...>` : `<${spec.type.placeholder}>`;
  const option = new Option(`${flag} ${value}`, `${spec.help}${defaultNote(spec)}`);
  return option.argParser((text: string, previous: unknown) => {
    const parsed = parseValue(name, spec.type, text);
    if (spec.kind === 'one') return parsed;
    return Array.isArray(previous) ? [...(previous as unknown[]), parsed] : [parsed];
  });
}

function defaultNote(spec: Exclude<OptionSpec, { kind: 'switch' }>): string {
  const values = spec.kind === 'many' ? spec.default : [spec.default ?? ''];
  const note = spec.defaultText ?? values.map(String).join(' ');
  return note === '' ? '' : ` (default: ${note})`;
}

function indent(text: string): string {
  return text
    .trim()
    .split('\n')
    .map((line) => `  ${line}`)
    .join('\n');
}
