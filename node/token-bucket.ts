/** Token buckets: let `burst` through at once and `perSecond` in the long run; one alone, or one for each sender. */
import type { Clock } from './interfaces.js';

/** Senders whose use is remembered; the one that came first is forgotten first. */
export const SENDERS_MAX = 1024;

export interface Rate {
  /** In the long run. */
  perSecond: number;
  /** At once, after a pause. */
  burst: number;
}

export class TokenBucket {
  readonly #clock: Clock;
  readonly #perSecond: number;
  readonly #burst: number;
  /** Below 0 while takers wait for what they were promised. */
  #level: number;
  #filledMs: number;

  constructor(clock: Clock, { perSecond, burst }: Rate) {
    this.#clock = clock;
    this.#perSecond = perSecond;
    this.#burst = burst;
    this.#level = burst;
    this.#filledMs = clock.now();
  }

  /** Takes `amount`, in turn; resolves when it may be used, rejects with the signal's reason. */
  async take(amount: number, signal: AbortSignal): Promise<void> {
    this.#fill();
    this.#level -= amount;
    if (this.#level < 0) await this.#clock.sleep((-this.#level / this.#perSecond) * 1000, signal);
  }

  /** Takes `amount` if it is there now; false when it is not, and then nothing is taken. */
  tryTake(amount: number): boolean {
    this.#fill();
    if (this.#level < amount) return false;
    this.#level -= amount;
    return true;
  }

  #fill(): void {
    const nowMs = this.#clock.now();
    // A clock that was set back gives nothing.
    const passedMs = Math.max(0, nowMs - this.#filledMs);
    this.#filledMs = nowMs;
    this.#level = Math.min(this.#burst, this.#level + (passedMs / 1000) * this.#perSecond);
  }
}

/** A bucket for each of many senders, who come and go. */
export class SenderBuckets {
  readonly #clock: Clock;
  readonly #rate: Rate;
  readonly #buckets = new Map<string, TokenBucket>();

  constructor(clock: Clock, rate: Rate) {
    this.#clock = clock;
    this.#rate = rate;
  }

  of(sender: string): TokenBucket {
    let bucket = this.#buckets.get(sender);
    if (bucket === undefined) {
      const oldest = this.#buckets.keys().next().value;
      if (this.#buckets.size >= SENDERS_MAX && oldest !== undefined) this.#buckets.delete(oldest);
      bucket = new TokenBucket(this.#clock, this.#rate);
      this.#buckets.set(sender, bucket);
    }
    return bucket;
  }
}
