/**
 * Stops a model's own programs (the regular expressions of a tokenizer, a chat template) that run for too long, in the
 * thread that called them. V8 ends a script at its deadline wherever it is, inside a regular expression too.
 */
import { createContext, Script } from 'node:vm';
import { UserError } from '../errors.js';

/** A file of a model that is a program. */
export interface ModelProgram {
  /** Where it lies, for errors. */
  readonly path: string;
  /** What to do about it, e.g. "get the model's own tokenizer.json". */
  readonly remedy: string;
  /** Why it no longer runs: it was stopped once, and would be again, perhaps for each of a million records. */
  stopped?: UserError;
}

/** Time for one call. A record of 1000 characters takes about 1 ms; a machine may be busy or slow. */
export const CALL_MS = 10_000;
/** In addition for each character: 50 KB a second, where an idle core does 1 MB. */
const CHARACTER_MS = 0.02;

const context = createContext({ work: (): void => undefined });
const script = new Script('work()');

/** What runs now; null between calls and in code of this project. */
let current: ModelProgram | null = null;
let isWatched = false;

/** Time for `characters` of text. */
export function timeFor(characters: number, callMs = CALL_MS): number {
  return Math.ceil(callMs + characters * CHARACTER_MS);
}

/**
 * Runs `work`, which must be synchronous. Within another call the outer limit applies, so that many short calls can
 * share one: setting a limit takes 0.1 ms. Throws UserError when the time is up; what `work` throws otherwise.
 */
export function withTimeLimit<T>(program: ModelProgram | null, limitMs: number, work: () => T): T {
  if (program?.stopped !== undefined) throw program.stopped;
  const outer = current;
  current = program;
  if (isWatched) {
    const result = work();
    current = outer;
    return result;
  }
  const out: { result?: T } = {};
  isWatched = true;
  try {
    Object.assign(context, { work: () => void (out.result = work()) });
    script.runInContext(context, { timeout: limitMs });
    return out.result as T;
  } catch (error) {
    if (!isTimeout(error)) throw error;
    throw stop(current, limitMs, error);
  } finally {
    Object.assign(context, { work: () => undefined });
    current = outer;
    isWatched = false;
  }
}

function isTimeout(error: unknown): boolean {
  // Errors of another context are not instances of this one's classes.
  return (
    typeof error === 'object' &&
    error !== null &&
    'code' in error &&
    error.code === 'ERR_SCRIPT_EXECUTION_TIMEOUT'
  );
}

function stop(program: ModelProgram | null, limitMs: number, cause: unknown): UserError {
  const seconds = Math.round(limitMs / 100) / 10;
  const error = new UserError(
    program === null
      ? `reading the data was stopped: a few records took more than ${seconds} s, the most that they may: try again when the machine has less to do`
      : `${program.path} was stopped after ${seconds} s, the most that it may run for one text (a pattern or a loop in it never ends, or nearly so): ${program.remedy}`,
    undefined,
    { cause },
  );
  if (program !== null) program.stopped = error;
  return error;
}
