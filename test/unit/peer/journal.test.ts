import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { SystemClock } from '../../../node/clock.js';
import type { Store } from '../../../node/interfaces.js';
import { Journal } from '../../../node/peer/journal.js';

function storeWith(appendLog: Store['appendLog']): Store {
  return {
    loadState: async () => null,
    saveState: async () => undefined,
    loadLog: async () => [],
    appendLog,
    replaceLog: async () => undefined,
    loadCheckpoint: async () => null,
    saveCheckpoint: async () => undefined,
  };
}

describe('Journal', () => {
  it('writes a record that comes at any moment of the end of the last write', async () => {
    for (let steps = 0; steps < 12; steps++) {
      const written: number[] = [];
      const store = storeWith(async (record) => void written.push(record[0] ?? 0));
      const journal = new Journal(store, new SystemClock(), (error) => {
        throw error;
      });
      const { signal } = new AbortController();
      journal.append(Uint8Array.of(1), signal);
      for (let i = 0; i < steps; i++) await Promise.resolve();
      journal.append(Uint8Array.of(2), signal);
      await journal.flush();
      assert.deepEqual(written, [1, 2], `${steps} steps after the first`);
    }
  });

  it('reports what no retry mends, and is not the end of the process', async () => {
    const error = new TypeError('a log of another run');
    const failures: unknown[] = [];
    const journal = new Journal(
      storeWith(() => Promise.reject(error)),
      new SystemClock(),
      (failure) => failures.push(failure),
    );
    journal.append(Uint8Array.of(1), new AbortController().signal);
    await journal.flush();
    assert.deepEqual(failures, [error]);
  });
});
