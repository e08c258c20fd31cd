/**
 * From a relayed connection to a direct one: as long as a member is reached through a relay alone, its direct
 * addresses are tried again and again, by both sides. libp2p's own upgrade (DCUtR) tries public addresses only,
 * and punches no hole over TCP: it dials from another port than the one that the router has opened.
 */
import type { PeerId } from '@libp2p/interface';
import { multiaddr } from '@multiformats/multiaddr';
import { isRelayed } from './addresses.js';
import { ADDRESSES_PER_DIAL, turnOf } from './candidates.js';
import type { Host } from './host.js';

/** The first attempt comes so long after the member was met, in ms; the pauses then double to the last. */
const FIRST_MS = 2_000;
const LAST_MS = 10 * 60_000;

/** Dials of one peer at one time: the host's own dials come first. */
const PARALLEL_MAX = 2;

export class DirectUpgrade {
  readonly #host: Host;
  readonly #random: () => number;
  readonly #waiting = new Map<string, { attempts: number; nextAttemptMs: number }>();
  #dialling = 0;

  /** `random` gives [0, 1). */
  constructor(host: Host, random: () => number) {
    this.#host = host;
    this.#random = random;
  }

  /**
   * Dials those of `members` that are due at `nowMs` and have nothing but relayed connections. Each promise
   * settles when that dial has ended, well or not.
   */
  dialDue(
    members: Iterable<PeerId>,
    addressesOf: (peerId: string) => readonly string[],
    nowMs: number,
    signal: AbortSignal,
  ): Promise<void>[] {
    const relayed = [...members].filter((id) => this.#isRelayed(id));
    const names = new Set(relayed.map(String));
    for (const peerId of this.#waiting.keys()) if (!names.has(peerId)) this.#waiting.delete(peerId);
    const dials: Promise<void>[] = [];
    for (const id of relayed) {
      const peerId = id.toString();
      const state = this.#waiting.get(peerId) ?? this.#meet(peerId, nowMs);
      const direct = addressesOf(peerId).filter((address) => !isRelayed(address));
      if (state.nextAttemptMs > nowMs || this.#dialling >= PARALLEL_MAX || direct.length === 0) {
        continue;
      }
      const turn = turnOf(direct, state.attempts, ADDRESSES_PER_DIAL);
      state.attempts++;
      state.nextAttemptMs = nowMs + this.#pauseMs(state.attempts);
      dials.push(this.#dial(peerId, turn, signal));
    }
    return dials;
  }

  #isRelayed(id: PeerId): boolean {
    const open = this.#host.libp2p.getConnections(id).filter(({ status }) => status === 'open');
    return open.length > 0 && open.every(({ direct }) => !direct);
  }

  #meet(peerId: string, nowMs: number): { attempts: number; nextAttemptMs: number } {
    const state = { attempts: 0, nextAttemptMs: nowMs + this.#pauseMs(0) };
    this.#waiting.set(peerId, state);
    return state;
  }

  #pauseMs(attempts: number): number {
    return Math.min(LAST_MS, FIRST_MS * 2 ** Math.min(attempts, 20)) * (0.5 + this.#random());
  }

  async #dial(peerId: string, addresses: readonly string[], signal: AbortSignal): Promise<void> {
    const targets = addresses.map((address) => multiaddr(`${address}/p2p/${peerId}`));
    this.#dialling++;
    try {
      await this.#host.libp2p.dial(targets, { signal, force: true });
    } catch {
      // The relay goes on; the next attempt follows after a longer pause.
    } finally {
      this.#dialling--;
    }
  }
}
