/** Faults of sealing that random plans found. */
import assert from 'node:assert/strict';
import type { Manifest } from '../../../protocol/manifest.js';
import { testIdentity } from '../../support/runs.js';
import { checkAgreement, type Scenario } from '../checkers.js';
import { Swarm } from '../swarm.js';
import { DiskReader } from './disks.js';

/** A run of listed members that seals each epoch, so that little time is enough for many seals. */
function makeSwarm(seed: number, peers: number): Swarm {
  const members = Array.from({ length: peers }, (_, i) => ({
    peerId: testIdentity(i, `swarm/${seed}`).peerId,
    weight: 1,
  }));
  const change = (base: Manifest): Manifest => ({
    ...base,
    fold: { ...base.fold, sealEvery: 1, sealAfter: 2 },
    membership: { mode: 'allowlist', members },
  });
  return new Swarm({ seed, peers, change });
}

export const SEAL_FAULTS: Readonly<Record<string, Scenario>> = {
  'clock-jump-between-seals': {
    title: 'a clock that jumps over many seals and back makes its owner sign none of them twice',
    async run(seed) {
      const swarm = makeSwarm(seed, 6);
      const { epochMs } = swarm.run.manifest.schedule;
      const jumper = swarm.node(1);
      const away = swarm.nodes.slice(4);
      await swarm.startAll();
      await swarm.runToEpoch(4);
      // Four of six are no quorum: what is signed stays open, and the halves sign different things.
      for (const node of away) node.crash();
      swarm.network.partition(new Map(swarm.nodes.map(({ peerId }, i) => [peerId, i % 2])));
      await swarm.runToEpoch(10.5);
      swarm.network.partition(new Map());
      await swarm.runToEpoch(12.3);
      jumper.setClock(8 * epochMs);
      await swarm.runToEpoch(12.8);
      // By its clock now, what it signed before the updates of the other half came is due.
      jumper.setClock(-5 * epochMs);
      await swarm.runToEpoch(13.3);
      jumper.setClock(0);
      for (const node of away) await node.start();
      await swarm.runToEnd(10);
      const reader = new DiskReader(swarm.run);
      const own = reader
        .seals(jumper.disk.everAppended)
        .filter(({ member }) => member === jumper.peerId)
        .map(({ statement }) => statement);
      const names = new Set(own.map(({ epoch, id }) => `${epoch} ${id}`));
      const epochs = new Set(own.map(({ epoch }) => epoch));
      assert.equal(names.size, epochs.size, 'one statement for each epoch');
      return checkAgreement(swarm);
    },
  },

  'sum-of-an-old-seal': {
    title: 'the sum of the newest certificate can be had however many seals found no quorum since',
    async run(seed) {
      const swarm = makeSwarm(seed, 4);
      await swarm.startAll();
      await swarm.runToEpoch(8.5);
      const [emptied, away] = [swarm.node(2), swarm.node(3)];
      for (const node of [emptied, away]) node.crash();
      await swarm.runToEpoch(20.5);
      Object.assign(emptied.disk, { log: [], state: null, moments: null, seal: null });
      emptied.disk.sums.clear();
      await emptied.start();
      await swarm.runToEpoch(24.9);
      const [mine, theirs] = [emptied, swarm.node(0)].map((node) => node.peer!.snapshot().adapter);
      assert.equal(mine!.sha256, theirs!.sha256, 'it has the adapter of the others');
      await away.start();
      await swarm.runToEnd(10);
      return checkAgreement(swarm);
    },
  },
};
