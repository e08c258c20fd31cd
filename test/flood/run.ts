/** One peer under attack: a real process with its memory watched, a member beside it, and processes that do it harm. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { StatusReport } from '../../node/status.js';
import { CommandLine, DEADLINE_MS } from '../net/command-line.js';

const isSource = import.meta.url.endsWith('.ts');
const ATTACKER = fileURLToPath(new URL(`./attacker.${isSource ? 'ts' : 'js'}`, import.meta.url));
const LOADER = isSource ? ['--import', import.meta.resolve('tsx')] : [];
const DATA = fileURLToPath(
  new URL(`../../${isSource ? '' : '../'}examples/three-offices/data`, import.meta.url),
);

/** Between two looks at the victim's memory, in ms. */
const SAMPLE_MS = 250;

/** How long memory is watched before the attack begins, in ms. */
const CALM_MS = 8_000;

/**
 * What an attack may add to the memory of a peer, in bytes: RESIDENT_GROWTH_MAX is stated in docs/LIMITS.md.
 */
export const RESIDENT_GROWTH_MAX = 256 * 1024 * 1024;

/** Less than this in a flood of any length shows nothing, in bytes of gossip received. */
const FLOOD_BYTES_MIN = 1_000_000;

export interface FloodReport {
  /** Resident bytes of the peer's process: most before the attack, most during it, when it had ended. */
  before: number;
  peak: number;
  /** Updates in the victim's adapter when the attack began and when it ended. */
  updatesBefore: number;
  updatesAfter: number;
  /** Of those, by the honest member. */
  memberBefore: number;
  memberAfter: number;
  /** Bytes that the victim received by gossip during the attack. */
  gossipBytes: number;
}

/** Bytes that a process has resident now. Linux only. */
async function residentOf(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return 1024 * Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]);
}

/** The most that `pid` has resident within `forMs`. */
async function peakOf(pid: number, forMs: number, signal: AbortSignal): Promise<number> {
  const endMs = performance.now() + forMs;
  let peak = 0;
  while (performance.now() < endMs && !signal.aborted) {
    peak = Math.max(peak, await residentOf(pid));
    await delay(SAMPLE_MS);
  }
  return peak;
}

/** An attacker and a promise of its having begun: the time of the attack is not that of its start. */
function attack(mode: 'flood' | 'mute', address: string): [ChildProcess, Promise<unknown>] {
  const child = spawn(process.execPath, [...LOADER, ATTACKER, mode, address], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const signal = AbortSignal.timeout(DEADLINE_MS);
  return [child, once(child.stdout, 'data', { signal })];
}

/** Attacks a peer for `seconds`, with its files in `dir`. */
export async function flood(
  dir: string,
  seconds: number,
  signal: AbortSignal,
): Promise<FloodReport> {
  const small = ['--sequence-length', '32', '--batch-size', '2', '--steps', '4'];
  const schedule = ['--epochs', '400', '--epoch-seconds', '3', '--start-in', '2'];
  const launch = (name: string, args: readonly string[]): CommandLine =>
    new CommandLine([
      ...args,
      ...['--dir', path.join(dir, name), '--listen', '/ip4/127.0.0.1/tcp/0', '--threads', '1'],
    ]);
  const data = (office: string): string[] => ['--data', path.join(DATA, `${office}.jsonl`)];
  const victim = launch('victim', ['start', ...small, ...schedule, ...data('clinic')]);
  const commands = [victim];
  const attackers: ChildProcess[] = [];
  try {
    const { address } = await victim.facts();
    const member = launch('member', ['join', address, ...data('machine-shop')]);
    commands.push(member);
    const { peerId } = await member.facts();
    await victim.status(
      'updates of both',
      ({ adapter, peers }) =>
        adapter.updates >= 4 && peers.some((each) => each.updatesAccepted >= 2),
    );
    const countOf = ({ peers }: StatusReport): number =>
      peers.find((each) => each.peerId === peerId)?.updatesAccepted ?? 0;
    const before = await peakOf(victim.pid, CALM_MS, signal);
    const calm = await victim.status('a status', () => true);
    const begun = (['flood', 'mute'] as const).map((mode) => attack(mode, address));
    attackers.push(...begun.map(([child]) => child));
    await Promise.all(begun.map(([, has]) => has));
    const peak = await peakOf(victim.pid, 1000 * seconds, signal);
    const after = await victim.status('a status', () => true);
    return {
      before,
      peak,
      updatesBefore: calm.adapter.updates,
      updatesAfter: after.adapter.updates,
      memberBefore: countOf(calm),
      memberAfter: countOf(after),
      gossipBytes: (after.traffic.bytesIn['gossip'] ?? 0) - (calm.traffic.bytesIn['gossip'] ?? 0),
    };
  } finally {
    for (const attacker of attackers) attacker.kill('SIGKILL');
    await Promise.all(commands.map((command) => command.dispose()));
  }
}

/** What a report shows that must not be, in sentences. */
export function problemsOf(report: FloodReport): string[] {
  const { before, peak, updatesBefore, updatesAfter, memberBefore, memberAfter } = report;
  const problems: string[] = [];
  if (peak - before > RESIDENT_GROWTH_MAX)
    problems.push(`memory grew by ${peak - before} bytes; ${RESIDENT_GROWTH_MAX} are allowed`);
  if (report.gossipBytes < FLOOD_BYTES_MIN)
    problems.push(`only ${report.gossipBytes} bytes of gossip reached the peer: that is no flood`);
  if (updatesAfter <= updatesBefore) problems.push('the peer made no epochs during the flood');
  if (memberAfter <= memberBefore) problems.push('nothing of the honest member came through');
  return problems;
}
