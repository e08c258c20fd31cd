import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { SystemClock } from '../../../node/clock.js';
import { StoreUnavailableError, type Clock, type Store } from '../../../node/interfaces.js';
import { Journal } from '../../../node/peer/journal.js';
import { sampleCheckpoint } from '../../compliance/store.js';

function storeWith(appendLog: Store['appendLog'], writes: Partial<Store> = {}): Store {
  return {
    loadState: async () => null,
    saveState: async () => undefined,
    loadLog: async () => [],
    appendLog,
    replaceLog: async () => undefined,
    loadCheckpoint: async () => null,
    saveCheckpoint: async () => undefined,
    ...writes,
  };
}

function mustNotFail(error: unknown): never {
  throw error;
}

/** A clock whose pauses are over at once; `pausesMs` are those that were asked for. */
function hasty(pausesMs: number[] = []): Clock {
  return { now: () => 0, sleep: async (delayMs) => void pausesMs.push(delayMs) };
}

/** A replica that was cut at `epoch` and holds one record of each epoch from there to 9. */
class Cut {
  constructor(public epoch: number) {}

  get horizon(): { stored: ReturnType<typeof sampleCheckpoint> } {
    return { stored: sampleCheckpoint(this.epoch) };
  }

  records(): Uint8Array[] {
    const epochs = Array.from({ length: 10 - this.epoch }, (_, i) => this.epoch + i);
    return epochs.map((epoch) => Uint8Array.of(epoch));
  }
}

/** A disk with the records of epochs 0 to 9; `onWrite` may throw, or change what is written next. */
class Disk {
  checkpoint = 0;
  log = new Cut(0).records();
  readonly writes: string[] = [];

  constructor(readonly onWrite: (write: string) => void = () => undefined) {}

  readonly store = storeWith((record) => this.#write('append', () => this.log.push(record)), {
    saveCheckpoint: ({ checkpoint: { epoch } }) =>
      this.#write(`checkpoint ${epoch}`, () => (this.checkpoint = epoch)),
    replaceLog: (records) => {
      const copies = [...records];
      return this.#write('log', () => (this.log = copies));
    },
  });

  async #write(name: string, effect: () => void): Promise<void> {
    await Promise.resolve();
    this.onWrite(name);
    effect();
    this.writes.push(name);
    const kept = new Set(this.log.map(([epoch]) => epoch));
    for (let epoch = this.checkpoint; epoch < 10; epoch++) {
      assert.ok(
        kept.has(epoch),
        `after ${this.writes.join(', ')} a crash would lose epoch ${epoch}`,
      );
    }
  }
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

  it('writes the checkpoint before the log that goes on from it', async () => {
    const disk = new Disk();
    const journal = new Journal(disk.store, hasty(), mustNotFail);
    journal.compact(new Cut(3), new AbortController().signal);
    await journal.flush();
    assert.deepEqual(disk.writes, ['checkpoint 3', 'log']);
    assert.equal(disk.log.length, 7);
  });

  it('drops nothing that is in no checkpoint on disk, when it is cut again during a write', async () => {
    for (const moment of ['checkpoint 3', 'log']) {
      const replica = new Cut(3);
      const { signal } = new AbortController();
      const disk = new Disk((write) => {
        if (write !== moment || replica.epoch === 6) return;
        replica.epoch = 6;
        journal.compact(replica, signal);
      });
      const journal = new Journal(disk.store, hasty(), mustNotFail);
      journal.compact(replica, signal);
      await journal.flush();
      assert.equal(disk.checkpoint, 6, moment);
      assert.deepEqual(disk.log, replica.records(), moment);
    }
  });

  it('tries each write of the two again until the disk takes it, and then has no problem', async () => {
    for (const refused of ['checkpoint 3', 'log']) {
      let refusals = 0;
      const disk = new Disk((write) => {
        if (write !== refused || refusals === 3) return;
        refusals += 1;
        assert.equal(journal.problem === null, refusals === 1);
        throw new StoreUnavailableError('the disk is full');
      });
      const pausesMs: number[] = [];
      const journal = new Journal(disk.store, hasty(pausesMs), mustNotFail);
      journal.compact(new Cut(3), new AbortController().signal);
      await journal.flush();
      assert.deepEqual(pausesMs, [500, 1000, 2000]);
      assert.deepEqual(disk.writes, ['checkpoint 3', 'log']);
      assert.equal(journal.problem, null);
    }
  });

  it('writes a record once that comes while the log is rewritten, or before', async () => {
    for (const moment of ['checkpoint 3', 'log']) {
      const { signal } = new AbortController();
      const late = Uint8Array.of(77);
      const held: Uint8Array[] = [];
      const disk = new Disk((write) => {
        if (write !== moment) return;
        held.push(late);
        journal.append(late, signal);
      });
      const journal = new Journal(disk.store, hasty(), mustNotFail);
      const cut = new Cut(3);
      const records = (): Uint8Array[] => [...cut.records(), ...held];
      journal.compact({ horizon: cut.horizon, records }, signal);
      await journal.flush();
      assert.equal(disk.log.filter(([first]) => first === 77).length, 1, moment);
    }
  });
});
