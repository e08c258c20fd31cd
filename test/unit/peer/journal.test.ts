import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { SystemClock } from '../../../node/clock.js';
import {
  StoreUnavailableError,
  type Clock,
  type RecordPlace,
  type Store,
} from '../../../node/interfaces.js';
import { Journal, type Compaction, type LogRecord } from '../../../node/peer/journal.js';

function storeOf(
  appendLog: Store['appendLog'],
  compactLog: Store['compactLog'] = async () => undefined,
): Store {
  return {
    loadState: async () => null,
    saveState: async () => undefined,
    loadMoments: async () => null,
    saveMoments: async () => undefined,
    loadLog: async () => undefined,
    appendLog,
    readLog: () => assert.fail('nobody reads'),
    logBytes: 0,
    compactLog,
    loadSeal: async () => null,
    saveSeal: async () => undefined,
    loadSum: async () => null,
    saveSum: async () => undefined,
    readSum: () => Promise.reject(new StoreUnavailableError('gone')),
  };
}

function mustNotFail(error: unknown): never {
  throw error;
}

/** A clock whose pauses are over at once; `pausesMs` are those that were asked for. */
function hasty(pausesMs: number[] = []): Clock {
  return { now: () => 0, sleep: async (delayMs) => void pausesMs.push(delayMs) };
}

function recordOf(value: number, onSaved?: (place: RecordPlace) => void): LogRecord {
  return { encode: () => Uint8Array.of(value), ...(onSaved && { onSaved }) };
}

/** A disk whose log has records 0 to 9; `onWrite` may throw, or change what is written next. */
class Disk {
  /** By their places. */
  log = new Map<RecordPlace, number>(Array.from({ length: 10 }, (_, i) => [i, i]));
  readonly writes: string[] = [];
  #nextPlace = 10;

  constructor(readonly onWrite: (write: string) => void = () => undefined) {}

  readonly store = storeOf(
    ([value = -1]) => this.#write('append', () => this.#put(this.log, value)),
    (records, onMoved) => {
      const wanted = [...records];
      return this.#write('compact', () => {
        const log = new Map<RecordPlace, number>();
        const places = wanted.map((one) => {
          const value = typeof one === 'number' ? this.log.get(one) : one[0];
          return this.#put(log, value ?? assert.fail(`no record at ${String(one)}`));
        });
        this.log = log;
        onMoved(places);
      });
    },
  );

  get values(): number[] {
    return [...this.log.values()];
  }

  #put(log: Map<RecordPlace, number>, value: number): RecordPlace {
    const place = this.#nextPlace++;
    log.set(place, value);
    return place;
  }

  async #write<T>(name: string, effect: () => T): Promise<T> {
    await Promise.resolve();
    this.onWrite(name);
    this.writes.push(name);
    return effect();
  }
}

/** Who knows where its records are: 5 to 9 are to stay. */
class Holder {
  places = new Map<number, RecordPlace>([5, 6, 7, 8, 9].map((value) => [value, value]));
  asked = 0;

  readonly compaction = (): Compaction => {
    this.asked += 1;
    const values = [...this.places.keys()];
    return {
      records: [Uint8Array.of(100), ...this.places.values()],
      onMoved: ([, ...places]) => {
        for (const [i, value] of values.entries()) {
          if (this.places.has(value)) this.places.set(value, places[i] ?? -1);
        }
      },
    };
  };

  look({ log }: Disk): void {
    for (const [value, place] of this.places) assert.equal(log.get(place), value);
  }
}

describe('Journal', () => {
  it('writes a record that comes at any moment of the end of the last write', async () => {
    for (let steps = 0; steps < 12; steps++) {
      const written: number[] = [];
      const store = storeOf(async (record) => written.push(record[0] ?? 0));
      const journal = new Journal(store, new SystemClock(), mustNotFail);
      const { signal } = new AbortController();
      journal.append(recordOf(1), signal);
      for (let i = 0; i < steps; i++) await Promise.resolve();
      journal.append(recordOf(2), signal);
      await journal.flush();
      assert.deepEqual(written, [1, 2], `${steps} steps after the first`);
    }
  });

  it('encodes a record when it is written, and says where it is once it is there', async () => {
    const events: string[] = [];
    const disk = new Disk(() => events.push('write'));
    const journal = new Journal(disk.store, hasty(), mustNotFail);
    const { signal } = new AbortController();
    for (const value of [1, 2]) {
      const encode = (): Uint8Array => {
        events.push(`encode ${value}`);
        return Uint8Array.of(value);
      };
      journal.append({ encode, onSaved: (place) => events.push(`${value} at ${place}`) }, signal);
    }
    await journal.flush();
    assert.deepEqual(events, ['encode 1', 'write', '1 at 10', 'encode 2', 'write', '2 at 11']);
  });

  it('says that a record is there only when the disk took it, and then once', async () => {
    let refusals = 3;
    const saved: RecordPlace[] = [];
    const disk = new Disk(() => {
      assert.deepEqual(saved, []);
      if (refusals-- > 0) throw new StoreUnavailableError('the disk is full');
    });
    const journal = new Journal(disk.store, hasty(), mustNotFail);
    journal.append(
      recordOf(1, (place) => saved.push(place)),
      new AbortController().signal,
    );
    await journal.flush();
    assert.deepEqual(saved, [10]);
    assert.equal(disk.writes.length, 1);
  });

  it('reports what no retry mends, and is not the end of the process', async () => {
    const error = new TypeError('a log of another run');
    const failures: unknown[] = [];
    const journal = new Journal(
      storeOf(() => Promise.reject(error)),
      new SystemClock(),
      (failure) => failures.push(failure),
    );
    journal.append(recordOf(1), new AbortController().signal);
    await journal.flush();
    assert.deepEqual(failures, [error]);
  });

  it('compacts after what was pending, and leaves out what nobody holds', async () => {
    const [disk, holder] = [new Disk(), new Holder()];
    const journal = new Journal(disk.store, hasty(), mustNotFail);
    const { signal } = new AbortController();
    journal.append(
      recordOf(77, (place) => holder.places.set(77, place)),
      signal,
    );
    journal.compact(holder.compaction, signal);
    await journal.flush();
    assert.deepEqual(disk.writes, ['append', 'compact']);
    assert.deepEqual(disk.values, [100, 5, 6, 7, 8, 9, 77]);
    holder.look(disk);
  });

  it('compacts once more when it was asked to during the compaction', async () => {
    const holder = new Holder();
    const { signal } = new AbortController();
    const disk = new Disk((write) => {
      if (write !== 'compact' || holder.asked > 1) return;
      holder.places.delete(5);
      journal.compact(holder.compaction, signal);
    });
    const journal = new Journal(disk.store, hasty(), mustNotFail);
    journal.compact(holder.compaction, signal);
    await journal.flush();
    assert.deepEqual(disk.writes, ['compact', 'compact']);
    assert.deepEqual(disk.values, [100, 6, 7, 8, 9]);
    holder.look(disk);
  });

  it('tries again until the disk takes it, asks anew what is to stay, and then has no problem', async () => {
    const holder = new Holder();
    let refusals = 0;
    const disk = new Disk((write) => {
      if (write !== 'compact' || refusals === 3) return;
      refusals += 1;
      assert.equal(journal.problem === null, refusals === 1);
      // As after a rename whose directory could not be synced: the records have moved.
      disk.log = new Map([...disk.log].map(([place, value]) => [place + 50, value]));
      for (const [value, place] of holder.places) holder.places.set(value, place + 50);
      throw new StoreUnavailableError('the disk is full');
    });
    const pausesMs: number[] = [];
    const journal = new Journal(disk.store, hasty(pausesMs), mustNotFail);
    journal.compact(holder.compaction, new AbortController().signal);
    await journal.flush();
    assert.deepEqual(pausesMs, [500, 1000, 2000]);
    assert.deepEqual([disk.writes, disk.values], [['compact'], [100, 5, 6, 7, 8, 9]]);
    assert.equal(journal.problem, null);
    holder.look(disk);
  });

  it('writes a record once that comes while the log is compacted, or before', async () => {
    for (const moment of ['append', 'compact']) {
      const holder = new Holder();
      const { signal } = new AbortController();
      let isLate = false;
      const disk = new Disk((write) => {
        if (write !== moment || isLate) return;
        isLate = true;
        journal.append(
          recordOf(77, (place) => holder.places.set(77, place)),
          signal,
        );
      });
      const journal = new Journal(disk.store, hasty(), mustNotFail);
      journal.append(recordOf(3), signal);
      journal.compact(holder.compaction, signal);
      await journal.flush();
      assert.equal(disk.values.filter((value) => value === 77).length, 1, moment);
      holder.look(disk);
    }
  });
});
