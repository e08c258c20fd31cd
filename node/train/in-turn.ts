/** Work shared out among the replicas of a model, and its results in order. */
import { setImmediate } from 'node:timers/promises';

/**
 * What `work` makes of each item, in their order, up to `replicas` of them under way at a time. Gives way to the event loop
 * before each but the first, where it rejects with `signal.reason`; nothing is under way any more when it ends.
 */
export async function* inTurn<Item, Result>(
  items: Iterable<Item>,
  work: (item: Item) => Promise<Result>,
  signal: AbortSignal,
  replicas = 1,
): AsyncGenerator<Result> {
  const running: Promise<Result>[] = [];
  try {
    let isFirst = true;
    for (const item of items) {
      if (!isFirst) await setImmediate();
      isFirst = false;
      signal.throwIfAborted();
      const result = work(item);
      // Whoever waits for an earlier one hears of it later.
      result.catch(() => undefined);
      running.push(result);
      if (running.length === replicas) yield await running.shift()!;
    }
    while (running.length > 0) yield await running.shift()!;
  } finally {
    await Promise.allSettled(running);
  }
}
