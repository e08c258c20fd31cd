/** Starts Node programs as processes of their own, reads what they print, and ends them by their ids. */
import { spawn, type ChildProcess } from 'node:child_process';
import { createWriteStream, type WriteStream } from 'node:fs';

/** Time from SIGINT to SIGKILL: a peer that got Ctrl-C is gone within 5 s. */
export const STOP_GRACE_MS = 4_000;

/** What is remembered of a process's stdout; the whole lies in its log file. */
const STDOUT_CHARACTERS_MAX = 4 * 1024 * 1024;

/** The demonstration cannot go on; the message is one sentence for the person who started it. */
export class DemoError extends Error {
  override readonly name = 'DemoError';
}

/** One process. Its stdout and stderr are also written to `logPath`. */
export class Program {
  readonly #child: ChildProcess;
  readonly #exited: Promise<void>;
  readonly #log: WriteStream;
  #stdout = '';
  #lastError = '';
  #ended = false;

  /** `name` is for people; `args` follow "node": a script and its arguments. */
  constructor(
    readonly name: string,
    args: readonly string[],
    readonly logPath: string,
  ) {
    this.#log = createWriteStream(logPath, { flags: 'a' });
    this.#log.on('error', () => undefined);
    this.#child = spawn(process.execPath, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.#log.write(text);
      this.#stdout = (this.#stdout + text).slice(-STDOUT_CHARACTERS_MAX);
    });
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#log.write(text);
      this.#lastError = lastLine(this.#lastError + text);
    });
    this.#exited = new Promise((resolve) => {
      const end = (): void => {
        this.#ended = true;
        this.#log.end();
        resolve();
      };
      this.#child.once('close', end);
      this.#child.once('error', (error) => {
        this.#lastError = error.message;
        end();
      });
    });
  }

  /** Everything that it has printed to stdout so far. */
  get stdout(): string {
    return this.#stdout;
  }

  /** Throws DemoError when the process has ended; for processes that must live on. */
  assertAlive(): void {
    if (this.#ended) throw this.#failure();
  }

  /** Resolves with stdout when it ends with exit code 0. Throws DemoError otherwise, or `signal.reason`. */
  async result(signal: AbortSignal): Promise<string> {
    await abortable(this.#exited, signal);
    if (this.#child.exitCode !== 0) throw this.#failure();
    return this.#stdout;
  }

  /** SIGINT, and SIGKILL after STOP_GRACE_MS. Resolves when the process is gone. */
  async stop(): Promise<void> {
    if (this.#ended) return;
    this.#child.kill('SIGINT');
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), STOP_GRACE_MS);
    await this.#exited;
    clearTimeout(timer);
  }

  #failure(): DemoError {
    const { exitCode, signalCode } = this.#child;
    const how = signalCode === null ? `exit code ${exitCode ?? 'unknown'}` : signalCode;
    const said = this.#lastError === '' ? '' : `: ${this.#lastError}`;
    return new DemoError(
      `the process "${this.name}" ended early (${how})${said} (its log: ${this.logPath})`,
    );
  }
}

/** `promise`, or a rejection with `signal.reason` when that comes first. */
export async function abortable<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  let onAbort = (): void => undefined;
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => {
      reject(signal.reason as Error);
    };
    signal.addEventListener('abort', onAbort, { once: true });
  });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

function lastLine(text: string): string {
  return text.trimEnd().split('\n').at(-1)?.slice(-1000) ?? '';
}
