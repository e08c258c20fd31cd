/** A token bucket: lets `burst` through at once and `perSecond` in the long run. */
import type { Clock } from '../interfaces.js';

export class TokenBucket {
  readonly #clock: Clock;
  readonly #perSecond: number;
  readonly #burst: number;
  /** Below 0 while takers wait for what they were promised. */
  #level: number;
  #filledMs: number;

  constructor(clock: Clock, perSecond: number, burst: number) {
    this.#clock = clock;
    this.#perSecond = perSecond;
    this.#burst = burst;
    this.#level = burst;
    this.#filledMs = clock.now();
  }

  /** Takes `amount`, in turn; resolves when it may be used, rejects with the signal's reason. */
  async take(amount: number, signal: AbortSignal): Promise<void> {
    const nowMs = this.#clock.now();
    // A clock that was set back gives nothing.
    const passedMs = Math.max(0, nowMs - this.#filledMs);
    this.#filledMs = nowMs;
    this.#level = Math.min(this.#burst, this.#level + (passedMs / 1000) * this.#perSecond);
    this.#level -= amount;
    if (this.#level < 0) await this.#clock.sleep((-this.#level / this.#perSecond) * 1000, signal);
  }
}
