/** Virtual time: events in order of due time (then of scheduling), so that a run is a function of its seed. */
import { setImmediate as macrotask } from 'node:timers/promises';
import type { Clock } from '../interfaces.js';

interface Entry {
  dueMs: number;
  order: number;
  run: () => void;
  cancelled: boolean;
}

export class VirtualTime {
  /** Binary heap by (dueMs, order). */
  readonly #heap: Entry[] = [];
  #order = 0;
  #nowMs: number;
  /** Real work that an event began: no later event happens before it is done. */
  readonly #held = new Set<Promise<unknown>>();

  constructor(startMs: number) {
    this.#nowMs = startMs;
  }

  get nowMs(): number {
    return this.#nowMs;
  }

  /** Runs `callback` after `delayMs`; returns a function that cancels it. */
  after(delayMs: number, callback: () => void): () => void {
    const entry = {
      dueMs: this.#nowMs + Math.max(0, delayMs),
      order: this.#order++,
      run: callback,
      cancelled: false,
    };
    this.#push(entry);
    return () => (entry.cancelled = true);
  }

  /** Virtual time stands still until `work`, which takes real time, has settled as the result does. */
  hold<T>(work: Promise<T>): Promise<T> {
    const settled = work.then(
      () => undefined,
      () => undefined,
    );
    this.#held.add(settled);
    void settled.then(() => this.#held.delete(settled));
    return work;
  }

  /** Advances to `untilMs`; promises that an event resolves are followed up before the next event. */
  async advanceTo(untilMs: number): Promise<void> {
    await this.#followUp();
    for (let next = this.#heap[0]; next && next.dueMs <= untilMs; next = this.#heap[0]) {
      this.#pop();
      if (next.cancelled) continue;
      this.#nowMs = next.dueMs;
      next.run();
      await this.#followUp();
    }
    this.#nowMs = Math.max(this.#nowMs, untilMs);
  }

  async #followUp(): Promise<void> {
    await macrotask();
    while (this.#held.size > 0) {
      await Promise.all(this.#held);
      await macrotask();
    }
  }

  #isBefore(a: Entry, b: Entry): boolean {
    return a.dueMs < b.dueMs || (a.dueMs === b.dueMs && a.order < b.order);
  }

  #push(entry: Entry): void {
    const heap = this.#heap;
    let i = heap.push(entry) - 1;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (!this.#isBefore(entry, heap[parent]!)) break;
      heap[i] = heap[parent]!;
      i = parent;
    }
    heap[i] = entry;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop()!;
    if (heap.length === 0) return;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && this.#isBefore(heap[child + 1]!, heap[child]!)) child += 1;
      if (!this.#isBefore(heap[child]!, last)) break;
      heap[i] = heap[child]!;
      i = child;
    }
    heap[i] = last;
  }
}

/** One process's view of time: an offset, and an end. After kill() nothing that waits ever wakes up. */
export class VirtualClock implements Clock {
  #isAlive = true;

  constructor(
    readonly time: VirtualTime,
    public offsetMs = 0,
  ) {}

  kill(): void {
    this.#isAlive = false;
  }

  now(): number {
    return this.time.nowMs + this.offsetMs;
  }

  sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) {
        reject(signal.reason as Error);
        return;
      }
      const onAbort = (): void => {
        cancel();
        if (this.#isAlive) reject(signal?.reason as Error);
      };
      const cancel = this.time.after(delayMs, () => {
        signal?.removeEventListener('abort', onAbort);
        if (this.#isAlive) resolve();
      });
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }
}
