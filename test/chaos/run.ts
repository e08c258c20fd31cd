/** One chaos run from start to end: the swarm, the faults of the plan, and what must hold afterwards. */
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { runCommand } from '../netns/namespaces.js';
import { allComplaints, storeProblems } from './audit.js';
import { startGuard } from './guard.js';
import { Observer } from './observer.js';
import { planLines } from './report.js';
import { drawPlan, type Fault, type Plan } from './plan.js';
import { Swarm } from './swarm.js';

const EPOCH_SECONDS = 5;

/** The run goes on for so long beside the faults: all peers start at its beginning. */
const START_MS = 25_000;

/** When the last epoch is over for the slowest clock, one adapter must be everywhere within this, in ms. */
export const SETTLE_MS_MAX = 60_000;

const LINE_INTERVAL_MS = 10_000;

export interface ChaosOptions {
  seed: number;
  peers: number;
  durationMs: number;
  /** Gets each line of the timeline. */
  say: (line: string) => void;
  signal: AbortSignal;
}

export interface ChaosOutcome {
  plan: Plan;
  /** Empty when all held. */
  problems: string[];
  observer: Observer;
  /** Updates of each peer that others saw, by index: see Observer. */
  updates: number[];
  /** Updates in the last adapter. */
  total: number;
  sha256: string;
  /** From the end of the last epoch to one adapter, in ms. */
  settleMs: number;
}

/** Cleans up in every case; rejects when the swarm could not be built, or when `signal` aborts. */
export async function runChaos(options: ChaosOptions): Promise<ChaosOutcome> {
  const scratch = await mkdtemp(join(tmpdir(), 'murmurate-chaos-'));
  const label = 'chaos';
  const guard = startGuard(`${label}-${process.pid}-`, scratch);
  try {
    return await inScratch(options, label, scratch);
  } finally {
    await guard.cleanUp();
    const left = await runCommand('ip', 'netns', 'list');
    if (left.includes(`${label}-${process.pid}-`)) options.say(`left behind: ${left}`);
  }
}

async function inScratch(
  { seed, peers, durationMs, say, signal }: ChaosOptions,
  label: string,
  scratch: string,
): Promise<ChaosOutcome> {
  const epochMs = EPOCH_SECONDS * 1000;
  const plan = drawPlan(seed, peers, durationMs, epochMs);
  for (const line of planLines(plan)) say(line);
  const epochs = Math.ceil((durationMs + START_MS) / epochMs);
  const { places, diskPeer } = plan;
  const swarm = new Swarm({
    label,
    scratch,
    places,
    diskPeer,
    epochs,
    epochSeconds: EPOCH_SECONDS,
  });
  await swarm.found();
  const newcomers = plan.faults.filter(({ kind }) => kind === 'newcomer').flatMap((f) => f.peers);
  const first = swarm.sites.filter(({ index }) => index > 0 && !newcomers.includes(index));
  for (const { index } of first) await swarm.join(index, 'bootstrap');
  for (const site of first) await swarm.isUp(site);
  const observer = new Observer(swarm);
  observer.start();
  try {
    await play(plan, swarm, observer, say, signal);
    const { settleMs, problems } = await settle(swarm, observer, say, signal);
    await observer.stop();
    const outcome = { plan, observer, settleMs, ...sums(observer) };
    return { ...outcome, problems: [...problems, ...(await stop(swarm, outcome))] };
  } finally {
    await observer.stop();
  }
}

/** Does at its time what the plan says, and a line of the timeline every ten seconds. */
async function play(
  plan: Plan,
  swarm: Swarm,
  observer: Observer,
  say: (line: string) => void,
  signal: AbortSignal,
): Promise<void> {
  const beginMs = performance.now();
  const steps = plan.faults.flatMap((fault) => [
    { atMs: fault.atMs, act: () => begin(fault, swarm, observer) },
    { atMs: fault.untilMs, act: () => end(fault, swarm, observer) },
  ]);
  for (let atMs = LINE_INTERVAL_MS; atMs <= plan.durationMs; atMs += LINE_INTERVAL_MS) {
    steps.push({ atMs, act: async () => say(`${clock(atMs)}  ${observer.line()}`) });
  }
  steps.push({ atMs: plan.durationMs, act: async () => undefined });
  // Stable: a fault of no length begins before it ends.
  for (const { atMs, act } of steps.sort((a, b) => a.atMs - b.atMs)) {
    const waitMs = beginMs + atMs - performance.now();
    if (waitMs > 0) await delay(waitMs, undefined, { signal });
    signal.throwIfAborted();
    await act();
  }
}

async function begin(fault: Fault, swarm: Swarm, observer: Observer): Promise<void> {
  observer.began(fault);
  const { kind, peers, offsetMs } = fault;
  if (kind === 'bootstrap') return swarm.killBootstrap();
  if (kind === 'partition') return swarm.partition(peers);
  if (kind === 'liar') return swarm.startLiar();
  if (kind === 'one-way') return swarm.deafen(peers);
  for (const site of peers.map((index) => swarm.site(index))) {
    switch (kind) {
      case 'clock':
        site.offsetMs = offsetMs;
        await site.kill();
        break;
      case 'kill':
        await site.kill();
        break;
      case 'trainer':
        await site.killTrainer();
        break;
      case 'freeze':
        await site.freeze();
        break;
      case 'disk-full':
        await site.fillDisk();
        break;
      case 'rollback':
        await site.kill();
        await site.backUp();
        site.launch();
        break;
      case 'newcomer':
        await swarm.join(site.index, 'peer');
        break;
    }
  }
}

async function end(fault: Fault, swarm: Swarm, observer: Observer): Promise<void> {
  const { kind, peers } = fault;
  if (kind === 'partition') await swarm.heal();
  if (kind === 'liar') await swarm.stopLiar();
  for (const site of peers.map((index) => swarm.site(index))) {
    if (kind === 'kill' || kind === 'clock') site.launch();
    if (kind === 'freeze') await site.thaw();
    if (kind === 'disk-full') await site.freeDisk();
    if (kind === 'one-way') await site.hearAll();
    if (kind !== 'rollback') continue;
    await site.kill();
    await site.putBack();
    site.launch();
  }
  observer.ended(fault);
}

/** Waits until all peers are at the end of the run with one adapter. */
async function settle(
  swarm: Swarm,
  observer: Observer,
  say: (line: string) => void,
  signal: AbortSignal,
): Promise<{ settleMs: number; problems: string[] }> {
  const isFinished = (): boolean =>
    swarm.sites.every(({ index }) => observer.reports[index]?.run.state === 'finished');
  // Clocks that are behind, a busy machine: the last epoch may be a while away.
  const endMs = performance.now() + START_MS + SETTLE_MS_MAX;
  while (!isFinished() && performance.now() < endMs) await delay(250, undefined, { signal });
  const finishedMs = performance.now();
  while (!observer.isOver && performance.now() < finishedMs + SETTLE_MS_MAX) {
    await delay(250, undefined, { signal });
  }
  const settleMs = performance.now() - finishedMs;
  say(`end   ${observer.line()}`);
  if (observer.isOver) return { settleMs, problems: [] };
  const said = swarm.sites.map(({ index, state }) => {
    const report = observer.reports[index];
    const what =
      report == null
        ? `no answer (${state})\n${swarm.site(index).commands().at(-1)?.output().slice(-2000)}`
        : `${report.run.state} ${JSON.stringify(report.adapter)} ${report.attention.join(' ')}`;
    return `  peer ${index}: ${what}`;
  });
  return {
    settleMs,
    problems: [`not one adapter ${SETTLE_MS_MAX / 1000} s after the end:\n${said.join('\n')}`],
  };
}

/** Updates of each peer as others saw them, by index, and what the first peer ended with. */
function sums(observer: Observer): Pick<ChaosOutcome, 'updates' | 'total' | 'sha256'> {
  const { reports } = observer;
  const adapter = reports[0]?.adapter;
  return {
    updates: reports.map((report) => observer.updatesSeen(report?.peerId ?? '')),
    total: adapter?.updates ?? 0,
    sha256: adapter?.sha256 ?? '',
  };
}

/** Stops all peers as Ctrl-C does and looks at what they leave behind. */
async function stop(
  swarm: Swarm,
  { updates, total, sha256 }: Pick<ChaosOutcome, 'updates' | 'total' | 'sha256'>,
): Promise<string[]> {
  const problems: string[] = [];
  const codes = await Promise.all(swarm.sites.map((site) => site.interrupt()));
  for (const [i, code] of codes.entries()) {
    if (code !== 0) problems.push(`peer ${i} ended with ${code} after Ctrl-C`);
  }
  for (const site of swarm.sites) {
    const left = await site.processes();
    if (left.length > 0) problems.push(`peer ${site.index} left processes ${left.join(', ')}`);
    problems.push(...(await storeProblems(site, { sha256, updates: total })));
  }
  for (const [i, count] of updates.entries()) {
    if (count === 0) problems.push(`peer ${i} has not contributed`);
  }
  return [...problems, ...allComplaints(swarm.commands())];
}

/** "1:05" for 65 s. */
export function clock(ms: number): string {
  const seconds = Math.round(ms / 1000);
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`;
}
