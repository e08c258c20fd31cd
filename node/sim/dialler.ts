/** Whom a simulated peer dials: the rule of the real dialler, over what an introduction names. */
import { Candidates } from '../net/candidates.js';
import { DialRule, ROAM_INTERVAL_MS } from '../net/dial-rule.js';

/** Between two looks, in ms of virtual time. */
export const DIAL_TICK_MS = 1_000;

export class SimDialler {
  readonly #candidates: Candidates;
  readonly #rule: DialRule;
  #shedMs: number | null = null;
  /** Connected peers that this one dialled. */
  readonly #dialled = new Set<string>();

  constructor(random: () => number, degree: number) {
    this.#candidates = new Candidates(random);
    this.#rule = new DialRule(this.#candidates, random, { degree });
  }

  heard(peerIds: readonly string[]): void {
    for (const peerId of peerIds) this.#candidates.heard({ peerId, addresses: [] });
  }

  /** Whom to dial at `nowMs`; `dial` says whether it answered. */
  dialDue(connected: ReadonlySet<string>, nowMs: number, dial: (peerId: string) => boolean): void {
    for (const peerId of this.#dialled) if (!connected.has(peerId)) this.#dialled.delete(peerId);
    this.#candidates.markConnected(connected, nowMs);
    const outbound = { count: this.#dialled.size, addresses: [] };
    for (const candidate of this.#rule.choose(connected, 0, nowMs, outbound)) {
      this.#candidates.attempt(candidate, nowMs);
      if (dial(candidate.peerId)) this.#dialled.add(candidate.peerId);
    }
  }

  /** Whom to let go at `nowMs`; null for nobody. */
  surplus(nowMs: number): string | null {
    this.#shedMs ??= nowMs + ROAM_INTERVAL_MS;
    if (nowMs < this.#shedMs) return null;
    this.#shedMs = nowMs + ROAM_INTERVAL_MS / 2;
    const dialled = [...this.#dialled];
    return this.#rule.surplus(dialled, dialled);
  }
}
