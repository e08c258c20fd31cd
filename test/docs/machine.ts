/** Machines for the commands of a document: a home directory each, with private text in it, and `murmurate` on the path. */
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { VERBS } from '../../node/cli/verbs.js';
import { EMBEDDED_MODEL_DIRECTORY, PACKAGE_DIRECTORY } from '../../node/version.js';
import { until } from '../net/command-line.js';
import { missingLine, type Command } from './console.js';

const MAIN = path.join(PACKAGE_DIRECTORY, 'dist/node/main.js');
const OFFICES = path.join(PACKAGE_DIRECTORY, 'examples/three-offices/data');

/** What the documents call private text, and what it is here; a few lines, for speed. */
const TEXTS = {
  'notes.jsonl': 'clinic',
  'clinic.jsonl': 'clinic',
  'letters.jsonl': 'law-office',
  'law.jsonl': 'law-office',
} as const;
const LINES = 60;

/** What a run has instead of the defaults where a command says nothing: loopback, and as little work as possible. */
const ENVIRONMENT = {
  MURMURATE_LISTEN: '/ip4/127.0.0.1/tcp/0',
  MURMURATE_NO_MDNS: 'true',
  MURMURATE_DEVICE: 'cpu',
  MURMURATE_THREADS: '1',
  MURMURATE_EPOCHS: '60',
  MURMURATE_START_IN: '1',
  MURMURATE_EPOCH_SECONDS: '2',
  MURMURATE_SEQUENCE_LENGTH: '48',
  MURMURATE_BATCH_SIZE: '2',
  MURMURATE_STEPS: '2',
} as const;

const STAYING = new Set(VERBS.filter(({ stays }) => stays === true).map(({ name }) => name));

/** What commands of one document left for later ones, on whatever machine. */
export interface Clipboard {
  address: string | null;
  invite: string | null;
  peerId: string | null;
  /** Content of swarm.key, which people hand on. */
  swarmKey: Uint8Array | null;
}

export function emptyClipboard(): Clipboard {
  return { address: null, invite: null, peerId: null, swarmKey: null };
}

/** A command that was started; it may go on running. */
interface Running {
  child: ChildProcess;
  output: string;
  exit: number | NodeJS.Signals | null;
}

export class Machine {
  readonly #home: string;
  readonly #clipboard: Clipboard;
  readonly #hubUrl: string;
  readonly #running: Running[] = [];

  private constructor(home: string, clipboard: Clipboard, hubUrl: string) {
    this.#home = home;
    this.#clipboard = clipboard;
    this.#hubUrl = hubUrl;
  }

  /** A new machine with its home directory at `home`; `hubUrl`: where it looks for models by name. */
  static async create(home: string, clipboard: Clipboard, hubUrl: string): Promise<Machine> {
    const bin = path.join(home, '.bin');
    await mkdir(bin, { recursive: true });
    const program = `exec "${process.execPath}" "${MAIN}"`;
    await writeFile(path.join(bin, 'murmurate'), `#!/bin/sh\n${program} "$@"\n`, { mode: 0o755 });
    await writeFile(path.join(bin, 'npx'), '#!/bin/sh\nexec "$@"\n', { mode: 0o755 });
    for (const [name, office] of Object.entries(TEXTS)) {
      const lines = (await readFile(path.join(OFFICES, `${office}.jsonl`), 'utf8')).split('\n');
      await writeFile(path.join(home, name), `${lines.slice(0, LINES).join('\n')}\n`);
    }
    const rows = Array.from(
      { length: LINES },
      (_, i) => `"Who has key ${i}? ","Anna, in room ${i}."`,
    );
    await writeFile(path.join(home, 'keys.csv'), `prompt,completion\n${rows.join('\n')}\n`);
    await mkdir(path.join(home, 'path/to'), { recursive: true });
    await symlink(EMBEDDED_MODEL_DIRECTORY, path.join(home, 'path/to/model'));
    return new Machine(home, clipboard, hubUrl);
  }

  /** Types `command`, and waits for its end, or, where it stays, until it printed what is shown. */
  async type(command: Command): Promise<void> {
    const text = this.#paste(command.text);
    const { swarmKey } = this.#clipboard;
    const keyFile = path.join(this.#home, 'swarm.key');
    if (swarmKey !== null && text.includes('swarm.key') && !existsSync(keyFile)) {
      await writeFile(keyFile, swarmKey, { mode: 0o600 });
    }
    const child = spawn('bash', ['-c', text], {
      cwd: this.#home,
      env: {
        ...{ PATH: `${path.join(this.#home, '.bin')}:${process.env.PATH}`, HOME: this.#home },
        ...{ HF_ENDPOINT: this.#hubUrl, ...ENVIRONMENT },
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const running: Running = { child, output: '', exit: null };
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (piece: string) => (running.output += piece));
    }
    child.once('close', (code, signal) => (running.exit = code ?? signal));
    this.#running.push(running);
    const verb = /murmurate ([\w-]+)/.exec(text)?.[1] ?? '';
    const isStaying = STAYING.has(verb) && !text.includes('--exit-when-finished');
    const isError = command.shown.some((line) => line.startsWith('error: '));
    // A peer is up when it has said where its status is, whether that is shown or not.
    const isPeer = isStaying && !isError && ['start', 'join'].includes(verb);
    const missing = (): string | null =>
      missingLine(command.shown, running.output) ??
      (isPeer ? missingLine(['status   http://127.0.0.1:40123'], running.output) : null);
    const said = (): string => `$ ${text}\n${running.output}\nnot printed: ${missing()}`;
    await until(
      `line ${command.line}`,
      () => running.exit !== null || (isStaying && !isError && missing() === null) || null,
      said,
    );
    assert.equal(missing(), null, said());
    if (isStaying && !isError) assert.equal(running.exit, null, said());
    else assert.equal(running.exit === 0, !isError, said());
    this.#copy(running.output);
    if (existsSync(keyFile)) this.#clipboard.swarmKey = await readFile(keyFile);
  }

  /** Ctrl-C for all that still runs. */
  async stop(): Promise<void> {
    const staying = this.#running.filter(({ exit }) => exit === null);
    for (const { child } of staying) child.kill('SIGINT');
    for (const running of staying) {
      await until(
        'the end after Ctrl-C',
        () => running.exit ?? null,
        () => running.output,
      );
      assert.equal(running.exit, 0, running.output);
    }
  }

  /** What was printed here or elsewhere takes the place of the examples' addresses and invites; all listen on loopback. */
  #paste(text: string): string {
    const { address, invite, peerId } = this.#clipboard;
    return text
      .replaceAll(/(?<= )(PEER|12D3KooW\w+\.\.\.)/g, peerId ?? 'PEER')
      .replaceAll(/\/ip4\/0\.0\.0\.0\/tcp\/\d+/g, ENVIRONMENT.MURMURATE_LISTEN)
      .replaceAll(/ADDRESS|\/ip4\/192\.0\.2\.\d+\/\S+/g, address ?? 'ADDRESS')
      .replaceAll(/INVITE|murmurate1\w+(\.\.\.)?/g, invite ?? 'INVITE');
  }

  #copy(output: string): void {
    const address = /^address +(\S+)$/m.exec(output)?.[1];
    const invite = /^(murmurate1\w+)$/m.exec(output)?.[1];
    const peerId = /^(12D3KooW\w+)$/m.exec(output)?.[1];
    if (peerId !== undefined) this.#clipboard.peerId = peerId;
    if (address !== undefined) this.#clipboard.address = address;
    if (invite !== undefined) this.#clipboard.invite = invite;
  }
}
