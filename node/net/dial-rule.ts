/**
 * Whom to dial now. A peer below its degree dials until it has it. One that has it still dials another member
 * now and then: two islands of a swarm that was cut, each with members enough, would else never meet again.
 */
import { publicNetworkOf } from './addresses.js';
import type { Candidate, Candidates, IsCrowded } from './candidates.js';

/** Connections to members that are sought: gossip wants four, and a few may be slow. */
export const DEGREE = 6;

/**
 * Connections that this peer dialled itself, however many dialled it: whoever comes in chooses itself, and an
 * attacker with many names would else be all the company that a peer has.
 */
export const OUTBOUND_MIN = DEGREE / 2;

/** Of those, in one public network (a /24 or a /48): as many names as its owner has, it is one voice. */
export const OUTBOUND_PER_NETWORK_MAX = 2;

/** Dials at one time. */
const PARALLEL_DIALS_MAX = 4;

/**
 * A peer at its degree dials one more this often, in ms: with n peers an island tries n names a minute, and
 * each peer all CANDIDATES_MAX within hours, for one handshake a minute.
 */
export const ROAM_INTERVAL_MS = 60_000;

export interface DialRuleOptions {
  /** Connections to members that are sought. */
  degree?: number;
  /** How often a peer that has them dials one more, in ms. */
  roamIntervalMs?: number;
}

/** The connections to members that this peer dialled. */
export interface Outbound {
  count: number;
  /** Where they lead: multiaddrs, also those being dialled. */
  addresses: readonly string[];
}

/** Which addresses lie in a network where enough connections lead already. */
export function crowding(addresses: readonly string[]): IsCrowded {
  const counts = new Map<string, number>();
  for (const address of addresses) {
    const network = publicNetworkOf(address);
    if (network !== null) counts.set(network, (counts.get(network) ?? 0) + 1);
  }
  return (address) => (counts.get(publicNetworkOf(address) ?? '') ?? 0) >= OUTBOUND_PER_NETWORK_MAX;
}

export class DialRule {
  readonly #candidates: Candidates;
  readonly #random: () => number;
  readonly #degree: number;
  readonly #outboundMin: number;
  readonly #roamIntervalMs: number;
  #roamMs: number | null = null;

  /** `random` gives [0, 1). */
  constructor(
    candidates: Candidates,
    random: () => number,
    { degree = DEGREE, roamIntervalMs = ROAM_INTERVAL_MS }: DialRuleOptions = {},
  ) {
    this.#candidates = candidates;
    this.#random = random;
    this.#degree = degree;
    this.#outboundMin = Math.min(OUTBOUND_MIN, degree / 2);
    this.#roamIntervalMs = roamIntervalMs;
  }

  /**
   * Whom to dial at `nowMs`, apart from `connected` and from the `dialling` dials that are under way: each of those
   * that are returned alone would not crowd a network.
   */
  choose(
    connected: ReadonlySet<string>,
    dialling: number,
    nowMs: number,
    outbound: Outbound,
  ): Candidate[] {
    const lacking = Math.max(this.#degree - connected.size, this.#outboundMin - outbound.count);
    const wanted = Math.min(lacking, PARALLEL_DIALS_MAX) - dialling;
    const isCrowded = crowding(outbound.addresses);
    if (wanted > 0) return this.#candidates.due(wanted, connected, nowMs, isCrowded);
    // Peers that lost each other at one moment do not all roam at one moment.
    this.#roamMs ??= nowMs + this.#roamIntervalMs * this.#random();
    if (connected.size < this.#degree || nowMs < this.#roamMs) return [];
    this.#roamMs = nowMs + this.#roamIntervalMs * (0.75 + this.#random() / 2);
    return this.#candidates.longestUnseen(connected, nowMs, isCrowded);
  }

  /**
   * Which of the members that this peer `dialled` (at least a roaming interval ago) to let go: one at random
   * when they are more than its degree, else none. Nobody lets go who dialled it: that may be its only way.
   */
  surplus<T>(dialled: readonly T[], settled: readonly T[]): T | null {
    if (dialled.length <= this.#degree) return null;
    return settled[Math.floor(this.#random() * settled.length)] ?? null;
  }
}
