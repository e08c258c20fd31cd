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

  /**
   * Does `work` when its turn comes; the next begins when it is over. Rejects with `signal.reason` at once, also while
   * it waits, and then makes room. Not to be called when full.
   */
  async run<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T> {
    this.count += 1;
    const before = this.last;
    const mine = (async () => {
      await before.catch(() => undefined);
      signal.throwIfAborted();
      return work();
    })();
    this.last = mine;
    let stop = (): void => undefined;
    const stopped = new Promise<never>((_, reject) => {
      stop = (): void => reject(signal.reason as Error);
      if (signal.aborted) stop();
      else signal.addEventListener('abort', stop, { once: true });
    });
    try {
      return await Promise.race([mine, stopped]);
    } finally {
      signal.removeEventListener('abort', stop);
      this.count -= 1;
      // Whoever stopped it has been told; its end is awaited by the next in line.
      mine.catch(() => undefined);
    }
  }
}
