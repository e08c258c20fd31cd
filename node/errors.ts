/** Errors that are the user's to mend: the message is one sentence that says what, the value, the bound, and what to do. */

/** Exit codes of the command line. */
export const EXIT_FAILURE = 1;
export const EXIT_USAGE = 2;
/** Ctrl-C before a command was done: 128 + SIGINT. */
export const EXIT_INTERRUPTED = 130;

/**
 * Thrown for wrong flags, files, models, data, addresses. The command line prints `message` alone (no
 * stack) and exits with `exitCode`: 2 for wrong usage, 1 for everything else that failed.
 */
export class UserError extends Error {
  override readonly name = 'UserError';

  constructor(
    message: string,
    readonly exitCode: typeof EXIT_FAILURE | typeof EXIT_USAGE = EXIT_FAILURE,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}
