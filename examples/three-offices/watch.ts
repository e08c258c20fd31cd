/** A deadline that knows what is being waited for, and the polling that it bounds. */
import { setTimeout as sleep } from 'node:timers/promises';

import { DemoError } from './processes.js';

const POLL_MS = 250;

/** Aborts `signal` when the time is over or when `outer` aborts. Call `end` when it is done with. */
export class Watch {
  readonly signal: AbortSignal;
  readonly #timer: NodeJS.Timeout;
  #awaited = 'the start';

  constructor(deadlineMs: number, outer: AbortSignal) {
    const controller = new AbortController();
    this.#timer = setTimeout(() => {
      const seconds = Math.round(deadlineMs / 1000);
      controller.abort(
        new DemoError(`gave up after ${seconds} s: still waiting for ${this.#awaited}`),
      );
    }, deadlineMs);
    this.signal = AbortSignal.any([outer, controller.signal]);
  }

  /** Names what is awaited from now on: "still waiting for ...". */
  awaiting(what: string): void {
    this.#awaited = what;
  }

  /** Calls `probe` until it gives something other than null. Throws what it throws, or the deadline. */
  async until<T>(what: string, probe: () => Promise<T | null>): Promise<T> {
    this.awaiting(what);
    for (;;) {
      this.signal.throwIfAborted();
      const found = await probe();
      if (found !== null) return found;
      await this.#pause();
    }
  }

  end(): void {
    clearTimeout(this.#timer);
  }

  async #pause(): Promise<void> {
    try {
      await sleep(POLL_MS, undefined, { signal: this.signal });
    } catch {
      // AbortError hides the reason, which is the sentence for the user.
      this.signal.throwIfAborted();
    }
  }
}
