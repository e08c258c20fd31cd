/** Runs the command line as real processes, for tests: waits with deadlines, ends only what it started. */
import assert from 'node:assert/strict';
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { statusReportSchema, type StatusReport } from '../../node/status.js';

const isSource = import.meta.url.endsWith('.ts');
const MAIN = fileURLToPath(new URL(`../../node/main.${isSource ? 'ts' : 'js'}`, import.meta.url));
const LOADER = isSource ? ['--import', import.meta.resolve('tsx')] : [];

/** Longest wait for anything, in ms: generous, for test machines are slow and busy. */
export const DEADLINE_MS = 90_000;

/** A status is far below this. */
const TEXT_BYTES_MAX = 16 * 1024 * 1024;

/** Polls until `probe` gives something else than null; the error names `what` and shows `context`. */
export async function until<T>(
  what: string,
  probe: () => Promise<T | null> | T | null,
  context: () => string = () => '',
): Promise<T> {
  const endMs = performance.now() + DEADLINE_MS;
  for (;;) {
    const value = await probe();
    if (value !== null) return value;
    if (performance.now() > endMs)
      assert.fail(`waited ${DEADLINE_MS} ms for ${what}\n${context()}`);
    await delay(100);
  }
}

export interface CommandLineOptions {
  /** A command that runs it elsewhere, like `ip netns exec NAME`. */
  prefix?: readonly string[];
  /** What stands for "murmurate"; by default this build of it. */
  command?: readonly string[];
  /** Its working directory; by default that of the test. */
  cwd?: string;
}

/** One process of the command line; `args` follow "murmurate". */
export class CommandLine {
  readonly #child: ChildProcess;
  readonly #prefix: readonly string[];
  readonly #exited: Promise<number | NodeJS.Signals>;
  stdout = '';
  stderr = '';
  exit: number | NodeJS.Signals | null = null;

  constructor(args: readonly string[], options: CommandLineOptions = {}) {
    const { prefix = [], command = [process.execPath, ...LOADER, MAIN], cwd } = options;
    this.#prefix = prefix;
    const [program = '', ...rest] = [...prefix, ...command, ...args];
    this.#child = spawn(program, rest, { cwd, stdio: ['ignore', 'pipe', 'pipe'] });
    this.#child.stdout?.setEncoding('utf8').on('data', (text: string) => (this.stdout += text));
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => (this.stderr += text));
    this.#exited = new Promise((resolve) => {
      this.#child.once('close', (code, signal) => {
        this.exit = code ?? signal ?? -1;
        resolve(this.exit);
      });
    });
  }

  /** Runs a command that ends by itself. */
  static async run(...args: string[]): Promise<CommandLine> {
    const command = new CommandLine(args);
    await command.ended();
    return command;
  }

  get pid(): number {
    return this.#child.pid ?? -1;
  }

  /** Resolves with the exit code or the signal; fails after the deadline. */
  async ended(): Promise<number | NodeJS.Signals> {
    await until(
      `${this.#child.spawnargs.join(' ')} to end`,
      () => this.exit,
      () => this.output(),
    );
    return this.#exited;
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** Ends the process if it still runs; for the end of a test. */
  async dispose(): Promise<void> {
    if (this.exit === null) this.#child.kill('SIGKILL');
    await this.#exited;
  }

  output(): string {
    return `exit ${String(this.exit)}\nstdout: ${this.stdout}\nstderr: ${this.stderr}`;
  }

  /** What start and join print: resolves when the peer is up. */
  async facts(): Promise<{ runId: string; peerId: string; address: string; url: string }> {
    const find = (pattern: RegExp): string => pattern.exec(this.stdout)?.[1] ?? '';
    await until(
      'the status URL',
      () => {
        assert.equal(this.exit, null, this.output());
        return find(/^status +(\S+)$/m) || null;
      },
      () => this.output(),
    );
    return {
      runId: find(/^run .* ([0-9a-f]{64})$/m),
      peerId: find(/^peer +(\S+)$/m),
      address: find(/^address +(\S+)$/m),
      url: find(/^status +(\S+)$/m),
    };
  }

  /** Resolves with the first status for which `condition` holds. */
  async status(what: string, condition: (report: StatusReport) => boolean): Promise<StatusReport> {
    const { url } = await this.facts();
    let last: StatusReport | null = null;
    return until(
      what,
      async () => {
        assert.equal(this.exit, null, this.output());
        last = statusReportSchema.parse(JSON.parse(await this.#fetch(`${url}/status`)));
        return condition(last) ? last : null;
      },
      () => `${JSON.stringify(last, null, 2)}\n${this.output()}`,
    );
  }
  /** The text at `url`, from where this process runs. */
  async #fetch(url: string): Promise<string> {
    if (this.#prefix.length === 0) {
      const response = await fetch(url, { signal: AbortSignal.timeout(DEADLINE_MS) });
      return response.text();
    }
    const script = `process.stdout.write(await (await fetch(${JSON.stringify(url)})).text())`;
    const command = [...this.#prefix, process.execPath, '--input-type=module', '-e', script];
    const [program = '', ...rest] = command;
    const options = { timeout: DEADLINE_MS, maxBuffer: TEXT_BYTES_MAX };
    return (await promisify(execFile)(program, rest, options)).stdout;
  }
}
