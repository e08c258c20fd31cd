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
  const passing = async <T>(work: Promise<T>): Promise<T> => {
    const [result] = await Promise.all([work, time.advanceTo(time.nowMs + 10)]);
    return result;
  };
  return {
    loadState: () => store.loadState(),
    saveState: (state) => passing(store.saveState(state)),
    loadMoments: () => store.loadMoments(),
    saveMoments: (moments) => passing(store.saveMoments(moments)),
    loadLog: (onRecord) => store.loadLog(onRecord),
    appendLog: (record) => passing(store.appendLog(record)),
    readLog: (place) => store.readLog(place),
    get logBytes() {
      return store.logBytes;
    },
    compactLog: (records, onMoved) => passing(store.compactLog(records, onMoved)),
    loadSeal: () => store.loadSeal(),
    saveSeal: (seal) => passing(store.saveSeal(seal)),
    loadSum: (epoch) => store.loadSum(epoch),
    saveSum: (epoch, sum) => passing(store.saveSum(epoch, sum)),
    readSum: (epoch, start, end) => store.readSum(epoch, start, end),
  };
}

let disk = new SimDisk();
storeCompliance('simulated disk', {
  create: async () => timed((disk = new SimDisk())),
  reopen: async () => timed(disk),
});
