/**
 * What a peer costs that has nothing to do, and how long one takes from `join` to its first training step: real
 * processes with the embedded base on loopback. Linux only.   npm run bench:peer -- --seconds 60 --joins 3
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { statusReportSchema, type StatusReport } from '../node/status.js';

const MAIN = fileURLToPath(new URL('../node/main.js', import.meta.url));
const DATA = fileURLToPath(
  new URL('../../examples/three-offices/data/clinic.jsonl', import.meta.url),
);

/** Members of the run; each is connected to all others. */
const PEERS = 4;

/** Longest wait for anything. */
const DEADLINE_MS = 180_000;
const POLL_MS = 20;

/** Ticks of /proc/PID/stat in a second: USER_HZ, the same on all architectures that Node runs on. */
const TICKS = 100;

const { values } = parseArgs({
  options: {
    /** How long idle peers are watched. */
    seconds: { type: 'string', default: '60' },
    /** Peers that join one after another. */
    joins: { type: 'string', default: '3' },
  },
});

const dir = mkdtempSync(join(tmpdir(), 'murmurate-peer-'));
const members: Member[] = [];
let started = 0;

/** One peer as a process of its own. */
class Member {
  readonly #child: ChildProcess;
  readonly startMs = performance.now();
  #output = '';
  #errors = '';

  constructor(command: readonly string[]) {
    const own = ['--dir', join(dir, `peer-${started++}`), '--data', DATA, '--threads', '1'];
    const network = ['--listen', '/ip4/127.0.0.1/tcp/0', '--no-mdns', '--device', 'cpu'];
    const args = [MAIN, ...command, ...own, ...network];
    this.#child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#child.stdout?.setEncoding('utf8').on('data', (text: string) => (this.#output += text));
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => (this.#errors += text));
    members.push(this);
  }

  /** The value that `name` has in what it printed at its start. */
  fact(name: 'address' | 'status'): Promise<string> {
    return until(`the ${name} of a peer`, () => {
      if (this.#child.exitCode !== null)
        throw new RangeError(`a peer ended early: ${this.#errors}`);
      return new RegExp(`^${name} +(\\S+)$`, 'm').exec(this.#output)?.[1] ?? null;
    });
  }

  async when(what: string, condition: (report: StatusReport) => boolean): Promise<StatusReport> {
    const url = await this.fact('status');
    return until(what, async () => {
      const report = statusReportSchema.parse(await (await fetch(`${url}/status`)).json());
      return condition(report) ? report : null;
    });
  }

  /** CPU time of the process and its children so far, in seconds. */
  cpuSeconds(): number {
    const pid = this.#child.pid ?? 0;
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8');
    const pids = [pid, ...children.split(' ').filter(Boolean).map(Number)];
    return pids.reduce((sum, each) => sum + cpuTicks(each) / TICKS, 0);
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, 'close');
    this.#child.kill('SIGINT');
    await ended;
  }
}

/** User and system time: fields 14 and 15, counted from behind the name, which may hold anything. */
function cpuTicks(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return Number(fields[11]) + Number(fields[12]);
}

async function until<T>(what: string, probe: () => T | null | Promise<T | null>): Promise<T> {
  const endMs = performance.now() + DEADLINE_MS;
  for (;;) {
    const value = await probe();
    if (value !== null) return value;
    if (performance.now() > endMs) throw new RangeError(`not in ${DEADLINE_MS} ms: ${what}`);
    await sleep(POLL_MS);
  }
}

async function stopAll(): Promise<void> {
  await Promise.all(members.splice(0).map((member) => member.stop()));
}

/** Peers that have finished a short run and stay to serve it. */
async function measureIdle(seconds: number): Promise<void> {
  const schedule = ['--epochs', '2', '--epoch-seconds', '20', '--start-in', '30', '--steps', '2'];
  const founder = new Member(['start', ...schedule]);
  const address = await founder.fact('address');
  for (let i = 1; i < PEERS; i++) new Member(['join', address]);
  for (const member of members) {
    await member.when('a finished run and all members', ({ run, peers }) => {
      const connected = peers.filter((peer) => peer.address !== null);
      return run.state === 'finished' && connected.length === PEERS - 1;
    });
  }
  const before = members.map((member) => member.cpuSeconds());
  const startMs = performance.now();
  await sleep(1000 * seconds);
  const passed = (performance.now() - startMs) / 1000;
  const shares = members.map((member, i) => (member.cpuSeconds() - (before[i] ?? 0)) / passed);
  const percent = shares.map((share) => `${(100 * share).toFixed(2)} %`).join(', ');
  console.log(
    `idle, ${PEERS - 1} members connected, over ${passed.toFixed(0)} s: ${percent} of a core`,
  );
}

/** Peers that join a run under way, each with its own model check, first sync and training process. */
async function measureJoins(count: number): Promise<void> {
  const founder = new Member(['start', '--epochs', '200', '--epoch-seconds', '10']);
  const address = await founder.fact('address');
  await founder.when('a first update', ({ adapter }) => adapter.updates > 0);
  for (let i = 0; i < count; i++) {
    const member = new Member(['join', address]);
    await member.fact('status');
    const upMs = performance.now() - member.startMs;
    const report = await member.when('a training step', ({ training }) => training.step > 0);
    const stepMs = performance.now() - member.startMs;
    const { updates } = report.adapter;
    console.log(
      `join: up after ${(upMs / 1000).toFixed(1)} s, first step after ${(stepMs / 1000).toFixed(1)} s, ` +
        `with ${updates} updates`,
    );
    await members.pop()?.stop();
  }
}

try {
  await measureIdle(Number(values.seconds));
  await stopAll();
  await measureJoins(Number(values.joins));
} finally {
  await stopAll();
  rmSync(dir, { recursive: true });
}
