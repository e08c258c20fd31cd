/** One peer on a machine of its own, with its line, its clock and its disk, and everything that can befall it. */
import { cp, mkdir, open, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf } from '../../node/files.js';
import { statusReportSchema, type StatusReport } from '../../node/status.js';
import { CommandLine } from '../net/command-line.js';
import type { Link, Machine } from '../netns/namespaces.js';
import type { Attendant } from './attendant-client.js';
import { clockPrefix } from './fake-clock.js';

const STATUS_PORT = 8080;

/** What every peer is started with; one thread, for many share the machine. */
const OPTIONS = ['--threads', '1', '--device', 'cpu', '--http', String(STATUS_PORT)];

/** Lines of private text of one peer. */
const LINES = 40;

/** One write of the file that fills a disk. */
const FILLER_BYTES = 256 * 1024;

/** Why a peer does not start while its disk is full. */
const NO_ROOM = 'the disk is full; free some space';

export type SiteState = 'absent' | 'running' | 'frozen' | 'down';

export interface SiteInit {
  index: number;
  machine: Machine;
  link: Link;
  attendant: Attendant;
  /** Data directory of the peer and its private text; may be a mount. */
  dir: string;
  /** Its multiaddr without its peer id. */
  listen: string;
  offsetMs: number;
}

export class Site {
  readonly index: number;
  readonly link: Link;
  readonly dir: string;
  readonly listen: string;
  /** Its clock minus the true time, in ms, from its next start on. */
  offsetMs: number;
  /** Where others reach it: known from its first answer on. */
  address: string | null = null;
  /** Processes of it that were killed. */
  readonly #ended: CommandLine[] = [];
  readonly #machine: Machine;
  readonly #attendant: Attendant;
  #args: readonly string[] = [];
  #command: CommandLine | null = null;
  #state: SiteState = 'absent';

  constructor({ index, machine, link, attendant, dir, listen, offsetMs }: SiteInit) {
    this.index = index;
    this.link = link;
    this.dir = dir;
    this.listen = listen;
    this.offsetMs = offsetMs;
    this.#machine = machine;
    this.#attendant = attendant;
  }

  get state(): SiteState {
    return this.#state;
  }

  /** All processes that ran here, the living one last. */
  commands(): CommandLine[] {
    return this.#command === null ? [...this.#ended] : [...this.#ended, this.#command];
  }

  /** Where the peer keeps its things. */
  get dataDirectory(): string {
    return join(this.dir, 'peer');
  }

  /** Writes the private text; `verb` is start or join with what is its own. */
  async prepare(verb: readonly string[]): Promise<void> {
    await mkdir(this.dir, { recursive: true });
    const text = join(this.dir, 'data.jsonl');
    const line = (i: number): string =>
      JSON.stringify({
        prompt: `${this.index}, ${i}?`,
        completion: ` shelf ${i * 7 + this.index}`,
      });
    await writeFile(text, `${Array.from({ length: LINES }, (_, i) => line(i)).join('\n')}\n`);
    const own = ['--dir', this.dataDirectory, '--data', text, '--listen', this.listen];
    this.#args = [...verb, ...own, ...OPTIONS];
  }

  /** The same command each time: the first one founds or joins, later ones resume. */
  launch(): void {
    const prefix = [...this.#machine.prefix, ...clockPrefix(this.offsetMs)];
    this.#command = new CommandLine(this.#args, { prefix });
    this.#state = 'running';
  }

  /** kill -9 of the peer alone: its training process has to notice. */
  async kill(): Promise<void> {
    if (this.#command === null) return;
    this.#command.kill('SIGKILL');
    await this.#command.ended();
    this.#ended.push(this.#command);
    this.#command = null;
    this.#state = 'down';
  }

  /** kill -9 of its training process, also of one that is opening the model; nothing when there is none at the moment. */
  async killTrainer(): Promise<void> {
    const own = this.#command?.pid;
    for (const pid of await this.processes()) if (pid !== own) signal(pid, 'SIGKILL');
  }

  async freeze(): Promise<void> {
    for (const pid of await this.processes()) signal(pid, 'SIGSTOP');
    this.#state = 'frozen';
  }

  async thaw(): Promise<void> {
    for (const pid of await this.processes()) signal(pid, 'SIGCONT');
    this.#state = 'running';
  }

  /** Copies its data directory; the peer is down. */
  async backUp(): Promise<void> {
    await rm(this.#backup, { recursive: true, force: true });
    await cp(this.dataDirectory, this.#backup, { recursive: true, preserveTimestamps: true });
  }

  /** Puts the copy in the place of its data directory; the peer is down. */
  async putBack(): Promise<void> {
    await rm(this.dataDirectory, { recursive: true, force: true });
    await cp(this.#backup, this.dataDirectory, { recursive: true, preserveTimestamps: true });
  }

  /** Hears nothing any more of what comes from these addresses. */
  async deafen(addresses: readonly string[]): Promise<void> {
    const lines = [
      'add table ip deaf',
      'add chain ip deaf in { type filter hook input priority -150; }',
      `add rule ip deaf in ip saddr { ${addresses.join(', ')} } drop`,
    ];
    await this.#machine.run('nft', lines.join('; '));
  }

  async hearAll(): Promise<void> {
    // Of two peers of such a fault one hears everything all the while.
    await this.#machine.run('nft', 'add table ip deaf; delete table ip deaf');
  }

  /** Leaves no free byte on its disk. */
  async fillDisk(): Promise<void> {
    const file = await open(this.#filler, 'w');
    try {
      for (let bytes = FILLER_BYTES; bytes >= 1;) {
        try {
          await file.write(new Uint8Array(bytes));
        } catch (error) {
          if (errnoOf(error) !== 'ENOSPC') throw error;
          bytes = Math.floor(bytes / 2);
        }
      }
    } finally {
      await file.close();
    }
  }

  /** A peer does not start on a full disk and says so: it is started again, as what supervises it would do. */
  async freeDisk(): Promise<void> {
    await rm(this.#filler, { force: true });
    const isRefused = this.#command?.exit === 1 && this.#command.stderr.includes(NO_ROOM);
    if (isRefused) this.launch();
  }

  /** What its status server says; null when it does not answer. */
  async status(): Promise<StatusReport | null> {
    const text = await this.#attendant.ask(`http://127.0.0.1:${STATUS_PORT}/status`);
    if (text === null) return null;
    const report = statusReportSchema.parse(JSON.parse(text));
    this.address = report.addresses[0] ?? null;
    return report;
  }

  /** Ids of the peer and its training process. */
  async processes(): Promise<number[]> {
    const pids = await this.#machine.processes();
    return pids.filter((pid) => pid !== this.#attendant.pid);
  }

  /** As Ctrl-C does; resolves with the exit code. */
  async interrupt(): Promise<number | NodeJS.Signals> {
    if (this.#command === null) return 0;
    this.#command.kill('SIGINT');
    return this.#command.ended();
  }

  async stopAttendant(): Promise<void> {
    await this.#attendant.stop();
  }

  /** Names of files that the store keeps aside because they were damaged. */
  async damagedFiles(): Promise<string[]> {
    return (await readdir(this.dataDirectory)).filter((name) => name.endsWith('.damaged'));
  }

  get #backup(): string {
    return `${this.dir}.backup`;
  }

  get #filler(): string {
    return join(this.dir, 'filler');
  }
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    // It has just ended by itself.
    if (errnoOf(error) !== 'ESRCH') throw error;
  }
}
