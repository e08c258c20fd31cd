/** The machine's own clock. Everything that waits or tells the time gets one of these. */
import type { Clock } from './interfaces.js';

/** Longest delay of one timer in Node.js (2^31 - 1 ms, 24.8 days); longer waits take several. */
const TIMER_MS_MAX = 2_147_483_647;

export class SystemClock implements Clock {
  now(): number {
    return Date.now();
  }

  async sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
    let leftMs = Math.max(0, delayMs);
    do {
      const partMs = Math.min(leftMs, TIMER_MS_MAX);
      await timer(partMs, signal);
      leftMs -= partMs;
    } while (leftMs > 0);
  }
}

/** Rejects with the signal's own reason, where node:timers/promises would wrap it in an AbortError. */
function timer(delayMs: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => {
      clearTimeout(handle);
      const reason: unknown = signal?.reason;
      reject(reason instanceof Error ? reason : new DOMException(String(reason), 'AbortError'));
    };
    const handle = setTimeout(() => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    }, delayMs);
    if (signal === undefined) return;
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
  });
}
