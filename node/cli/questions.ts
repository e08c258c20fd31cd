/** Questions to a person at a terminal, one line each, asked again until the answer will do. */
import { createInterface, type Interface } from 'node:readline';
import { EXIT_USAGE, UserError } from '../errors.js';
import type { VerbIo } from './verb.js';
import { rawOutput } from './output.js';

/** Asks on stderr and reads from `answers`. */
export class Questions {
  readonly #io: VerbIo;
  readonly #lines: Interface;
  readonly #answers: AsyncIterator<string>;

  /** `answers`: what the person types. */
  constructor(io: VerbIo, answers: NonNullable<VerbIo['answers']>) {
    this.#io = io;
    const { terminal, signal } = io;
    this.#lines = createInterface({
      input: answers,
      output: rawOutput(io.stderr),
      terminal,
      signal,
    });
    // In a terminal readline takes Ctrl-C for itself.
    this.#lines.on('SIGINT', io.interrupt);
    this.#answers = this.#lines[Symbol.asyncIterator]();
  }

  /**
   * What `read` makes of the answer; a UserError of it is shown, and the question asked again. Throws UserError
   * (wrong usage) when the answers end, `signal.reason`.
   */
  async ask<T>(question: string, read: (answer: string) => T | Promise<T>): Promise<T> {
    for (;;) {
      this.#lines.setPrompt(`${question} `);
      this.#lines.prompt();
      const { done, value } = (await this.#answers.next()) as IteratorResult<string, undefined>;
      this.#io.signal.throwIfAborted();
      if (done) throw new UserError('the answers ended before the questions', EXIT_USAGE);
      try {
        return await read(value.trim());
      } catch (error) {
        if (!(error instanceof UserError)) throw error;
        this.#io.stderr.write(`${error.message}\n`);
      }
    }
  }

  close(): void {
    this.#lines.close();
  }
}
