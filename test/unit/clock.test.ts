import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { describe, it } from 'node:test';
import { SystemClock } from '../../node/clock.js';

describe('SystemClock', () => {
  const clock = new SystemClock();

  it('sleeps at least as long as asked, by its own reading', async () => {
    const startMs = performance.now();
    await clock.sleep(30);
    // Timers may fire up to 1 ms early.
    assert.ok(performance.now() - startMs >= 29);
  });

  it('treats a negative delay as none', async () => {
    await clock.sleep(-5);
  });

  it('rejects with the reason of the abort, before or during the sleep', async () => {
    const reason = new TypeError('enough');
    const controller = new AbortController();
    const sleeping = clock.sleep(60_000, controller.signal);
    controller.abort(reason);
    await assert.rejects(sleeping, (error) => error === reason);
    await assert.rejects(clock.sleep(0, controller.signal), (error) => error === reason);
  });

  it('does not cut a delay of more than 2^31 ms to nothing', async () => {
    const aborted = clock.sleep(3_000_000_000, AbortSignal.timeout(30));
    await assert.rejects(aborted, { name: 'TimeoutError' });
  });

  it('leaves no listener on the signal after a sleep', async () => {
    const { signal } = new AbortController();
    for (let i = 0; i < 5; i++) await clock.sleep(0, signal);
    assert.deepEqual(getEventListeners(signal, 'abort'), []);
  });
});
