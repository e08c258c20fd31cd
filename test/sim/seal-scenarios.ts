/** Scenarios of closed runs: members seal what they hold, and agree however they part, crash, lie or come late. */
import assert from 'node:assert/strict';
import type { Manifest } from '../../protocol/manifest.js';
import { createSeal, encodeStatement } from '../../protocol/seal.js';
import { encodeSeal } from '../../protocol/gossip.js';
import { testIdentity } from '../support/runs.js';
import { checkAgreement, foldOfEverything, type Scenario } from './checkers.js';
import { Swarm, type SimNode, type SwarmOptions } from './swarm.js';

/** Epochs between two seals, and after which members sign. */
const EVERY = 4;
const AFTER = 3;
const EPOCHS = 60;

/** Of the last seal of a run. */
const LAST = Math.ceil(EPOCHS / EVERY) * EVERY;

/** A swarm of listed members; seals go on after the end of the run, so scenarios wait for the last one. */
function makeSwarm(options: SwarmOptions): Swarm {
  const members = Array.from({ length: options.peers }, (_, i) => ({
    peerId: testIdentity(i, `swarm/${options.seed}`).peerId,
    weight: 1,
  }));
  const change = (manifest: Manifest): Manifest => ({
    ...manifest,
    schedule: { ...manifest.schedule, epochsMax: EPOCHS },
    fold: { ...manifest.fold, sealEvery: EVERY, sealAfter: AFTER },
    membership: { mode: 'allowlist', members },
  });
  return new Swarm({ change, ...options });
}

/** To the end, and until the last seal is due and adopted. */
async function runToLastSeal(swarm: Swarm): Promise<void> {
  await swarm.runToEnd(AFTER + EVERY + 6);
}

function sealedEpochOf(node: SimNode): number {
  return node.peer!.snapshot().adapter.sealedEpoch;
}

export const SEAL_SCENARIOS: Readonly<Record<string, Scenario>> = {
  'seal-long-run': {
    title: 'a long run seals all of it, drops nothing that counts, and keeps memory bounded',
    async run(seed, peers) {
      const faults = { loss: 0.2, delayMsMin: 1, delayMsMax: 5000, reset: 0.01 };
      const swarm = makeSwarm({ seed, peers, faults });
      await swarm.startAll();
      await swarm.runToEpoch(40.5);
      for (const node of swarm.nodes) assert.ok(sealedEpochOf(node) >= 40 - AFTER - 2 * EVERY);
      await runToLastSeal(swarm);
      const outcome = checkAgreement(swarm);
      assert.equal(outcome.updates, EPOCHS * peers);
      assert.equal(outcome.sha256, foldOfEverything(swarm));
      for (const node of swarm.nodes) {
        assert.equal(sealedEpochOf(node), LAST);
        assert.equal(node.disk.seal?.logStart, 0, 'the disk keeps every update');
        assert.ok(node.disk.sums.size <= 2, 'sums of old seals go');
        for (const member of node.peer!.snapshot().members) {
          const { updatesAccepted, lastUpdateEpoch } = member;
          assert.deepEqual(
            [updatesAccepted, lastUpdateEpoch],
            [EPOCHS, EPOCHS - 1],
            'sealed counts',
          );
        }
      }
      return outcome;
    },
  },

  'seal-late-join': {
    title:
      'a member that comes late verifies a certificate, fetches the sum and goes on from there',
    async run(seed, peers) {
      const swarm = makeSwarm({ seed, peers, faults: { loss: 0.1, reset: 0.02 } });
      const late = swarm.node(peers - 1);
      for (const node of swarm.nodes) if (node !== late) await node.start();
      await swarm.runToEpoch(30.2);
      await late.start();
      await swarm.runToEpoch(33.9);
      assert.ok(sealedEpochOf(late) >= 24, `sealed up to ${sealedEpochOf(late)}`);
      await runToLastSeal(swarm);
      const outcome = checkAgreement(swarm);
      assert.equal(outcome.sha256, foldOfEverything(swarm));
      const own = outcome.updates - EPOCHS * (peers - 1);
      assert.ok(own >= 26, `the newcomer contributed ${own} updates`);
      return outcome;
    },
  },

  'seal-minority-away': {
    title: 'a minority that was apart takes the certificate, and sends its own work again',
    async run(seed, peers) {
      const swarm = makeSwarm({ seed, peers });
      await swarm.startAll();
      await swarm.runToEpoch(12);
      const away = swarm.node(0);
      swarm.network.partition(new Map([[away.peerId, 1]]));
      await swarm.runToEpoch(36.5);
      assert.ok(sealedEpochOf(away) < 12 && sealedEpochOf(swarm.node(1)) > 20);
      swarm.network.partition(new Map());
      await swarm.runToEpoch(40.5);
      assert.ok(sealedEpochOf(away) > 20, 'it has followed the others');
      assert.ok(away.disk.state?.settledSeal, 'its own work went back into its residual');
      await runToLastSeal(swarm);
      const outcome = checkAgreement(swarm);
      assert.ok(outcome.updates < EPOCHS * peers, 'its updates of sealed epochs do not count');
      return outcome;
    },
  },

  'seal-halves': {
    title: 'halves that part seal nothing, and their union counts when they meet',
    async run(seed, peers) {
      const swarm = makeSwarm({ seed, peers });
      await swarm.startAll();
      await swarm.runToEpoch(10);
      const half = swarm.nodes.slice(0, Math.floor(peers / 2));
      swarm.network.partition(new Map(half.map(({ peerId }) => [peerId, 1])));
      await swarm.runToEpoch(40.5);
      for (const node of swarm.nodes) assert.ok(sealedEpochOf(node) <= 8, 'no quorum, no seal');
      const said = swarm.node(0).peer!.snapshot().attention.join();
      assert.match(said, /have not agreed .* signed the same/);
      swarm.network.partition(new Map());
      await runToLastSeal(swarm);
      const outcome = checkAgreement(swarm);
      assert.equal(outcome.updates, EPOCHS * peers, 'nothing is lost');
      assert.equal(outcome.sha256, foldOfEverything(swarm));
      assert.equal(sealedEpochOf(swarm.node(0)), LAST, 'sealing goes on');
      return outcome;
    },
  },

  'seal-three-ways': {
    title:
      'members that are apart each for itself agree when they meet, with no attacker and no majority',
    async run(seed) {
      const swarm = makeSwarm({ seed, peers: 3 });
      await swarm.startAll();
      await swarm.runToEpoch(6);
      swarm.network.partition(new Map(swarm.nodes.map(({ peerId }, i) => [peerId, i])));
      await swarm.runToEpoch(46.5);
      swarm.network.partition(new Map());
      await runToLastSeal(swarm);
      const outcome = checkAgreement(swarm);
      assert.equal(outcome.updates, EPOCHS * 3);
      return outcome;
    },
  },

  'seal-late-updates': {
    title: 'a peer that delivers only after the others have signed splits nobody',
    async run(seed, peers) {
      const swarm = makeSwarm({ seed, peers });
      await swarm.startAll();
      const slow = swarm.node(peers - 1);
      for (let epoch = 8; epoch < 40; epoch += EVERY) {
        // It is cut off, and comes back around the moment at which the seal is due.
        await swarm.runToEpoch(epoch - 2);
        swarm.network.partition(new Map([[slow.peerId, 1]]));
        await swarm.runToEpoch(epoch + AFTER + (((seed + epoch) % 5) - 2) / 1000);
        swarm.network.partition(new Map());
      }
      await runToLastSeal(swarm);
      const outcome = checkAgreement(swarm);
      assert.ok(outcome.updates >= EPOCHS * (peers - 1));
      assert.equal(sealedEpochOf(swarm.node(0)), LAST);
      return outcome;
    },
  },

  'seal-crash': {
    title:
      'a peer killed at any moment of sealing goes on with the same seal and signs no second one',
    async run(seed, peers) {
      const swarm = makeSwarm({ seed, peers });
      await swarm.startAll();
      for (let cut = 1; cut <= 12; cut++) {
        const victim = swarm.node(cut % peers);
        await swarm.runToEpoch(AFTER + cut * EVERY);
        // Writes take 2 ms each: sum, seal, certificate.
        await pass(swarm, (5 * cut) % 37);
        victim.crash();
        await victim.start();
      }
      await runToLastSeal(swarm);
      for (const { peer } of swarm.nodes) {
        assert.deepEqual(peer!.snapshot().attention, [], 'nobody was evicted');
      }
      const outcome = checkAgreement(swarm);
      assert.equal(outcome.sha256, foldOfEverything(swarm));
      return outcome;
    },
  },

  'seal-liars': {
    title: 'a member that signs a seal for every member to like moves nobody, and is evicted',
    async run(seed, peers) {
      const swarm = makeSwarm({ seed, peers });
      const liar = testIdentity(0, `swarm/${seed}`);
      const honest = swarm.nodes.slice(1);
      for (const node of honest) await node.start();
      const transport = swarm.network.transport(liar.peerId);
      await transport.start({
        onGossip: () => 'ignore',
        onStream: async (_, stream) => stream.abort(new Error('nothing here')),
        onConnect: () => undefined,
        isMember: () => true,
        onDisconnect: () => undefined,
      });
      for (let epoch = EVERY; epoch <= 40; epoch += EVERY) {
        await swarm.runToEpoch(epoch + AFTER);
        for (const other of ['11', '22']) {
          const statement = encodeStatement(swarm.run, {
            ...{ epoch, previous: null, sum: other.repeat(32), updates: 3 },
            contents: { root: other.repeat(32), size: 100 },
          });
          await transport.publish(encodeSeal(createSeal(statement, liar)));
        }
      }
      await swarm.runToEpoch(50);
      for (const node of honest) {
        assert.ok(sealedEpochOf(node) >= 40, 'the others seal without it');
        const seen = node.peer!.snapshot().members.find(({ peerId }) => peerId === liar.peerId);
        assert.ok((seen?.rejected.equivocation ?? 0) > 0, 'it was caught');
      }
      await runToLastSeal(swarm);
      const outcome = checkAgreement(swarm);
      assert.equal(outcome.updates, EPOCHS * honest.length);
      return outcome;
    },
  },

  'seal-return': {
    title: 'a peer that comes back after many seals, or without its files, takes up the newest',
    async run(seed, peers) {
      const swarm = makeSwarm({ seed, peers, faults: { reset: 0.02 } });
      await swarm.startAll();
      const leaver = swarm.node(0);
      await swarm.runToEpoch(12.5);
      await leaver.stop();
      await swarm.runToEpoch(40.5);
      await leaver.start();
      await swarm.runToEpoch(45);
      assert.deepEqual(leaver.peer!.snapshot().attention, []);
      assert.ok(sealedEpochOf(leaver) >= 36);
      leaver.crash();
      [leaver.disk.seal, leaver.disk.log] = [null, []];
      await leaver.start();
      await swarm.runToEpoch(50);
      assert.ok(sealedEpochOf(leaver) >= 40);
      await runToLastSeal(swarm);
      return checkAgreement(swarm);
    },
  },

  'restored-backup': {
    title: 'a backup that is put back loses no past work and signs nothing twice',
    async run(seed, peers) {
      const swarm = makeSwarm({ seed, peers });
      await swarm.startAll();
      const node = swarm.node(1);
      await swarm.runToEpoch(10.3);
      const backup = node.disk.snapshot();
      await swarm.runToEpoch(20.6);
      node.crash();
      node.disk.restore(backup);
      await node.start();
      await swarm.runToEpoch(30.5);
      assert.deepEqual(node.peer!.snapshot().attention, []);
      await runToLastSeal(swarm);
      const outcome = checkAgreement(swarm);
      assert.ok(outcome.updates >= EPOCHS * peers - 2, `${outcome.updates} updates count`);
      return outcome;
    },
  },
};

async function pass(swarm: Swarm, delayMs: number): Promise<void> {
  await swarm.time.advanceTo(swarm.time.nowMs + delayMs);
}
