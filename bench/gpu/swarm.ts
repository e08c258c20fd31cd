/**
 * One part of bench/gpu: a bootstrap node and three peers, real processes that train on one device together, until all
 * have finished with one adapter. Its arguments: the device, and the epochs. Prints a SwarmResult as JSON.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

export interface SwarmResult {
  /** What each peer trains on, as it says itself. */
  readonly devices: readonly string[];
  readonly tokensPerSecond: readonly (number | null)[];
  /** The adapter of all of them. */
  readonly sha256: string;
  readonly updates: number;
  /** Held-out losses of the first peer, of the base and at the end. */
  readonly loss: { readonly base: number | null; readonly now: number | null };
}

interface Status {
  run: { state: string; epoch: number };
  adapter: { sha256: string; updates: number };
  training: { device: string; tokensPerSecond: number | null };
  heldOutLoss: { base: number | null; now: number | null };
}

const PEERS = ['a', 'b', 'c'] as const;
const POLL_MS = 250;
const LOOPBACK = ['--listen', '/ip4/127.0.0.1/tcp/0'];
const ADDRESS = /\/ip4\/127\.0\.0\.1\/tcp\/\d+\/p2p\/\w+/;
const COMMAND_LINE = join(import.meta.dirname, '..', '..', 'node', 'main.js');

const [device = 'cpu', epochs = '4'] = process.argv.slice(2);
const folder = mkdtempSync(join(tmpdir(), 'murmurate-gpu-swarm-'));
const children: ChildProcess[] = [];
let output = '';

/** Starts `murmurate ...args`; what it prints is kept for the error that may come. */
function murmurate(args: readonly string[]): ChildProcess {
  const child = spawn(process.execPath, [COMMAND_LINE, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  for (const stream of [child.stdout, child.stderr]) {
    stream
      .setEncoding('utf8')
      .on('data', (text: string) => (output = (output + text).slice(-20_000)));
  }
  children.push(child);
  return child;
}

/** `look` again and again until it finds something. Throws when a process has ended meanwhile. */
async function found<T>(look: () => Promise<T | null> | T | null): Promise<T> {
  for (;;) {
    const value = await look();
    if (value !== null) return value;
    if (children.some(({ exitCode }) => exitCode !== null)) {
      throw new Error(`a process ended: ${output.trim().split('\n').slice(-6).join(' | ')}`);
    }
    await delay(POLL_MS);
  }
}

function peerFlags(name: string): string[] {
  const dir = join(folder, name);
  const data = join(folder, `${name}.jsonl`);
  const line = (i: number): string =>
    JSON.stringify({
      text: `Peer ${name} writes line ${i}, and then ${(i * 7) % 13} more of them. `.repeat(4),
    });
  writeFileSync(data, Array.from({ length: 200 }, (_, i) => `${line(i)}\n`).join(''));
  return ['--dir', dir, '--data', data, '--http', '0', '--device', device, ...LOOPBACK];
}

async function statusOf(name: string): Promise<Status | null> {
  try {
    const [url = ''] = readFileSync(join(folder, name, 'http'), 'utf8').split('\n');
    const response = await fetch(new URL('/status', url.trim()), {
      signal: AbortSignal.timeout(5_000),
    });
    return response.ok ? ((await response.json()) as Status) : null;
  } catch {
    return null;
  }
}

async function statuses(): Promise<Status[] | null> {
  const all = await Promise.all(PEERS.map(statusOf));
  const known = all.filter((one) => one !== null);
  return known.length === PEERS.length ? known : null;
}

async function run(): Promise<SwarmResult> {
  mkdirSync(folder, { recursive: true });
  murmurate(['bootstrap', '--dir', join(folder, 'bootstrap'), ...LOOPBACK]);
  const bootstrap = await found(() => ADDRESS.exec(output)?.[0] ?? null);
  const settings = {
    ...{ '--name': 'gpu', '--seed': 'gpu', '--epochs': epochs, '--epoch-seconds': '12' },
    ...{ '--steps': '4', '--batch-size': '4', '--sequence-length': '64', '--start-in': '30' },
  };
  const flags = Object.entries(settings).flat();
  const [founder, ...others] = PEERS;
  murmurate(['start', ...peerFlags(founder), '--bootstrap', bootstrap, ...flags]);
  await found(() => statusOf(founder));
  for (const name of others) murmurate(['join', bootstrap, ...peerFlags(name)]);
  const last = await found(async () => {
    const all = await statuses();
    const [first] = all ?? [];
    const isOver = all?.every(
      ({ run, adapter }) => run.state === 'finished' && adapter.sha256 === first?.adapter.sha256,
    );
    return isOver ? all : null;
  });
  const [first] = last as [Status, ...Status[]];
  return {
    devices: last.map(({ training }) => training.device),
    tokensPerSecond: last.map(({ training }) => training.tokensPerSecond),
    ...{ sha256: first.adapter.sha256, updates: first.adapter.updates },
    loss: { base: first.heldOutLoss.base, now: first.heldOutLoss.now },
  };
}

try {
  console.log(JSON.stringify(await run()));
} catch (error) {
  console.error(error instanceof Error ? error.message : String(error));
  process.exitCode = 1;
} finally {
  for (const child of children) child.kill('SIGKILL');
  rmSync(folder, { recursive: true, force: true });
}
