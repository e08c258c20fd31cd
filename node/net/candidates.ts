/** Members of the run that could be dialled: bounded, each with its own back-off. */
import { RUN_PEERS_MAX } from '../../protocol/limits.js';
import { backoffMs } from './backoff.js';
import type { PeerAddresses } from './run-registry.js';

/** Candidates kept: several times what one answer may name, so that one liar cannot push out the rest. */
export const CANDIDATES_MAX = 4 * RUN_PEERS_MAX;

export interface Candidate {
  peerId: string;
  /** Multiaddrs without /p2p. */
  addresses: string[];
  /** Dials since it was last connected. */
  attempts: number;
  nextAttemptMs: number;
  /** When it was last connected as a member; null for one that only others told of. */
  connectedMs: number | null;
  /** Why the last dial failed; null when it has not. */
  lastError: string | null;
}

export class Candidates {
  readonly #candidates = new Map<string, Candidate>();
  readonly #random: () => number;

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

  /** Learns of a peer, or of newer addresses of one that is not connected. */
  add({ peerId, addresses }: PeerAddresses): void {
    const known = this.#candidates.get(peerId);
    if (known !== undefined) {
      known.addresses = addresses;
      return;
    }
    if (this.#candidates.size >= CANDIDATES_MAX) this.#evict();
    const fresh = { attempts: 0, nextAttemptMs: 0, connectedMs: null, lastError: null };
    this.#candidates.set(peerId, { peerId, addresses, ...fresh });
  }

  /** Marks who is connected at `nowMs`. Returns those that were not at the last call. */
  markConnected(peerIds: ReadonlySet<string>, nowMs: number): Candidate[] {
    const fresh: Candidate[] = [];
    for (const peerId of peerIds) {
      const candidate = this.#candidates.get(peerId);
      if (candidate === undefined) continue;
      if (candidate.connectedMs === null || candidate.attempts > 0) fresh.push(candidate);
      candidate.connectedMs = nowMs;
      candidate.attempts = 0;
      candidate.nextAttemptMs = 0;
      candidate.lastError = null;
    }
    return fresh;
  }

  /** Up to `count` candidates outside `connected` that are due at `nowMs`, in random order. */
  due(count: number, connected: ReadonlySet<string>, nowMs: number): Candidate[] {
    const ready = this.all().filter(
      ({ peerId, nextAttemptMs }) => !connected.has(peerId) && nextAttemptMs <= nowMs,
    );
    // Fisher-Yates, as far as needed.
    const chosen: Candidate[] = [];
    while (chosen.length < count && ready.length > 0) {
      const [picked] = ready.splice(Math.floor(this.#random() * ready.length), 1);
      if (picked !== undefined) chosen.push(picked);
    }
    return chosen;
  }

  /** Counts a dial that begins at `nowMs`; the next one follows after the back-off unless it connects. */
  attempt(candidate: Candidate, nowMs: number): void {
    candidate.attempts++;
    candidate.nextAttemptMs = nowMs + backoffMs(candidate.attempts, this.#random());
  }

  /** Those that were members, the most recently connected first: what to remember over a restart. */
  members(): PeerAddresses[] {
    return this.all()
      .filter(({ connectedMs }) => connectedMs !== null)
      .sort((a, b) => (b.connectedMs ?? 0) - (a.connectedMs ?? 0))
      .slice(0, RUN_PEERS_MAX)
      .map(({ peerId, addresses }) => ({ peerId, addresses }));
  }

  /** Forgets the candidate that failed most often; one that was a member only when all were. */
  #evict(): void {
    const worst = this.all().reduce((a, b) => {
      const strangerFirst = Number(b.connectedMs === null) - Number(a.connectedMs === null);
      return strangerFirst > 0 || (strangerFirst === 0 && b.attempts > a.attempts) ? b : a;
    });
    this.#candidates.delete(worst.peerId);
  }
}
