/** Scenarios in which one machine misbehaves: it sleeps, its clock jumps, its files vanish, its key leaks. */
import assert from 'node:assert/strict';
import { BROKEN_EPOCHS_MAX } from '../../node/peer/epochs.js';
import { createAmendment } from '../../protocol/amendment.js';
import { decodeGossip, encodeAmendment, encodeUpdateMessage } from '../../protocol/gossip.js';
import { RowFormats } from '../../protocol/row-format.js';
import { testIdentity, testUpdate } from '../support/runs.js';
import { checkAgreement, type Outcome, type Scenario } from './checkers.js';
import { Swarm, type SimNode } from './swarm.js';

export const MACHINE_SCENARIOS: Readonly<Record<string, Scenario>> = {
  asleep: {
    title:
      'a machine that sleeps through many epochs in the middle of training signs nothing outdated',
    async run(seed, peers) {
      const swarm = new Swarm({ seed, peers });
      await swarm.startAll();
      await swarm.runToEpoch(5);
      const { epochMs } = swarm.run.manifest.schedule;
      const { lagMax } = swarm.run.manifest.fold;
      const sleeper = swarm.node(0);
      sleeper.trainer!.sleepsNextMs = (lagMax + 3) * epochMs;
      await swarm.runToEpoch(5 + lagMax + 5);
      assert.ok(updatesOf(swarm, sleeper) >= 6, 'it takes part again');
      await swarm.runToEnd();
      assert.ok(updatesOf(swarm, sleeper) >= 40 - lagMax - 5);
      assert.deepEqual(sleeper.peer!.snapshot().attention, []);
      return checkAgreement(swarm);
    },
  },

  days: {
    title:
      'peers that come back after days, one with its clock gone wrong, go on from the swarm’s adapter with E = 0',
    async run(seed, peers) {
      const outcome = await backAfterDays(seed, peers, (residual) => residual);
      const emptied = await backAfterDays(seed, peers, ({ length }) => new Float32Array(length));
      assert.equal(outcome.sha256, emptied.sha256, 'what compression held back then is dropped');
      return outcome;
    },
  },

  resting: {
    title:
      'a peer that is paused for many epochs shares all the while, also over a restart, and then trains on',
    async run(seed, peers) {
      const swarm = new Swarm({ seed, peers, faults: { loss: 0.2 } });
      await swarm.startAll();
      const rester = swarm.node(0);
      // In the middle of a step: its epoch is given up.
      await swarm.time.advanceTo(swarm.epochStartMs(5) + 150);
      rester.rest(true);
      await swarm.runToEpoch(9);
      const paused = rester.peer!.snapshot();
      assert.equal(paused.state, 'resting');
      assert.match(paused.attention.join(), /^Training was paused/);
      rester.crash();
      await rester.start();
      await swarm.runToEpoch(20);
      const { calls } = rester.trainer!;
      assert.equal(calls, 0, 'it neither trains nor measures');
      assert.equal(updatesOf(swarm, rester), 5);
      const [mine, theirs] = [rester, swarm.node(1)].map((node) => node.peer!.snapshot());
      assert.ok(mine!.adapter.updates >= theirs!.adapter.updates - peers, 'it keeps up');
      await swarm.time.advanceTo(swarm.epochStartMs(20) + 200);
      rester.rest(false);
      await swarm.time.advanceTo(swarm.epochStartMs(20) + 300);
      assert.equal(rester.peer!.snapshot().state, 'training', 'at once, for there is time');
      await swarm.runToEnd();
      assert.equal(updatesOf(swarm, rester), 25);
      assert.deepEqual(rester.peer!.snapshot().attention, []);
      return checkAgreement(swarm);
    },
  },

  'clock-jump': {
    title: 'a clock that is set forwards and back costs the epochs in between, not those after',
    async run(seed, peers) {
      const swarm = new Swarm({ seed, peers });
      await swarm.startAll();
      const { epochMs } = swarm.run.manifest.schedule;
      const [fast, slow] = [swarm.node(0), swarm.node(1)];
      await swarm.runToEpoch(8);
      fast.setClock(15 * epochMs);
      await swarm.runToEpoch(11);
      fast.setClock(0);
      await swarm.runToEpoch(20);
      assert.ok(updatesOf(swarm, fast) >= 8 + 8, 'it trains on at once');
      slow.setClock(-10 * epochMs);
      await swarm.runToEpoch(22);
      slow.setClock(0);
      await swarm.runToEnd();
      for (const node of [fast, slow]) assert.ok(updatesOf(swarm, node) >= 34);
      return checkAgreement(swarm);
    },
  },

  'files-lost': {
    title: 'a peer that lost its state, or all but its key, signs nothing twice',
    async run(seed, peers) {
      const swarm = new Swarm({
        seed,
        peers,
        faults: { delayMsMin: 1000, delayMsMax: 1500 },
        change: (manifest) => ({
          ...manifest,
          schedule: { ...manifest.schedule, epochMs: 60_000 },
        }),
      });
      await swarm.startAll();
      const [founder, cut] = [swarm.node(0), swarm.node(1)];
      // Published, and lost with the state before the log on disk had it; nobody is there to ask.
      await swarm.time.advanceTo(swarm.epochStartMs(10) + 4000);
      swarm.network.partition(new Map([[cut.peerId, 1]]));
      cut.crash();
      cut.disk.state = null;
      dropNewestOwn(swarm, cut);
      await cut.start();
      await swarm.runToEpoch(12);
      assert.ok(updatesOf(swarm, cut, cut) >= 11, 'it left one slot out');
      swarm.network.partition(new Map());
      // The founder finds an empty directory, and the others are slow to answer.
      await swarm.time.advanceTo(swarm.epochStartMs(15) + 4000);
      founder.crash();
      [founder.disk.state, founder.disk.log] = [null, []];
      await founder.start();
      await swarm.runToEnd();
      return checkAgreement(swarm);
    },
  },

  'not-finite': {
    title:
      'epochs without a finite step count for nothing; a few in a row end training, not sharing',
    async run(seed, peers) {
      const swarm = new Swarm({ seed, peers });
      await swarm.startAll();
      await swarm.runToEpoch(5);
      const [unlucky, doomed] = [swarm.node(0), swarm.node(1)];
      const { stepsRef } = swarm.run.manifest.schedule;
      unlucky.trainer!.givesNaN = true;
      await swarm.runToEpoch(7);
      unlucky.trainer!.givesNaN = false;
      const { attention, training, state } = unlucky.peer!.snapshot();
      assert.match(attention.join(), /^No optimiser step of epoch 6 .* thrown away/);
      assert.equal(training.skippedSteps, 2 * stepsRef);
      assert.notEqual(state, 'broken');

      doomed.trainer!.givesNaN = true;
      doomed.trainer!.measuresNaN = true;
      await swarm.runToEpoch(13);
      const broken = doomed.peer!.snapshot();
      assert.equal(broken.state, 'broken');
      assert.equal(broken.training.skippedSteps, BROKEN_EPOCHS_MAX * stepsRef);
      assert.match(broken.attention.join(), /stopped training.*last good one.*--learning-rate/);
      assert.match(broken.attention.join(), /held-out loss .* is not finite/);
      const { calls } = doomed.trainer!;
      await swarm.runToEnd();
      assert.equal(doomed.trainer!.calls, calls, 'it is asked no more');
      assert.equal(doomed.peer!.snapshot().state, 'finished');
      assert.deepEqual(unlucky.peer!.snapshot().attention, []);
      assert.equal(updatesOf(swarm, unlucky), 38);
      assert.equal(updatesOf(swarm, doomed), 7);
      return checkAgreement(swarm);
    },
  },

  extended: {
    title:
      'a founder extends its run: all hear of it under loss, cut off or finished, and train on',
    async run(seed, peers) {
      const swarm = new Swarm({ seed, peers, faults: { loss: 0.5 } });
      await swarm.startAll();
      const [founder, other, cut] = [swarm.node(0), swarm.node(1), swarm.node(2)];
      await swarm.runToEpoch(30);
      assert.match((await other.peer!.extend(60)) ?? '', /Only the founder/);
      assert.match((await founder.peer!.extend(40)) ?? '', /from 41 to 100000/);
      // Neither a stranger's amendment nor a shorter one of the founder changes anything.
      const stranger = swarm.network.transport(testIdentity(99).peerId);
      await stranger.publish(encodeAmendment(createAmendment(swarm.run, other.identity, 90)));
      swarm.network.partition(new Map([[cut.peerId, 1]]));
      await Promise.all([founder.peer!.extend(50), swarm.runToEpoch(31)]);
      await stranger.publish(encodeAmendment(createAmendment(swarm.run, founder.identity, 45)));
      await swarm.runToEpoch(42);
      assert.equal(cut.peer!.snapshot().state, 'finished', 'it does not know yet');
      swarm.network.partition(new Map());
      await swarm.runToEpoch(44);
      other.crash();
      await other.start();
      for (const { peer } of swarm.nodes) assert.equal(peer!.snapshot().epochsMax, 50);
      await swarm.runToEpoch(52);
      // After the end, and with the founder's equivocation on the same day.
      const twice = [56, 60].map((epochs) =>
        stranger.publish(encodeAmendment(createAmendment(swarm.run, founder.identity, epochs))),
      );
      await Promise.all(twice);
      await swarm.runToEpoch(60);
      swarm.network.faults = { ...swarm.network.faults, loss: 0 };
      await swarm.runToEpoch(66);
      for (const node of swarm.nodes) {
        const { epochsMax, state } = node.peer!.snapshot();
        assert.deepEqual([epochsMax, state], [60, 'finished']);
      }
      assert.ok(updatesOf(swarm, cut) >= 40 + 5 + 5, 'the one that was cut off trains on too');
      return checkAgreement(swarm);
    },
  },

  'key-copied': {
    title:
      'a peer whose key was used elsewhere is evicted from that epoch on, says so, and goes on serving',
    async run(seed, peers) {
      const swarm = new Swarm({ seed, peers });
      await swarm.startAll();
      await swarm.runToEpoch(10);
      const victim = swarm.node(0);
      const stranger = swarm.network.transport(testIdentity(99).peerId);
      const second = testUpdate(swarm.run, victim.identity, 7, { salt: 'copy' });
      await stranger.publish(encodeUpdateMessage(second));
      await swarm.runToEnd();
      assert.deepEqual(swarm.failures, [], 'a peer ended with an error');
      const snapshots = swarm.nodes.map((node) => node.peer!.snapshot());
      assert.match(snapshots[0]!.attention.join(), /evicted this peer id/);
      for (const { adapter } of snapshots) {
        assert.equal(adapter.sha256, snapshots[0]!.adapter.sha256);
        assert.equal(adapter.updates, 40 * (peers - 1) + 7, 'what it sent before counts');
      }
      const { sha256, updates } = snapshots[0]!.adapter;
      return { sha256, gap: 0, updates };
    },
  },
};

/** Updates by `author` that node `at` (by default another one) holds. */
function updatesOf(swarm: Swarm, author: SimNode, at = swarm.nodes.at(-1)!): number {
  const formats = new RowFormats(swarm.run);
  const own = at.disk.log.filter((record) => {
    const message = decodeGossip(swarm.run, formats, record, 'disk');
    return message.kind === 'update' && message.update.author === author.peerId;
  });
  return own.length;
}

function dropNewestOwn(swarm: Swarm, node: SimNode): void {
  const formats = new RowFormats(swarm.run);
  const epochs = node.disk.log.map((record) => {
    const message = decodeGossip(swarm.run, formats, record, 'disk');
    const isOwn = message.kind === 'update' && message.update.author === node.peerId;
    return isOwn ? message.update.epoch : -1;
  });
  const newest = epochs.indexOf(Math.max(...epochs));
  node.disk.log = node.disk.log.filter((_, i) => i !== newest);
}

/**
 * Two peers miss more than two lagMax, as over days with epochs of hours; `change` is made to their residuals
 * meanwhile.
 */
async function backAfterDays(
  seed: number,
  peers: number,
  change: (residual: Float32Array) => Float32Array,
): Promise<Outcome> {
  const swarm = new Swarm({ seed, peers, faults: { loss: 0.1 } });
  const { schedule, fold } = swarm.run.manifest;
  const { epochMs, epochsMax } = schedule;
  const left = 6;
  const back = left + 2 * fold.lagMax + 2;
  await swarm.startAll();
  const [leaver, crasher] = [swarm.node(0), swarm.node(1)];
  await swarm.runToEpoch(left + 0.5);
  await leaver.stop();
  crasher.crash();
  for (const { disk } of [leaver, crasher]) {
    assert.ok(disk.state!.residual.some((value) => value !== 0));
    disk.state = { ...disk.state!, residual: change(disk.state!.residual) };
  }
  await swarm.runToEpoch(back + 0.1);
  // Its battery is empty: it wakes up in the epoch in which it left, and is put right in the next.
  crasher.clockOffsetMs = -(back - left) * epochMs;
  await leaver.start();
  await crasher.start();
  await swarm.runToEpoch(back + 0.9);
  crasher.setClock(0);
  await swarm.runToEpoch(back + 2);
  const { adapter } = swarm.node(2).peer!.snapshot();
  for (const { peer } of [leaver, crasher]) {
    const caughtUp = peer!.snapshot();
    assert.ok(caughtUp.adapter.updates >= adapter.updates - peers, 'it caught up');
    assert.deepEqual(caughtUp.attention, []);
  }
  await swarm.runToEnd();
  for (const node of [leaver, crasher]) {
    const updates = updatesOf(swarm, node);
    assert.ok(updates >= left + epochsMax - back - 2, `${updates} updates: it contributes again`);
  }
  return checkAgreement(swarm);
}
