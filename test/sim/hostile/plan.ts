/** What goes wrong in one hostile run, and when: a function of its seed, so that a run replays and can be cut down. */
import { Prng } from '../../../protocol/prng.js';
import { between, drawSettings, pick, type Settings } from './settings.js';

/** Of the network. */
export const NETWORK_FAULTS = ['partition', 'severed-links', 'silent-links', 'storm'] as const;

/** Of one honest machine. */
export const MACHINE_FAULTS = [
  ...['crash', 'offline-start', 'stop', 'trainer-dies', 'disk-full'],
  ...['clock-strobe', 'clock-drift', 'pause', 'rollback', 'rollback-offline', 'copied-directory'],
] as const;

/** Of a hostile member: what it sends at one instant. */
export const HOSTILE_ACTS = [
  ...['update', 'equivocate', 'back-date', 'future-date', 'wrong-base', 'extreme', 'malformed'],
  ...['own-proof', 'throw-away-proofs', 'announce', 'replay', 'sync', 'admit', 'amend'],
  ...['seal', 'seal-along', 'seal-twice', 'false-certificate'],
] as const;

export type FaultKind = (typeof NETWORK_FAULTS)[number] | MachineFault | HostileAct;
export type MachineFault = (typeof MACHINE_FAULTS)[number];
export type HostileAct = (typeof HOSTILE_ACTS)[number];

export interface Fault {
  /** Its place in the plan: names it, and seeds what it draws, also where others are left out. */
  index: number;
  kind: FaultKind;
  /** In epochs since the start of the run. */
  from: number;
  /** In epochs; that of an act is `from`. */
  to: number;
  /** Number of the honest machine or the hostile member. */
  target: number;
  /** Added to the instant in ms: attackers prefer the moment in which a slot ends. */
  shiftMs: number;
}

export interface Plan {
  seed: number;
  settings: Settings;
  faults: readonly Fault[];
  /** The epoch by whose beginning every fault is over and no hostile member says anything of its own accord. */
  quietEpoch: number;
}

/** Share of the run in which faults begin and end. */
const ACTIVE_SHARE = 0.65;
/** Of faults in an epoch, on average. */
const PER_EPOCH = { network: 0.25, machine: 0.4, hostile: 2.5 };
/** Share of hostile acts that fall on the end of a slot, a millisecond before or after. */
const AT_SLOT_END = 0.4;

/** `kinds`: those that may be drawn. */
export function drawPlan(seed: number, kinds: ReadonlySet<FaultKind>): Plan {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setFloat64(0, seed);
  const settings = drawSettings(new Prng(bytes, 'hostile/settings'));
  const random = new Prng(bytes, 'hostile/plan');
  const quietEpoch = Math.floor(ACTIVE_SHARE * settings.epochsMax);
  const faults: Fault[] = [];
  let count = 0;
  const add = (kind: FaultKind, from: number, to: number, target: number, shiftMs = 0): void => {
    const fault = { index: count++, kind, from, to, target, shiftMs };
    if (kinds.has(kind)) faults.push(fault);
  };
  const moment = (): number => 0.5 + random.nextFloat() * (quietEpoch - 1);
  const lasting = (): [number, number] => {
    const [a, b] = [moment(), moment()];
    return [Math.min(a, b), Math.max(a, b)];
  };
  for (let i = 0; i < PER_EPOCH.network * quietEpoch; i++) {
    add(pick(random, NETWORK_FAULTS), ...lasting(), 0);
  }
  for (let i = 0; i < PER_EPOCH.machine * quietEpoch; i++) {
    add(pick(random, MACHINE_FAULTS), ...lasting(), random.nextBelow(settings.honest));
  }
  for (let i = 0; i < PER_EPOCH.hostile * quietEpoch; i++) {
    const isAtEnd = random.nextFloat() < AT_SLOT_END;
    const from = isAtEnd ? between(random, 1, quietEpoch - 1) : moment();
    const shiftMs = isAtEnd ? between(random, -1, 1) : 0;
    add(pick(random, HOSTILE_ACTS), from, from, random.nextBelow(settings.hostile), shiftMs);
  }
  const calendar = oneAtATime(faults).filter(isInCharacter(settings));
  return { seed, settings, faults: calendar, quietEpoch };
}

/** Acts by which a member proves that it signed twice. */
const SLIPS: readonly FaultKind[] = ['equivocate', 'own-proof', 'seal-twice'];

/** Leaves to each hostile member the acts of its temper; call the result in order of time. */
function isInCharacter({ tempers }: Settings): (fault: Fault) => boolean {
  const slipped = new Set<number>();
  return ({ kind, target, from }) => {
    const temper = tempers[target];
    if (!SLIPS.includes(kind) || temper === 'reckless') return true;
    // Not at once, when it is trusted; and not by a proof against itself, which leaves nothing to find out.
    const isSlip = temper === 'slips' && kind !== 'own-proof' && from >= 2;
    if (!isSlip || slipped.has(target)) return false;
    slipped.add(target);
    return true;
  };
}

/** Two faults of one machine do not overlap, nor do two that part the network: the later one is left out. */
function oneAtATime(faults: readonly Fault[]): Fault[] {
  const taken: Fault[] = [];
  for (const fault of [...faults].sort((a, b) => a.from - b.from)) {
    const place = placeOf(fault);
    const isFree = !taken.some((other) => placeOf(other) === place && other.to >= fault.from);
    if (place === null || isFree) taken.push(fault);
  }
  return taken;
}

/** What a fault has for itself while it lasts; null for what goes beside everything. */
function placeOf({ kind, target }: Fault): string | null {
  if (kind === 'partition') return kind;
  return isMachineFault(kind) ? `machine ${target}` : null;
}

export function isMachineFault(kind: FaultKind): kind is MachineFault {
  return (MACHINE_FAULTS as readonly FaultKind[]).includes(kind);
}

export function isHostileAct(kind: FaultKind): kind is HostileAct {
  return (HOSTILE_ACTS as readonly FaultKind[]).includes(kind);
}

/** What a fault draws by itself. */
export function randomOf({ seed }: Plan, { index }: Fault): Prng {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setFloat64(0, seed);
  return new Prng(bytes, `hostile/fault/${index}`);
}

export function describePlan({ settings, faults, quietEpoch }: Plan): string[] {
  const { honest, mode, isRobust, epochMs, epochsMax, lagMax, degree, tempers } = settings;
  const { sealEvery, sealAfter } = settings;
  const head =
    `${honest} honest members and hostile ones (${tempers.join(', ')}), ${mode}, ${isRobust ? 'robust' : 'mean'} fold, ` +
    `${epochsMax} epochs of ${epochMs} ms, lag at most ${lagMax}, seals every ${sealEvery} after ${sealAfter}, ` +
    `degree ${degree}, quiet from epoch ${quietEpoch} on`;
  const lines = faults.map(
    ({ index, kind, from, to, target, shiftMs }) =>
      `  ${String(index).padStart(3)}  ${kind.padEnd(18)} ${from.toFixed(3)} to ${to.toFixed(3)}` +
      `${shiftMs === 0 ? '' : ` ${shiftMs > 0 ? '+' : ''}${shiftMs} ms`}  of ${target}`,
  );
  return [head, ...lines];
}
