/** What happens to a swarm in one chaos run, and when: a function of its seed alone, so that a run replays. */
import { Prng } from '../../protocol/prng.js';

/** Faults that come again and again; each at least once in every run. */
export const REPEATED_FAULTS = [
  /** kill -9 of the peer, and the same command again when it is over. */
  'kill',
  /** As kill, but the machine's clock has another offset afterwards. */
  'clock',
  /** kill -9 of the peer's training process; it must start a new one by itself. */
  'trainer',
  /** SIGSTOP of the peer and its training process, then SIGCONT: a laptop that sleeps. */
  'freeze',
  /** The switch falls in two: `peers` are one side, all others the other. */
  'partition',
  /** Of two peers the first does not hear the second, which hears it: a line that fails in one direction. */
  'one-way',
  /** The data directory is put back to what it was at the beginning of the fault: a backup, or a snapshot of a machine. */
  'rollback',
  /** The disk of the peer's data directory is full. */
  'disk-full',
] as const;

type RepeatedFault = (typeof REPEATED_FAULTS)[number];

/** Those, and three that happen once. */
export const FAULT_KINDS = [
  ...REPEATED_FAULTS,
  /** The bootstrap node dies for ever. */
  'bootstrap',
  /** The last peer joins late, by the address of another peer. */
  'newcomer',
  /** A member that lies takes part for a while (test/chaos/lying-member.ts). */
  'liar',
] as const;
export type FaultKind = (typeof FAULT_KINDS)[number];

export interface Fault {
  kind: FaultKind;
  /** From the moment when all first peers are up, in ms. */
  atMs: number;
  /** When it is mended; for what nobody mends, the moment itself. */
  untilMs: number;
  /** Indexes of the peers that it strikes. */
  peers: readonly number[];
  /** For "clock": the new offset in ms; 0 for the others. */
  offsetMs: number;
}

/** The machine and the line of one peer. */
export interface Place {
  /** Of its link, both ways, in Mbit/s. */
  rateMbit: number;
  /** Added to whatever it sends and receives, in ms each way. */
  delayMs: number;
  /** Its clock minus the true time, in ms. */
  offsetMs: number;
}

export interface Plan {
  seed: number;
  durationMs: number;
  places: readonly Place[];
  /** The peer whose data directory is a disk of its own. */
  diskPeer: number;
  /** By atMs. */
  faults: readonly Fault[];
}

const SLOW_MBIT = 5;
const FAST_MBIT = 200;
const DELAY_MS = 80;

/** Clocks are off by at most so many epochs. */
const OFFSET_EPOCHS_MAX = 1.5;

/** Nothing happens before and after, in ms: the swarm begins whole, and each fault ends in time. */
const QUIET_START_MS = 3_000;

/** A peer that was struck has so long to itself before the next fault strikes it, in ms. */
const PAUSE_MS = 3_000;

/** The bootstrap node lives for a minute, or a quarter of a shorter run. */
const BOOTSTRAP_LIFE_MS = 60_000;

/** Share of the run in which the lying member takes part. */
const LIAR_SHARE = 0.7;

/** Shortest and longest of each fault in ms; a run of less than five minutes has proportionally shorter ones. */
const LENGTH_MS: Readonly<Record<RepeatedFault, readonly [number, number]>> = {
  kill: [0, 20_000],
  clock: [0, 10_000],
  trainer: [0, 0],
  freeze: [2_000, 30_000],
  partition: [8_000, 45_000],
  'one-way': [8_000, 45_000],
  rollback: [8_000, 40_000],
  'disk-full': [8_000, 30_000],
};
const FULL_LENGTH_RUN_MS = 300_000;

/** In a run one repeated fault begins every so many ms, divided by the number of peers. */
const INTERVAL_MS_PER_PEER = 64_000;

/** Places tried for one fault until it clashes with no other. */
const TRIES = 50;

/** `peers`: 3 to 16; `durationMs`: at least 60 s, so that each fault fits. */
export function drawPlan(seed: number, peers: number, durationMs: number, epochMs: number): Plan {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setFloat64(0, seed);
  const random = new Prng(bytes, 'chaos');
  const offset = (): number =>
    Math.round((2 * random.nextFloat() - 1) * OFFSET_EPOCHS_MAX * epochMs);
  // A quarter of the peers, at least one, has a slow line, a long one, a wrong clock.
  const some = (): Set<number> =>
    new Set(random.permutation(peers).slice(0, Math.max(1, peers >>> 2)));
  const [slow, far, wrong] = [some(), some(), some()];
  const places = Array.from({ length: peers }, (_, i) => ({
    rateMbit: slow.has(i) ? SLOW_MBIT : FAST_MBIT,
    delayMs: far.has(i) ? DELAY_MS : 0,
    offsetMs: wrong.has(i) ? offset() : 0,
  }));
  const newcomer = peers - 1;
  const diskPeer = random.nextBelow(newcomer);
  const bootstrapMs = Math.min(BOOTSTRAP_LIFE_MS, durationMs / 4);
  const faults: Fault[] = [
    moment('bootstrap', bootstrapMs, []),
    moment('newcomer', Math.min(durationMs / 3, 1.5 * bootstrapMs), [newcomer]),
    // Gone well before the end: by then everybody has heard all that it said.
    { ...moment('liar', QUIET_START_MS, []), untilMs: LIAR_SHARE * durationMs },
  ];
  const count = Math.round((durationMs * peers) / INTERVAL_MS_PER_PEER);
  for (let i = 0; i < Math.max(count, REPEATED_FAULTS.length); i++) {
    // Each kind once, the long ones first while there is room; then any.
    const kind =
      REPEATED_FAULTS.toReversed()[i] ??
      REPEATED_FAULTS[random.nextBelow(REPEATED_FAULTS.length)] ??
      'kill';
    for (let tries = 0; tries < TRIES; tries++) {
      const fault = draw(kind, random, { peers, durationMs, diskPeer, offset });
      if (faults.some((other) => clash(fault, other))) continue;
      faults.push(fault);
      break;
    }
  }
  faults.sort((a, b) => a.atMs - b.atMs);
  return { seed, durationMs, places, diskPeer, faults };
}

function moment(kind: FaultKind, atMs: number, peers: readonly number[]): Fault {
  return { kind, atMs, untilMs: atMs, peers, offsetMs: 0 };
}

function draw(
  kind: RepeatedFault,
  random: Prng,
  run: { peers: number; durationMs: number; diskPeer: number; offset: () => number },
): Fault {
  const scale = Math.min(1, run.durationMs / FULL_LENGTH_RUN_MS);
  const [shortest, longest] = LENGTH_MS[kind];
  const lengthMs = (shortest + (longest - shortest) * random.nextFloat()) * scale;
  const latestMs = run.durationMs - lengthMs;
  const atMs = QUIET_START_MS + random.nextFloat() * (latestMs - QUIET_START_MS);
  return {
    kind,
    atMs: Math.round(atMs),
    untilMs: Math.round(atMs + lengthMs),
    peers: victims(kind, random, run),
    offsetMs: kind === 'clock' ? run.offset() : 0,
  };
}

function victims(
  kind: RepeatedFault,
  random: Prng,
  { peers, diskPeer }: { peers: number; diskPeer: number },
): readonly number[] {
  if (kind === 'disk-full') return [diskPeer];
  if (kind === 'one-way') return [...random.permutation(peers).slice(0, 2)];
  if (kind !== 'partition') return [random.nextBelow(peers)];
  // From one lonely peer to an even split.
  const size = 1 + random.nextBelow(peers >>> 1);
  return [...random.permutation(peers).slice(0, size)].sort((a, b) => a - b);
}

/** One partition at a time, and one other fault at a time for each peer. */
function clash(fault: Fault, other: Fault): boolean {
  const isLater = fault.atMs > other.untilMs + PAUSE_MS;
  const isEarlier = fault.untilMs + PAUSE_MS < other.atMs;
  // Nothing strikes a peer that is not there yet.
  if (other.kind === 'newcomer') {
    return (
      fault.kind !== 'partition' && fault.peers.some((i) => other.peers.includes(i)) && !isLater
    );
  }
  if (isLater || isEarlier) return false;
  if (fault.kind === 'partition' || other.kind === 'partition') return fault.kind === other.kind;
  return fault.peers.some((i) => other.peers.includes(i));
}
