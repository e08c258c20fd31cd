/** What every Store must do, whatever it keeps its bytes in. Run on each implementation. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  StoreUnavailableError,
  type OptimiserState,
  type PeerState,
  type RecordPlace,
  type Store,
  type StoredSeal,
} from '../../node/interfaces.js';
import { HeldMoments } from '../../node/moments.js';
import { gathered } from '../support/moments.js';

export interface StoreHarness {
  /** A new, empty place. */
  create(): Promise<Store>;
  /** What a restarted peer sees: a second store on the same place as the last `create`. */
  reopen(): Promise<Store>;
}

/** A state with no two equal numbers, so that a mix-up of arrays shows. */
export function sampleState(epoch: number, size = 5): PeerState {
  return {
    epoch,
    residual: Float32Array.from({ length: size }, (_, i) => epoch + i / 4),
    update: Uint8Array.of(1, 2, 3, epoch),
    settledSeal: `seal ${epoch}`,
    waitingSteps: 10 * epoch + 3,
    steps: 10 * epoch + 10,
    tokens: 1234 * (epoch + 1),
    heldOutBase: 4.25,
    heldOutHistory: [{ epoch: 0, loss: 4.125 }],
  };
}

/** As sampleState. */
export function sampleMoments(epoch: number, size = 5): OptimiserState {
  return {
    step: 10 * epoch + 7,
    m: Float32Array.from({ length: size }, (_, i) => -epoch - i - 0.25),
    v: Float32Array.from({ length: size }, (_, i) => epoch + i + 100.5),
  };
}

/** As sampleState. */
export function sampleSeal(epoch: number): StoredSeal {
  return {
    certificate: new Uint8Array(40).fill(epoch),
    contents: new Uint8Array(70).fill(epoch + 1),
    epoch,
    previousEpoch: Math.max(0, epoch - 4),
    logStart: Math.max(0, epoch - 8),
  };
}

/** Whole steps, as every sum of a fold has. */
export function sampleSum(epoch: number, size = 5): Float64Array {
  return Float64Array.from({ length: size }, (_, j) => (epoch + 1) * (j - 2) * 2 ** 33);
}

/** The records of a log, copied while they are there, with their places. */
export async function recordsOf(
  store: Pick<Store, 'loadLog'>,
): Promise<{ bytes: Uint8Array; place: RecordPlace }[]> {
  const records: { bytes: Uint8Array; place: RecordPlace }[] = [];
  await store.loadLog((bytes, place) => records.push({ bytes: Uint8Array.from(bytes), place }));
  return records;
}

/** The first byte of each record, in order. */
export async function firstBytes(store: Pick<Store, 'loadLog'>): Promise<number[]> {
  return (await recordsOf(store)).map(({ bytes }) => bytes[0] ?? -1);
}

/** Registers the suite under `name`. */
export function storeCompliance(name: string, harness: StoreHarness): void {
  describe(`Store: ${name}`, () => {
    stateCompliance(harness);
    logCompliance(harness);
    compactionCompliance(harness);
    sealCompliance(harness);
  });
}

function stateCompliance(harness: StoreHarness): void {
  it('has no state, moments or seal, and an empty log at first', async () => {
    const store = await harness.create();
    assert.equal(await store.loadState(), null);
    assert.equal(await gathered(store.loadMoments()), null);
    assert.equal(await store.loadSeal(), null);
    assert.equal(await store.loadSum(4), null);
    assert.deepEqual(await recordsOf(store), []);
  });

  it('returns the state that was saved last, bit for bit, after a restart', async () => {
    const store = await harness.create();
    await store.saveState(sampleState(3));
    const last = { ...sampleState(4), residual: Float32Array.of(Math.PI, -0, 1e-44, 0, 2) };
    await store.saveState(last);
    const found = await (await harness.reopen()).loadState();
    assert.deepEqual(found, last);
    assert.ok(Object.is(found.residual[1], -0));
  });

  it('keeps nulls: no update, no seal, no held-out text', async () => {
    const store = await harness.create();
    const state: PeerState = {
      ...sampleState(0),
      ...{ update: null, settledSeal: null, heldOutBase: null, heldOutHistory: [] },
    };
    await store.saveState(state);
    assert.deepEqual(await (await harness.reopen()).loadState(), state);
  });

  it('keeps moments apart from the state: each is replaced without the other', async () => {
    const store = await harness.create();
    await store.saveMoments(new HeldMoments(sampleMoments(1)));
    await store.saveState(sampleState(2));
    await store.saveMoments(new HeldMoments(sampleMoments(3)));
    await store.saveState(sampleState(4));
    const again = await harness.reopen();
    assert.deepEqual(await gathered(again.loadMoments()), sampleMoments(3));
    assert.deepEqual(await again.loadState(), sampleState(4));
  });

  it('is not changed by a caller that goes on with the arrays it saved', async () => {
    const store = await harness.create();
    const [state, moments, sum] = [sampleState(1), sampleMoments(1), sampleSum(4)];
    await store.saveState(state);
    await store.saveMoments(new HeldMoments(moments));
    await store.saveSum(4, sum);
    for (const array of [state.residual, moments.m, moments.v, sum]) array.fill(9);
    assert.deepEqual(await store.loadState(), sampleState(1));
    assert.deepEqual(await gathered(store.loadMoments()), sampleMoments(1));
    assert.deepEqual(await store.loadSum(4), sampleSum(4));
  });

  it('ends with the last of several saves that overlap', async () => {
    const store = await harness.create();
    const epochs = [1, 2, 3, 4];
    await Promise.all([
      ...epochs.map((epoch) => store.saveState(sampleState(epoch))),
      ...epochs.map((epoch) => store.saveMoments(new HeldMoments(sampleMoments(epoch)))),
      ...epochs.map((epoch) => store.saveSeal(sampleSeal(epoch))),
      ...epochs.map((epoch) => store.saveSum(7, sampleSum(epoch))),
    ]);
    const again = await harness.reopen();
    assert.equal((await again.loadState())?.epoch, 4);
    assert.deepEqual(await gathered(again.loadMoments()), sampleMoments(4));
    assert.deepEqual(await again.loadSeal(), sampleSeal(4));
    assert.deepEqual(await again.loadSum(7), sampleSum(4));
  });
}

function logCompliance(harness: StoreHarness): void {
  it('returns the records of the log in the order of appending, after a restart', async () => {
    const store = await harness.create();
    await recordsOf(store);
    const records = [3, 1, 2].map((value) => new Uint8Array(value * 40).fill(value));
    for (const record of records) await store.appendLog(record);
    const found = await recordsOf(await harness.reopen());
    assert.deepEqual(
      found.map(({ bytes }) => bytes),
      records,
    );
  });

  it('reads each record by the place that it got, and that it is found at after a restart', async () => {
    const store = await harness.create();
    await recordsOf(store);
    const records = Array.from({ length: 9 }, (_, i) => new Uint8Array(300 - 30 * i).fill(i));
    const places: RecordPlace[] = [];
    for (const record of records) places.push(await store.appendLog(record));
    const again = await harness.reopen();
    const found = await recordsOf(again);
    assert.deepEqual(
      found.map(({ place }) => place),
      places,
    );
    for (const [i, place] of [...places.entries()].reverse()) {
      for (const one of [store, again])
        assert.deepEqual(Uint8Array.from(one.readLog(place)), records[i]);
    }
    assert.throws(() => again.readLog((places.at(-1) ?? 0) + 100_000), StoreUnavailableError);
  });

  it('knows the bytes of the log: more with each record, and after a restart', async () => {
    const store = await harness.create();
    await recordsOf(store);
    const before = store.logBytes;
    await store.appendLog(new Uint8Array(500).fill(1));
    assert.ok(store.logBytes >= before + 500 && store.logBytes < before + 600);
    const again = await harness.reopen();
    await recordsOf(again);
    assert.equal(again.logBytes, store.logBytes);
  });

  it('keeps the order of appends that overlap, and bytes as they were at the call', async () => {
    const store = await harness.create();
    await recordsOf(store);
    const appends: Promise<RecordPlace>[] = [];
    const record = new Uint8Array(7);
    for (let i = 0; i < 50; i++) {
      record.fill(i);
      appends.push(store.appendLog(record));
    }
    const places = await Promise.all(appends);
    const numbers = Array.from({ length: 50 }, (_, i) => i);
    assert.deepEqual(await firstBytes(await harness.reopen()), numbers);
    assert.deepEqual(
      places.map((place) => store.readLog(place)[6]),
      numbers,
    );
  });

  it('goes on appending where it ended before a restart', async () => {
    const store = await harness.create();
    await recordsOf(store);
    await store.appendLog(Uint8Array.of(1));
    const second = await harness.reopen();
    await recordsOf(second);
    await second.appendLog(Uint8Array.of(2));
    assert.deepEqual(await firstBytes(await harness.reopen()), [1, 2]);
  });
}

function compactionCompliance(harness: StoreHarness): void {
  it('replaces the log by records of its own and new ones, says where they are, and goes on appending', async () => {
    const store = await harness.create();
    await recordsOf(store);
    const places: RecordPlace[] = [];
    for (const value of [1, 2, 3]) {
      places.push(await store.appendLog(new Uint8Array(10 * value).fill(value)));
    }
    const [first = 0, , third = 0] = places;
    const before = store.logBytes;
    let moved: readonly RecordPlace[] = [];
    await store.compactLog([Uint8Array.of(4, 4), third, first], (now) => (moved = now));
    assert.ok(store.logBytes < before);
    assert.deepEqual(
      moved.map((place) => [store.readLog(place)[0], store.readLog(place).length]),
      [
        [4, 2],
        [3, 30],
        [1, 10],
      ],
    );
    const appended = await store.appendLog(Uint8Array.of(5));
    assert.equal(store.readLog(appended)[0], 5);
    const second = await harness.reopen();
    const found = await recordsOf(second);
    assert.deepEqual(
      found.map(({ bytes }) => bytes[0]),
      [4, 3, 1, 5],
    );
    assert.deepEqual(
      found.map(({ place }) => place),
      [...moved, appended],
    );
    await second.compactLog([], (now) => (moved = now));
    assert.deepEqual(moved, []);
    assert.deepEqual(await firstBytes(await harness.reopen()), []);
  });

  it('gives every record at its place at any moment while the log is replaced', async () => {
    const store = await harness.create();
    await recordsOf(store);
    const places = new Map<number, RecordPlace>();
    for (let value = 1; value <= 40; value++) {
      places.set(value, await store.appendLog(new Uint8Array(100 + value).fill(value)));
    }
    const look = (): void => {
      for (const [value, place] of places) {
        const record = store.readLog(place);
        assert.deepEqual([record[0], record.length], [value, 100 + value]);
      }
    };
    const kept = [...places].filter(([value]) => value % 3 === 0).reverse();
    const progress = { isDone: false };
    const compaction = store
      .compactLog(
        kept.map(([, place]) => place),
        (moved) => {
          places.clear();
          for (const [i, [value]] of kept.entries()) places.set(value, moved[i] ?? -1);
        },
      )
      .finally(() => (progress.isDone = true));
    const late = store.appendLog(new Uint8Array(142).fill(42));
    for (let turns = 0; !progress.isDone; turns++) {
      assert.ok(turns < 100_000, 'it never ends');
      look();
      await new Promise((resolve) => setImmediate(resolve));
    }
    await compaction;
    look();
    places.set(42, await late);
    look();
    assert.deepEqual(
      (await firstBytes(await harness.reopen())).sort((a, b) => a - b),
      [...places.keys()].sort((a, b) => a - b),
    );
  });
}

function sealCompliance(harness: StoreHarness): void {
  it('returns the last seal and its sum, bit for bit, after a restart', async () => {
    const store = await harness.create();
    for (const epoch of [4, 8]) {
      await store.saveSum(epoch, sampleSum(epoch));
      await store.saveSeal(sampleSeal(epoch));
      const again = await harness.reopen();
      assert.deepEqual(await again.loadSeal(), sampleSeal(epoch));
      assert.deepEqual(await again.loadSum(epoch), sampleSum(epoch));
    }
  });

  it('keeps with a seal its sum, later ones and the one before, and drops older ones', async () => {
    const store = await harness.create();
    for (const epoch of [4, 8, 12, 16]) await store.saveSum(epoch, sampleSum(epoch));
    await store.saveSeal(sampleSeal(12));
    const again = await harness.reopen();
    const found = await Promise.all([4, 8, 12, 16].map((epoch) => again.loadSum(epoch)));
    assert.deepEqual(found, [null, ...[8, 12, 16].map((epoch) => sampleSum(epoch))]);
  });

  it('gives bytes of a sum in little-endian order, and rejects once it is gone', async () => {
    const store = await harness.create();
    const sum = sampleSum(4, 40);
    await store.saveSum(4, sum);
    const bytes = Buffer.alloc(320);
    for (const [j, value] of sum.entries()) bytes.writeDoubleLE(value, 8 * j);
    for (const [start, end] of [
      [0, 320],
      [8, 16],
      [100, 320],
      [5, 5],
    ] as const) {
      const part = await store.readSum(4, start, end);
      assert.deepEqual(Buffer.from(part), bytes.subarray(start, end));
    }
    await assert.rejects(store.readSum(8, 0, 8), StoreUnavailableError);
  });
}
