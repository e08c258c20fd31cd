/** What every Store must do, whatever it keeps its bytes in. Run on each implementation. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { PeerState, Store, StoredCheckpoint } from '../../node/interfaces.js';
import { describeTheta } from '../../protocol/checkpoint.js';

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
    residual: Float64Array.from({ length: size }, (_, i) => epoch + i / 3),
    optimiser: {
      step: 10 * epoch + 7,
      m: Float32Array.from({ length: size }, (_, i) => -epoch - i - 0.25),
      v: Float32Array.from({ length: size }, (_, i) => epoch + i + 100.5),
    },
    update: Uint8Array.of(1, 2, 3, epoch),
    settledDebt: `debt ${epoch}`,
    steps: 10 * epoch + 10,
    tokens: 1234 * (epoch + 1),
    heldOutBase: 4.25,
    heldOutHistory: [{ epoch: 0, loss: 4.125 }],
  };
}

/** A checkpoint whose numbers are all different; with a debt when `epoch` is odd. */
export function sampleCheckpoint(epoch: number, size = 5): StoredCheckpoint {
  const theta = Float64Array.from({ length: size }, (_, i) => epoch + i / 7);
  const digest = epoch.toString(16).padStart(64, '0');
  const ancestors = ['ab'.repeat(32), 'cd'.repeat(32)];
  return {
    checkpoint: { epoch, digest, contributions: 3 * epoch, ancestors, ...describeTheta(theta) },
    own: [4, 0, 2],
    debt: epoch % 2 === 0 ? null : { name: 'a b', vector: theta.map((value) => -value) },
  };
}

/** Registers the suite under `name`. */
export function storeCompliance(name: string, harness: StoreHarness): void {
  describe(`Store: ${name}`, () => {
    it('has no state and an empty log at first', async () => {
      const store = await harness.create();
      assert.equal(await store.loadState(), null);
      assert.deepEqual(await store.loadLog(), []);
    });

    it('returns the state that was saved last, bit for bit, after a restart', async () => {
      const store = await harness.create();
      await store.loadLog();
      await store.saveState(sampleState(3));
      // pi is not a float32: a residual that went through float32 would differ.
      const last = { ...sampleState(4), residual: Float64Array.of(Math.PI, -0, 1e-300, 0, 2) };
      await store.saveState(last);
      const found = await (await harness.reopen()).loadState();
      assert.deepEqual(found, last);
      assert.ok(Object.is(found.residual[1], -0));
    });

    it('keeps nulls: no moments, no update, no held-out text', async () => {
      const store = await harness.create();
      const state: PeerState = {
        ...sampleState(0),
        optimiser: null,
        update: null,
        heldOutBase: null,
        heldOutHistory: [],
      };
      await store.saveState(state);
      assert.deepEqual(await (await harness.reopen()).loadState(), state);
    });

    it('is not changed by a caller that goes on with the arrays it saved', async () => {
      const store = await harness.create();
      const state = sampleState(1);
      await store.saveState(state);
      state.residual.fill(9);
      state.optimiser?.m.fill(9);
      assert.deepEqual(await store.loadState(), sampleState(1));
    });

    it('ends with the last of several saves that overlap', async () => {
      const store = await harness.create();
      await Promise.all([1, 2, 3, 4].map((epoch) => store.saveState(sampleState(epoch))));
      assert.equal((await (await harness.reopen()).loadState())?.epoch, 4);
    });

    it('returns the records of the log in the order of appending, after a restart', async () => {
      const store = await harness.create();
      await store.loadLog();
      const records = [3, 1, 2].map((value) => new Uint8Array(value * 40).fill(value));
      for (const record of records) await store.appendLog(record);
      const found = await (await harness.reopen()).loadLog();
      assert.deepEqual(found.map(plain), records.map(plain));
    });

    it('keeps the order of appends that overlap, and bytes as they were at the call', async () => {
      const store = await harness.create();
      await store.loadLog();
      const appends: Promise<void>[] = [];
      const record = new Uint8Array(7);
      for (let i = 0; i < 50; i++) {
        record.fill(i);
        appends.push(store.appendLog(record));
      }
      await Promise.all(appends);
      const found = await (await harness.reopen()).loadLog();
      assert.deepEqual(
        found.map((bytes) => bytes[6]),
        Array.from({ length: 50 }, (_, i) => i),
      );
    });

    it('has no checkpoint at first, and returns the last one bit for bit after a restart', async () => {
      const store = await harness.create();
      assert.equal(await store.loadCheckpoint(), null);
      for (const epoch of [8, 9]) {
        await store.saveCheckpoint(sampleCheckpoint(epoch));
        const found = await (await harness.reopen()).loadCheckpoint();
        assert.deepEqual(found, sampleCheckpoint(epoch));
      }
    });

    it('replaces the log as a whole, and goes on appending to the new one', async () => {
      const store = await harness.create();
      await store.loadLog();
      for (const value of [1, 2, 3]) await store.appendLog(Uint8Array.of(value));
      await store.replaceLog([Uint8Array.of(3), Uint8Array.of(4, 4)]);
      await store.appendLog(Uint8Array.of(5));
      const second = await harness.reopen();
      assert.deepEqual((await second.loadLog()).map(plain), [[3], [4, 4], [5]]);
      await second.replaceLog([]);
      assert.deepEqual(await (await harness.reopen()).loadLog(), []);
    });

    it('goes on appending where it ended before a restart', async () => {
      const store = await harness.create();
      await store.loadLog();
      await store.appendLog(Uint8Array.of(1));
      const second = await harness.reopen();
      await second.loadLog();
      await second.appendLog(Uint8Array.of(2));
      assert.deepEqual((await (await harness.reopen()).loadLog()).map(plain), [[1], [2]]);
    });
  });
}

function plain(bytes: Uint8Array): number[] {
  return [...bytes];
}
