/** Members of the run that could be dialled: bounded, each with its own back-off. */
import { ADDRESSES_MAX, RUN_PEERS_MAX } from '../../protocol/limits.js';
import { isRelayed, publicNetworkOf } from './addresses.js';
import { backoffMs } from './backoff.js';
import { lotsAt, secretFrom, surplus, type Place } from './places.js';
import type { PeerAddresses } from './run-registry.js';

/** Candidates kept: several times what one answer may name, so that one liar cannot push out the rest. */
export const CANDIDATES_MAX = 4 * RUN_PEERS_MAX;

/** Of those, whose first address lies in one public network: whoever has a network cannot fill the list with names. */
export const CANDIDATES_PER_NETWORK_MAX = 32;

/** Of those, at most, such as were connected: whoever connects under many names leaves room for what others tell. */
export const CANDIDATES_CONNECTED_MAX = (CANDIDATES_MAX * 3) / 4;

/** Former members that were not connected for so much longer than the last one, in ms, are the first to be forgotten. */
const MEMBER_ABSENT_MS = 24 * 60 * 60_000;

/** Who told of a candidate that spoke for itself. */
const ITSELF = 'itself';

/** Whether an address is not to be dialled now. */
export type IsCrowded = (address: string) => boolean;
const never: IsCrowded = () => false;

/** Addresses tried in one dial, one after the other, each for up to ADDRESS_DIAL_TIMEOUT_MS (host.ts). */
export const ADDRESSES_PER_DIAL = 2;

export interface Candidate {
  peerId: string;
  /** Multiaddrs without /p2p: at most ADDRESSES_MAX. */
  addresses: string[];
  /** What it last said of itself, or the dialler noted for it; null when only others told of it. */
  ownWords: string | null;
  /** Dials since it was last connected. */
  attempts: number;
  nextAttemptMs: number;
  /** When the last dial began; 0 before the first. */
  triedMs: number;
  /** Who told of it first: each teller's names make room for each other. */
  teller: string;
  /** When it was last connected as a member; null for one that only others told of. */
  connectedMs: number | null;
  /** When it was first connected, and from where (origin.ts). */
  memberSinceMs: number;
  origin: string;
  /** Why the last dial failed; null when it has not. */
  lastError: string | null;
}

export class Candidates {
  readonly #candidates = new Map<string, Candidate>();
  readonly #random: () => number;
  /** For lots; drawn when it is needed. */
  #secret: string | null = null;

  /** `random` gives [0, 1). */
  constructor(random: () => number) {
    this.#random = random;
  }

  get size(): number {
    return this.#candidates.size;
  }

  all(): Candidate[] {
    return [...this.#candidates.values()];
  }

  /** What a peer said of itself replaces what was known, once: later hearsay may be newer. */
  announced({ peerId, addresses }: PeerAddresses): void {
    const candidate = this.#candidates.get(peerId) ?? this.#insert(peerId, addresses, ITSELF);
    const ownWords = addresses.join(' ');
    if (candidate.ownWords === ownWords) return;
    candidate.ownWords = ownWords;
    candidate.addresses = addresses;
  }

  /**
   * What others say of a peer is added and replaces nothing of the first half: a liar cannot make a peer
   * unreachable, and one that has moved is found. `teller` is whoever said it, or its network.
   */
  heard({ peerId, addresses }: PeerAddresses, teller = ''): void {
    const candidate = this.#candidates.get(peerId) ?? this.#insert(peerId, addresses, teller);
    const half = ADDRESSES_MAX / 2;
    const kept = candidate.addresses;
    const all = new Set([...kept.slice(0, half), ...addresses, ...kept.slice(half)]);
    candidate.addresses = [...all].slice(0, ADDRESSES_MAX);
  }

  #insert(peerId: string, addresses: readonly string[], teller: string): Candidate {
    const network = publicNetworkOf(addresses[0] ?? '');
    const neighbours = this.all().filter(
      ({ addresses: [first = ''] }) => network !== null && publicNetworkOf(first) === network,
    );
    if (neighbours.length >= CANDIDATES_PER_NETWORK_MAX) this.#evict(neighbours);
    else if (this.#candidates.size >= CANDIDATES_MAX) this.#makeRoom();
    const candidate: Candidate = {
      ...{ peerId, addresses: [], ownWords: null, teller },
      ...{ attempts: 0, nextAttemptMs: 0, triedMs: 0, lastError: null },
      ...{ connectedMs: null, memberSinceMs: 0, origin: '' },
    };
    this.#candidates.set(peerId, candidate);
    return candidate;
  }

  /** Marks who is connected at `nowMs`, and from where. Returns those that were not at the last call. */
  markConnected(
    peerIds: ReadonlySet<string>,
    nowMs: number,
    originOf: (peerId: string) => string = (peerId) => peerId,
  ): Candidate[] {
    const fresh: Candidate[] = [];
    for (const peerId of peerIds) {
      const candidate = this.#candidates.get(peerId);
      if (candidate === undefined) continue;
      if (candidate.connectedMs === null || candidate.attempts > 0) fresh.push(candidate);
      if (candidate.connectedMs === null) {
        candidate.memberSinceMs = nowMs;
        candidate.origin = originOf(peerId);
      }
      candidate.connectedMs = nowMs;
      candidate.attempts = 0;
      candidate.nextAttemptMs = 0;
      candidate.lastError = null;
    }
    return fresh;
  }

  /**
   * Up to `count` candidates outside `connected` that are due at `nowMs`: those that were members first, then
   * those that failed least, for names that nobody answers to must not stand in the way. In random order
   * among equals. Left out are those with no address but crowded ones.
   */
  due(
    count: number,
    connected: ReadonlySet<string>,
    nowMs: number,
    isCrowded: IsCrowded = never,
  ): Candidate[] {
    return this.all()
      .filter(({ peerId, nextAttemptMs }) => !connected.has(peerId) && nextAttemptMs <= nowMs)
      .filter(({ addresses }) => addresses.length === 0 || !addresses.every(isCrowded))
      .map((candidate) => ({ candidate, dice: this.#random() }))
      .sort(
        ({ candidate: a, dice: diceA }, { candidate: b, dice: diceB }) =>
          Number(a.connectedMs === null) - Number(b.connectedMs === null) ||
          a.attempts - b.attempts ||
          diceA - diceB,
      )
      .slice(0, count)
      .map(({ candidate }) => candidate);
  }

  /**
   * The one outside `connected` that was neither connected nor tried for the longest, if it is due: in its turn
   * everyone, however many do not answer. A former member or one only heard of, each half of the time, so that
   * made-up names do not keep the members from their turn, nor members who are gone the new names.
   */
  longestUnseen(
    connected: ReadonlySet<string>,
    nowMs: number,
    isCrowded: IsCrowded = never,
  ): Candidate[] {
    const others = this.due(this.size, connected, nowMs, isCrowded);
    const wantsMember = this.#random() < 0.5;
    const wanted = others.filter(({ connectedMs }) => (connectedMs !== null) === wantsMember);
    const seenMs = ({ connectedMs, triedMs }: Candidate): number =>
      Math.max(connectedMs ?? 0, triedMs);
    return (wanted.length > 0 ? wanted : others)
      .toSorted((a, b) => seenMs(a) - seenMs(b))
      .slice(0, 1);
  }

  /**
   * Counts a dial that begins at `nowMs`; the next one follows after the back-off unless it connects. Returns
   * the addresses to try: each gets its turn, however many before it swallow what is sent to them. One through
   * a relay is among them where there is one, for it works when no other does.
   */
  attempt(candidate: Candidate, nowMs: number, isCrowded: IsCrowded = never): string[] {
    const { attempts } = candidate;
    const addresses = candidate.addresses.filter((address) => !isCrowded(address));
    candidate.attempts++;
    candidate.triedMs = nowMs;
    candidate.nextAttemptMs = nowMs + backoffMs(candidate.attempts, this.#random());
    const relayed = turnOf(addresses.filter(isRelayed), attempts, 1);
    const direct = addresses.filter((address) => !isRelayed(address));
    return [...turnOf(direct, attempts, ADDRESSES_PER_DIAL - relayed.length), ...relayed];
  }

  /**
   * Those that were members, the most recently connected first: what to remember over a restart. Of more than
   * RUN_PEERS_MAX those that places.ts leaves, for whoever comes under many names is connected most recently.
   */
  members(): PeerAddresses[] {
    const members = this.#members();
    const left = new Set(
      members.length > RUN_PEERS_MAX ? this.#surplusOf(members, RUN_PEERS_MAX) : [],
    );
    return members
      .filter((member) => !left.has(member))
      .sort((a, b) => (b.connectedMs ?? 0) - (a.connectedMs ?? 0))
      .map(({ peerId, addresses }) => ({ peerId, addresses }));
  }

  #members(): Candidate[] {
    return this.all().filter(({ connectedMs }) => connectedMs !== null);
  }

  /** Which of `members` to forget so that `count` are left. */
  #surplusOf(members: readonly Candidate[], count: number): Candidate[] {
    const lastMs = Math.max(0, ...members.map(({ connectedMs }) => connectedMs ?? 0));
    const places = members.map((candidate): Place & { candidate: Candidate } => ({
      candidate,
      origin: candidate.origin,
      cost: 1,
      sinceMs: candidate.memberSinceMs,
      aliveMs: candidate.connectedMs ?? 0,
    }));
    const room = { capacity: count, absentMs: MEMBER_ABSENT_MS };
    this.#secret ??= secretFrom(this.#random);
    const evicted = surplus(places, room, lastMs, lotsAt(this.#secret, lastMs));
    return evicted.map(({ candidate }) => candidate);
  }

  /** Forgets one: of those only heard of, from whoever told of most; of members when they are too many. */
  #makeRoom(): void {
    const members = this.#members();
    const heard = this.all().filter(({ connectedMs }) => connectedMs === null);
    if (members.length > CANDIDATES_CONNECTED_MAX || heard.length === 0) {
      for (const { peerId } of this.#surplusOf(members, members.length - 1))
        this.#candidates.delete(peerId);
      return;
    }
    const byTeller = new Map<string, Candidate[]>();
    for (const each of heard)
      byTeller.set(each.teller, [...(byTeller.get(each.teller) ?? []), each]);
    this.#evict([...byTeller.values()].reduce((a, b) => (b.length > a.length ? b : a)));
  }

  /** Forgets the one of `pool` that failed most often, or came last; one that was a member only when all were. */
  #evict(pool: readonly Candidate[]): void {
    const worst = pool.reduce((a, b) => {
      const strangerFirst = Number(b.connectedMs === null) - Number(a.connectedMs === null);
      return strangerFirst > 0 || (strangerFirst === 0 && b.attempts >= a.attempts) ? b : a;
    });
    this.#candidates.delete(worst.peerId);
  }
}

/** The `turn`th `count` of `addresses`, beginning anew at the end. */
export function turnOf(addresses: readonly string[], turn: number, count: number): string[] {
  const offset = (turn * count) % Math.max(1, addresses.length);
  return [...addresses.slice(offset), ...addresses.slice(0, offset)].slice(0, count);
}
