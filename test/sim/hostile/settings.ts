/** Random runs for the hostile scenario: who takes part, by which manifest, over what network. */
import type { NetworkFaults } from '../../../node/sim/network.js';
import type { Identity } from '../../../node/interfaces.js';
import type { Manifest, Membership } from '../../../protocol/manifest.js';
import type { Prng } from '../../../protocol/prng.js';

/**
 * How soon a hostile member is found out: a reckless one signs twice all the time and is evicted early; one that slips
 * does so once; a careful one never does, and stays a member to the end.
 */
export const TEMPERS = ['careful', 'slips', 'reckless'] as const;
export type Temper = (typeof TEMPERS)[number];

export interface Settings {
  /** Peers that run the real program, and members that send what they like. */
  honest: number;
  hostile: number;
  mode: Membership['mode'];
  /** In the mean, of each member: the honest ones first. The hostile ones have less than a third of all. */
  weights: readonly number[];
  isRobust: boolean;
  clip: number;
  epochMs: number;
  epochsMax: number;
  lagMax: number;
  /** Epochs between two seals, 0 for none, and after which members sign. */
  sealEvery: number;
  sealAfter: number;
  /** Connections that a peer seeks; Infinity: all are connected to all. */
  degree: number;
  /** How the network is while nothing special is wrong. */
  faults: NetworkFaults;
  /** Duration of one optimiser step of each honest peer, in ms. */
  stepMs: readonly number[];
  /** Of each hostile member. */
  tempers: readonly Temper[];
  /** By index of the honest peer, the epoch in which it starts; 0 for those that found the swarm. */
  startEpochs: readonly number[];
}

/** Robust runs trim so large a share of an epoch's rows. */
const TRIM_FRACTION = 0.25;
/** Optimiser steps in an epoch of every run. */
const STEPS = 8;

export function pick<T>(random: Prng, values: readonly T[]): T {
  const value = values[random.nextBelow(values.length)];
  if (value === undefined) throw new RangeError('nothing to pick from');
  return value;
}

export function between(random: Prng, min: number, max: number): number {
  return min + random.nextBelow(max - min + 1);
}

export function drawSettings(random: Prng): Settings {
  const mode = pick(random, ['open', 'allowlist', 'allowlist', 'invite'] as const);
  const isRobust = mode === 'allowlist' && random.nextFloat() < 0.3;
  const honest = between(random, 3, 7);
  const hostile = between(random, 1, Math.max(1, Math.ceil(honest / 2) - 1));
  const epochMs = pick(random, [2_000, 5_000, 10_000, 60_000]);
  // Hostile members weigh 1: fewer than half as many as the honest, they have less than a third.
  const weights = Array.from({ length: honest + hostile }, (_, i) =>
    mode === 'allowlist' && !isRobust && i < honest ? between(random, 1, 3) : 1,
  );
  const isLossy = random.nextFloat() < 0.5;
  const lagMax = between(random, 2, 6);
  const seals = { sealEvery: pick(random, [1, 2, 3, 4]), sealAfter: between(random, 1, 7) };
  return {
    ...{ honest, hostile, mode, weights, isRobust, epochMs },
    clip: pick(random, [0, 1, 1, 2]),
    epochsMax: between(random, 16, 24),
    lagMax,
    ...(mode === 'open' || random.nextFloat() < 0.2 ? { sealEvery: 0, sealAfter: 0 } : seals),
    degree: random.nextFloat() < 0.7 ? Infinity : 3,
    faults: {
      ...{ loss: isLossy ? 0.15 : 0, duplicate: isLossy ? 0.1 : 0, reset: isLossy ? 0.01 : 0 },
      ...{ delayMsMin: 5, delayMsMax: isLossy ? epochMs / 10 : 5 },
    },
    stepMs: Array.from({ length: honest }, () =>
      Math.round((epochMs / STEPS) * pick(random, [0.1, 0.1, 0.3, 0.8])),
    ),
    tempers: Array.from({ length: hostile }, () => pick(random, TEMPERS)),
    startEpochs: Array.from({ length: honest }, (_, i) =>
      i < 2 || random.nextFloat() < 0.7 ? 0 : between(random, 2, 8),
    ),
  };
}

/** Writes the settings into a manifest; `members`: the honest ones first. */
export function manifestOf(
  settings: Settings,
  members: readonly Identity[],
): (base: Manifest) => Manifest {
  const { mode, weights, isRobust, clip, epochMs, epochsMax } = settings;
  const { lagMax, sealEvery, sealAfter } = settings;
  return (base) => ({
    ...base,
    schedule: { ...base.schedule, epochMs, epochsMax, stepsRef: STEPS },
    fold: {
      ...{ ...base.fold, clip, lagMax, sealEvery, sealAfter },
      ...(isRobust && { mode: 'robust', trimFraction: TRIM_FRACTION }),
    },
    membership: membershipOf(mode, base.founder, members, weights),
  });
}

function membershipOf(
  mode: Settings['mode'],
  founder: string,
  members: readonly Identity[],
  weights: readonly number[],
): Membership {
  if (mode === 'open') return { mode };
  const listed = members.map(({ peerId }, i) => ({ peerId, weight: weights[i] ?? 1 }));
  if (mode === 'allowlist') return { mode, members: listed };
  return { mode, members: [{ peerId: founder, weight: 1 }], inviteWeight: 1 };
}
