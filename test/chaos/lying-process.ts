/** Starts lying-member.ts in a network namespace, and ends it. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

const isSource = import.meta.url.endsWith('.ts');
const PROGRAM = fileURLToPath(new URL(`./lying-member.${isSource ? 'ts' : 'js'}`, import.meta.url));
const LOADER = isSource ? ['--import', import.meta.resolve('tsx')] : [];

export class LyingProcess {
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  /** Resolves when it takes part. `prefix` runs a command in the namespace; `address`: of a peer. */
  static async start(prefix: readonly string[], address: string): Promise<LyingProcess> {
    const [program = '', ...args] = prefix;
    const child = spawn(program, [...args, process.execPath, ...LOADER, PROGRAM, address], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const begun = once(child.stdout, 'data');
    const ended = once(child, 'exit').then(() => {
      throw new Error('the lying member ended before it began');
    });
    await Promise.race([begun, ended]);
    ended.catch(() => undefined);
    return new LyingProcess(child);
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await ended;
  }
}
