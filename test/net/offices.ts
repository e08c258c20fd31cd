/** A closed run of real peers that seal often, for tests: tiny steps, one data file, directories side by side. */
import { cp, mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { StatusReport } from '../../node/status.js';
import { CommandLine, until } from './command-line.js';

const PEER = ['--listen', '/ip4/127.0.0.1/tcp/0', '--threads', '1', '--no-mdns'];

export class Offices {
  readonly #place: string;
  readonly #started: CommandLine[] = [];

  private constructor(place: string) {
    this.#place = place;
  }

  static async open(name: string): Promise<Offices> {
    const offices = new Offices(await mkdtemp(join(tmpdir(), `murmurate-${name}-`)));
    const lines = Array.from({ length: 40 }, (_, i) =>
      JSON.stringify({ prompt: `number ${i}?`, completion: ` answer ${i * 7}` }),
    );
    await writeFile(join(offices.#place, 'data.jsonl'), `${lines.join('\n')}\n`);
    return offices;
  }

  async close(): Promise<void> {
    await Promise.all(this.#started.map((command) => command.dispose()));
    await rm(this.#place, { recursive: true, force: true });
  }

  dirOf(name: string): string {
    return join(this.#place, name);
  }

  /** Starts the peer of one directory with `start ...` or `join ...`. */
  launch(name: string, ...args: string[]): CommandLine {
    const files = ['--dir', this.dirOf(name), '--data', join(this.#place, 'data.jsonl')];
    const command = new CommandLine([...args, ...files, ...PEER]);
    this.#started.push(command);
    return command;
  }

  /** Runs a command on one directory that ends by itself; returns what it printed. */
  async run(name: string, ...args: string[]): Promise<string> {
    const command = await CommandLine.run(...args, '--dir', this.dirOf(name));
    if (command.exit !== 0) throw new Error(`${args.join(' ')}: ${command.output()}`);
    return command.stdout;
  }

  /** Makes the keys of these directories, in order. */
  async peerIds(...names: string[]): Promise<string[]> {
    const lines = await Promise.all(names.map((name) => this.run(name, 'peer-id')));
    return lines.map((line) => line.trim().split(/\s+/).at(-1) ?? '');
  }

  /** A copy of the whole data directory; what was at `to` goes. The peer of neither runs. */
  async copy(from: string, to: string): Promise<void> {
    await rm(this.dirOf(to), { recursive: true, force: true });
    await cp(this.dirOf(from), this.dirOf(to), { recursive: true });
  }

  async logBytes(name: string): Promise<number> {
    return (await stat(join(this.dirOf(name), 'log.bin'))).size;
  }
}

/** `murmurate start` of a run that `allow` (and the founder) may join and that seals every second epoch. */
export function sealingRun(
  epochs: number,
  epochSeconds: number,
  allow: readonly string[],
): string[] {
  return [
    ...['start', '--name', 'offices', '--epochs', String(epochs), '--start-in', '1'],
    ...['--epoch-seconds', String(epochSeconds), '--steps', '2', '--batch-size', '2'],
    ...['--sequence-length', '16', '--seal-every', '2', '--seal-after', '1'],
    ...['--allow', ...allow],
  ];
}

export async function killed(peer: CommandLine): Promise<void> {
  peer.kill('SIGKILL');
  await peer.ended();
}

/** Updates of `author` in the adapter of `peer`, as it says. */
export function updatesOf({ peers }: StatusReport, author: string): number {
  return peers.find(({ peerId }) => peerId === author)?.updatesAccepted ?? 0;
}

/** Resolves when all peers say at one time that they have the same adapter, and `condition` holds for each. */
export async function oneAdapter(
  what: string,
  peers: readonly CommandLine[],
  condition: (report: StatusReport) => boolean,
): Promise<StatusReport[]> {
  let reports: StatusReport[] = [];
  await until(
    what,
    async () => {
      reports = await Promise.all(peers.map((peer) => peer.status('a status', () => true)));
      const hashes = new Set(reports.map(({ adapter }) => adapter.sha256));
      return hashes.size === 1 && reports.every(condition) ? true : null;
    },
    () =>
      JSON.stringify(
        reports.map(({ run, adapter, attention, peers: others }) => ({
          ...{ run: [run.epoch, run.state], adapter, attention },
          others: others.map(({ address, updatesAccepted }) => [address, updatesAccepted]),
        })),
        null,
        1,
      ),
  );
  return reports;
}
