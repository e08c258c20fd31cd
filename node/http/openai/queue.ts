/** One piece of work at a time, in the order of asking, and only so many that wait. */
export class Queue {
  private last: Promise<unknown> = Promise.resolve();
  private count = 0;

  /** `waitingMax`: how many may wait while one is done. */
  constructor(private readonly waitingMax: number) {}

  /** Whether another one would be refused. */
  get isFull(): boolean {
    return this.count > this.waitingMax;
  }

  /** Does `work` when its turn comes. Rejects with `signal.reason` when that aborts before; not to be called when full. */
  async run<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T> {
    this.count += 1;
    const before = this.last;
    const mine = (async () => {
      await before.catch(() => undefined);
      signal.throwIfAborted();
      return work();
    })();
    this.last = mine;
    try {
      return await mine;
    } finally {
      this.count -= 1;
    }
  }
}
