/** Lines that somebody types, or that come through a pipe. */
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';

export interface LineInput {
  /** The next line; null at the end of the input. Rejects with `signal.reason`. */
  next(prompt: string, signal: AbortSignal): Promise<string | null>;
  close(): void;
}

/** Bounded by what a person types: a longer line of a pipe is no message. */
export const LINE_CHARACTERS_MAX = 256 * 1024;

/** Opens `input`; where it is a terminal, with a prompt, editing and the lines before on arrow-up. */
export function openLineInput(
  input: Readable & { readonly isTTY?: boolean },
  output: Writable,
  onCtrlC: () => void,
): LineInput {
  return input.isTTY === true ? new TypedLines(input, output, onCtrlC) : new PipedLines(input);
}

/**
 * One readline for each line: between two lines the terminal is an ordinary one, whose Ctrl-C is a signal and
 * stops the answer.
 */
class TypedLines implements LineInput {
  private history: string[] = [];

  constructor(
    private readonly input: Readable,
    private readonly output: Writable,
    private readonly onCtrlC: () => void,
  ) {}

  next(prompt: string, signal: AbortSignal): Promise<string | null> {
    return new Promise((resolve, reject) => {
      const { input, output, history } = this;
      const lines = createInterface({ input, output, history, terminal: true, prompt });
      const abort = (): void => {
        lines.close();
        reject(signal.reason as Error);
      };
      lines.on('history', (now: string[]) => (this.history = now));
      lines.on('line', (line) => {
        resolve(line);
        lines.close();
      });
      lines.on('SIGINT', () => {
        output.write('\n');
        this.onCtrlC();
        lines.prompt();
      });
      lines.on('close', () => {
        signal.removeEventListener('abort', abort);
        resolve(null);
      });
      if (signal.aborted) abort();
      else {
        signal.addEventListener('abort', abort, { once: true });
        lines.prompt();
      }
    });
  }

  close(): void {
    // Each line closes its own.
  }
}

class PipedLines implements LineInput {
  private readonly lines: ReturnType<typeof createInterface>;
  private readonly iterator: AsyncIterator<string>;

  constructor(input: Readable) {
    this.lines = createInterface({ input, crlfDelay: Infinity });
    this.iterator = this.lines[Symbol.asyncIterator]();
  }

  async next(_prompt: string, signal: AbortSignal): Promise<string | null> {
    signal.throwIfAborted();
    const close = (): void => this.lines.close();
    signal.addEventListener('abort', close, { once: true });
    const result = await this.iterator.next();
    signal.removeEventListener('abort', close);
    signal.throwIfAborted();
    return result.done === true ? null : result.value;
  }

  close(): void {
    this.lines.close();
  }
}
