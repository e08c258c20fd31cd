/** Scenarios of runs with a horizon: the beginning of the log becomes a checkpoint, and peers must agree on it. */
import assert from 'node:assert/strict';
import type { Manifest } from '../../protocol/manifest.js';
import { checkAgreement, foldOfEverything, type Scenario } from './checkers.js';
import { Swarm, type SimNode, type SwarmOptions } from './swarm.js';

/** Epochs that stay in the log; a checkpoint is cut every third. */
const HORIZON = 10;
const SPACING = 3;

function withHorizon(manifest: Manifest): Manifest {
  return {
    ...manifest,
    schedule: { ...manifest.schedule, epochsMax: 60 },
    fold: { ...manifest.fold, horizonEpochs: HORIZON },
  };
}

function makeSwarm(options: SwarmOptions): Swarm {
  return new Swarm({ change: withHorizon, ...options });
}

export const HORIZON_SCENARIOS: Readonly<Record<string, Scenario>> = {
  'horizon-long-run': {
    title: 'a long run keeps memory and disk bounded, and the adapter of a log kept whole',
    async run(seed, peers) {
      const faults = { loss: 0.2, delayMsMin: 1, delayMsMax: 5000, reset: 0.01 };
      const swarm = makeSwarm({ seed, peers, faults });
      await swarm.startAll();
      await swarm.runToEnd();
      const outcome = checkAgreement(swarm);
      assert.equal(outcome.updates, 60 * peers);
      assert.equal(outcome.sha256, foldOfEverything(swarm));
      for (const { disk } of swarm.nodes) {
        const epochsMax = HORIZON + SPACING + 1;
        assert.ok(disk.recordsMax <= epochsMax * peers, `${disk.recordsMax} records at one time`);
        assert.equal(disk.checkpoint?.checkpoint.epoch, 48);
      }
      return outcome;
    },
  },

  'horizon-late-join': {
    title: 'a peer that joins when the beginning was dropped goes on from the checkpoint',
    async run(seed, peers) {
      const swarm = makeSwarm({ seed, peers, faults: { loss: 0.1, reset: 0.02 } });
      const late = swarm.node(peers - 1);
      for (const node of swarm.nodes) if (node !== late) await node.start();
      await swarm.runToEpoch(30.2);
      await late.start();
      await swarm.runToEpoch(33.9);
      const [joined, old] = [late, swarm.node(0)].map((node) => node.peer!.snapshot());
      assert.ok(joined!.adapter.checkpointEpoch >= 18);
      assert.equal(joined!.adapter.checkpointEpoch, old!.adapter.checkpointEpoch);
      await swarm.runToEnd();
      const outcome = checkAgreement(swarm);
      assert.equal(outcome.sha256, foldOfEverything(swarm));
      const own = outcome.updates - 60 * (peers - 1);
      assert.ok(own >= 24, `the newcomer contributed ${own} updates`);
      return outcome;
    },
  },

  'horizon-partition-short': {
    title: 'halves that part for less than the horizon fold to what a log kept whole gives',
    async run(seed, peers) {
      const swarm = makeSwarm({ seed, peers });
      await swarm.startAll();
      await swarm.runToEpoch(15);
      halve(swarm);
      await swarm.runToEpoch(15 + HORIZON - 1);
      swarm.network.partition(new Map());
      await swarm.runToEnd();
      const outcome = checkAgreement(swarm);
      assert.equal(outcome.sha256, foldOfEverything(swarm));
      assert.equal(outcome.updates, 60 * peers);
      return outcome;
    },
  },

  'horizon-partition-long': {
    title: 'halves that part for longer agree on one checkpoint, and no half’s work is lost',
    async run(seed, peers) {
      const swarm = makeSwarm({ seed, peers });
      await swarm.startAll();
      await swarm.runToEpoch(15);
      halve(swarm);
      await swarm.runToEpoch(45);
      swarm.network.partition(new Map());
      await swarm.runToEnd();
      return checkAgreement(swarm);
    },
  },

  'horizon-return': {
    title: 'a peer that comes back after longer than the horizon takes up the swarm’s checkpoint',
    async run(seed, peers) {
      const swarm = makeSwarm({ seed, peers, faults: { reset: 0.02 } });
      await swarm.startAll();
      const [leaver, crasher] = [swarm.node(0), swarm.node(1)];
      await swarm.runToEpoch(12.5);
      await leaver.stop();
      crasher.crash();
      await swarm.runToEpoch(40.5);
      await leaver.start();
      await crasher.start();
      await swarm.runToEpoch(50);
      for (const node of [leaver, crasher]) {
        assert.deepEqual(node.peer!.snapshot().attention, []);
      }
      await swarm.runToEnd();
      const outcome = checkAgreement(swarm);
      assert.ok(outcome.updates >= 60 * peers - 2 * 36);
      return outcome;
    },
  },
};

/** Two groups of peers, the second at least as large. */
function halve(swarm: Swarm): void {
  const half = Math.floor(swarm.nodes.length / 2);
  const groups = swarm.nodes.map(({ peerId }: SimNode, i): [string, number] => [
    peerId,
    i < half ? 1 : 0,
  ]);
  swarm.network.partition(new Map(groups));
}
