/**
 * Exchanges served at one time. One takes milliseconds, so whoever opens many and says nothing must not keep everybody
 * else waiting: the origin with the most makes room, and any that takes long.
 */

interface Exchange {
  origin: string;
  startedMs: number;
  giveWay: () => void;
}

export class ExchangeSlots {
  readonly #slots: number;
  readonly #slowMs: number;
  readonly #now: () => number;
  /** The oldest first. */
  readonly #served = new Set<Exchange>();

  /** Those under way for longer than `slowMs` give way to anybody. `now` in ms. */
  constructor(slots: number, slowMs: number, now: () => number = () => performance.now()) {
    this.#slots = slots;
    this.#slowMs = slowMs;
    this.#now = now;
  }

  /** Takes a slot for `origin` and returns how to give it back; null when there is none. `giveWay` ends the exchange. */
  enter(origin: string, giveWay: () => void): (() => void) | null {
    const nowMs = this.#now();
    if (this.#served.size >= this.#slots) {
      const loser = this.#loserTo(origin, nowMs);
      if (loser === null) return null;
      this.#served.delete(loser);
      loser.giveWay();
    }
    const exchange: Exchange = { origin, startedMs: nowMs, giveWay };
    this.#served.add(exchange);
    return () => {
      this.#served.delete(exchange);
    };
  }

  #loserTo(origin: string, nowMs: number): Exchange | null {
    const counts = new Map<string, number>();
    for (const each of this.#served) counts.set(each.origin, (counts.get(each.origin) ?? 0) + 1);
    const [largest, count] = [...counts].reduce((a, b) => (b[1] > a[1] ? b : a), ['', 0]);
    const [oldest] = this.#served;
    if (count > (counts.get(origin) ?? 0) + 1) {
      return [...this.#served].find((each) => each.origin === largest) ?? null;
    }
    const isSlow = oldest !== undefined && nowMs - oldest.startedMs > this.#slowMs;
    return isSlow ? oldest : null;
  }
}
