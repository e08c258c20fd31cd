/** The other end of attendant.ts: starts it in a namespace and puts questions to it. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { answerSchema, type Line } from './attendant.js';

const isSource = import.meta.url.endsWith('.ts');
const PROGRAM = fileURLToPath(new URL(`./attendant.${isSource ? 'ts' : 'js'}`, import.meta.url));
const LOADER = isSource ? ['--import', import.meta.resolve('tsx')] : [];

export class Attendant {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, (text: string | null) => void>();
  #lastId = 0;

  private constructor(child: ChildProcess) {
    this.#child = child;
    child.on('message', (message) => {
      const { id, text } = answerSchema.parse(message);
      this.#waiting.get(id)?.(text);
      this.#waiting.delete(id);
    });
    child.once('exit', () => {
      for (const answer of this.#waiting.values()) answer(null);
      this.#waiting.clear();
    });
  }

  /** Resolves when its line is open. `prefix` runs a command in the namespace. */
  static async start(prefix: readonly string[], line: Line): Promise<Attendant> {
    const [program = '', ...args] = prefix;
    const child = spawn(
      program,
      [...args, process.execPath, ...LOADER, PROGRAM, JSON.stringify(line)],
      { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] },
    );
    await once(child, 'message');
    return new Attendant(child);
  }

  get pid(): number {
    return this.#child.pid ?? -1;
  }

  /** What `url` answers in there; null when nothing does within a few seconds. */
  async ask(url: string): Promise<string | null> {
    const id = ++this.#lastId;
    if (!this.#child.connected) return null;
    return new Promise((resolve) => {
      this.#waiting.set(id, resolve);
      this.#child.send({ id, url });
    });
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, 'exit');
    if (this.#child.connected) this.#child.disconnect();
    await ended;
  }
}
