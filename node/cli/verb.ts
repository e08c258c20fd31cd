/** What a verb of the command line is made of. One verb a file; program.ts puts them together. */
import type { Readable, Writable } from 'node:stream';
import type { OptionSpecs, OptionValues } from '../config.js';
import type { Origin, ResolvedOptions } from '../config/sources.js';

/** Where a verb reads and writes; tests give their own. */
export interface VerbIo {
  /** What a person types, or lines from a pipe; the process's own when absent. */
  stdin?: Readable & { readonly isTTY?: boolean };
  /** Data. */
  stdout: Writable;
  /** Log and progress. */
  stderr: Writable;
  /** What a person types; null, or absent, where nobody can be asked. */
  answers?: Readable | null;
  /** Whether a person watches stderr: bars and colours instead of plain lines. */
  terminal: boolean;
  /** Aborted by the first Ctrl-C or SIGTERM. */
  signal: AbortSignal;
  /** Does what the first Ctrl-C does. */
  interrupt: () => void;
  /** While `handler` is set, Ctrl-C calls it instead; null takes it away. SIGTERM stays what it is. */
  onCtrlC?: (handler: (() => void) | null) => void;
}

export interface VerbArgument {
  /** As in --help, e.g. "ADDRESS". */
  name: string;
  help: string;
  required: boolean;
  /** Whether it may be given again and again; the last argument only. */
  several?: true;
  /** What it can be, where that is one of a few words. */
  words?: readonly string[];
}

export interface VerbCall<S extends OptionSpecs> {
  /** Positional arguments in order; a missing optional one is null. */
  args: readonly (string | null)[];
  options: OptionValues<S>;
  /** Names of the options that somebody set: on the command line, in the environment or in the config file. */
  given: ReadonlySet<string>;
  /** Who set each of them. */
  origins: ReadonlyMap<string, Origin>;
  /** All that there are, in the order of --help. */
  verbs: readonly Verb[];
  /** What another command line, `args` of the verb `name`, would come to. Throws UserError (wrong usage). */
  resolve: (name: string, args: readonly string[]) => Promise<ResolvedOptions & { verb: Verb }>;
  io: VerbIo;
}

/** A verb as program.ts sees it: the options are checked, their types forgotten. */
export interface Verb {
  name: string;
  /** One sentence for --help. */
  summary: string;
  args: readonly VerbArgument[];
  options: OptionSpecs;
  /** Whether its options are those of a peer: what stands alone in the config file. */
  isPeer?: true;
  /** Whether config file and environment say nothing to it. */
  isUnconfigured?: true;
  /** Whether all that follows its first argument belongs to that, flags too. */
  isWrapper?: true;
  /** Whether it runs until it is told to stop, so that Ctrl-C is its normal end (exit code 0). */
  stays?: true;
  /** A command line and what it prints; the end of --help. */
  example: string;
  /** Resolves when all is done. Throws UserError and the other typed errors. */
  run: (call: Omit<VerbCall<OptionSpecs>, 'options'> & { options: unknown }) => Promise<void>;
}

/** A verb whose `run` knows the types of its options. */
export function defineVerb<const S extends OptionSpecs>(
  verb: Omit<Verb, 'options' | 'run'> & {
    options: S;
    run: (call: VerbCall<S>) => Promise<void>;
  },
): Verb {
  // program.ts calls `run` with the values that these very options were parsed to.
  return {
    ...verb,
    run: (call) => verb.run({ ...call, options: call.options as OptionValues<S> }),
  };
}
