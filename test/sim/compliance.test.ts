/** The suites of Transport and Store on the simulator's: what it stands in for, it must behave like. */
import assert from 'node:assert/strict';
import type { Store } from '../../node/interfaces.js';
import { Prng } from '../../protocol/prng.js';
import { storeCompliance } from '../compliance/store.js';
import { transportCompliance, type TransportSwarm } from '../compliance/transport.js';
import { testIdentity } from '../support/runs.js';
import { VirtualTime } from '../../node/sim/clock.js';
import { NO_FAULTS, SimNetwork } from '../../node/sim/network.js';
import { SimDisk, SimStore } from '../../node/sim/store.js';

/** Virtual time that anything may take at most. */
const PATIENCE_MS = 60_000;

async function makeSwarm(count: number): Promise<TransportSwarm> {
  const time = new VirtualTime(0);
  const network = new SimNetwork(time, new Prng(new Uint8Array(32), 'compliance'), NO_FAULTS);
  const members = Array.from({ length: count }, (_, i) => {
    const { peerId } = testIdentity(i, 'compliance');
    return { peerId, transport: network.transport(peerId) };
  });
  const pass = async (): Promise<void> => {
    await time.advanceTo(time.nowMs + 10);
  };
  const until: TransportSwarm['until'] = async (what, condition) => {
    const endMs = time.nowMs + PATIENCE_MS;
    while (!condition()) {
      assert.ok(time.nowMs < endMs, `waited for ${what}`);
      await pass();
    }
  };
  // Whoever has started is connected to all in reach: before connect() nobody is.
  network.partition(new Map(members.map(({ peerId }, i) => [peerId, i])));
  return {
    members,
    until,
    async connect() {
      network.partition(new Map());
    },
    async run(work) {
      let isSettled = false;
      const settled = work.finally(() => {
        isSettled = true;
      });
      settled.catch(() => undefined);
      await until('the operation', () => isSettled);
      return settled;
    },
    async stop() {
      for (const { transport } of members) await transport.stop();
      await pass();
    },
  };
}

transportCompliance('simulated network', makeSwarm);

/** A store whose virtual time passes by itself. */
function timed(disk: SimDisk): Store {
  const time = new VirtualTime(0);
  const store = new SimStore(disk, time);
  const passing = async (work: Promise<void>): Promise<void> => {
    await Promise.all([work, time.advanceTo(time.nowMs + 10)]);
  };
  return {
    loadState: () => store.loadState(),
    loadLog: () => store.loadLog(),
    saveState: (state) => passing(store.saveState(state)),
    appendLog: (record) => passing(store.appendLog(record)),
    replaceLog: (records) => passing(store.replaceLog(records)),
    loadCheckpoint: () => store.loadCheckpoint(),
    saveCheckpoint: (stored) => passing(store.saveCheckpoint(stored)),
  };
}

let disk = new SimDisk();
storeCompliance('simulated disk', {
  create: async () => timed((disk = new SimDisk())),
  reopen: async () => timed(disk),
});
