/** One scenario per fault, and one with all of them; each is a function of its seed alone. */
import assert from 'node:assert/strict';
import { checkAgreement, type Outcome, type Scenario } from './checkers.js';
import type { Manifest } from '../../protocol/manifest.js';
import { Swarm, type SwarmOptions } from './swarm.js';
import { gap } from '../../node/sim/synthetic-trainer.js';
import { LARGE, LARGE_COHORTS } from './large.js';
import { HOSTILE } from './hostile/run.js';
import { SEAL_SCENARIOS } from './seal-scenarios.js';
import { MACHINE_SCENARIOS } from './machine-scenarios.js';

/** A scenario in which all peers live from start to end and only the network misbehaves. */
function network(title: string, faults: NonNullable<SwarmOptions['faults']>): Scenario {
  return {
    title,
    async run(seed, peers) {
      const swarm = new Swarm({ seed, peers, faults });
      await swarm.startAll();
      await swarm.runToEnd();
      assert.equal(allUpdates(swarm), peers * swarm.run.manifest.schedule.epochsMax);
      return checkAgreement(swarm);
    },
  };
}

export const SCENARIOS: Readonly<Record<string, Scenario>> = {
  calm: network('peers that hear everything agree and learn', {}),
  loss: network('a third of all gossip lost is repaired by sync', { loss: 0.33 }),
  delay: network('gossip that takes up to half an epoch still counts', {
    delayMsMin: 50,
    delayMsMax: 5000,
  }),
  reorder: network('updates of later epochs that overtake earlier ones change nothing', {
    delayMsMin: 1,
    delayMsMax: 25_000,
  }),
  duplicate: network('repeated messages count once', { duplicate: 0.5, delayMsMax: 2000 }),
  reset: network('sync streams that break are taken up again', { loss: 0.5, reset: 0.05 }),

  'crash-restart': {
    title: 'a peer killed at any moment resumes from its disk',
    async run(seed, peers) {
      const swarm = new Swarm({ seed, peers, faults: { loss: 0.1, delayMsMax: 200 } });
      await swarm.startAll();
      await crashAtRandom(swarm, 1.5 * peers);
      await swarm.runToEnd();
      return checkAgreement(swarm);
    },
  },

  'late-join': {
    title: 'a peer that joins half-way gets the whole log and trains on',
    async run(seed, peers) {
      const swarm = new Swarm({ seed, peers, faults: { loss: 0.1 } });
      const late = swarm.node(peers - 1);
      for (const node of swarm.nodes) if (node !== late) await node.start();
      await swarm.runToEpoch(20);
      await late.start();
      await swarm.runToEpoch(21);
      const { adapter } = late.peer!.snapshot();
      assert.ok(
        adapter.updates >= 20 * (peers - 1) * 0.95,
        `${adapter.updates} updates after one epoch`,
      );
      await swarm.runToEnd();
      const own = late.peer!.snapshot().adapter.updates - 40 * (peers - 1);
      assert.ok(own >= 18, `the newcomer contributed ${own} updates`);
      return checkAgreement(swarm);
    },
  },

  partition: {
    title: 'two halves that could not hear each other fold to one adapter when they meet',
    async run(seed, peers) {
      const swarm = new Swarm({ seed, peers });
      await swarm.startAll();
      await swarm.runToEpoch(10);
      swarm.network.partition(new Map(swarm.nodes.map(({ peerId }, i) => [peerId, i % 2])));
      await swarm.runToEpoch(20);
      const hashes = swarm.nodes.map((node) => node.peer!.snapshot().adapter.sha256);
      assert.ok(new Set(hashes).size > 1, 'the halves drift apart while they are cut');
      swarm.network.partition(new Map());
      await swarm.runToEnd();
      assert.equal(allUpdates(swarm), peers * 40);
      return checkAgreement(swarm);
    },
  },

  islands: {
    title: 'two halves with connections enough each find each other when the network heals',
    async run(seed) {
      const swarm = new Swarm({ seed, peers: 12, degree: 3 });
      const halves = new Map(swarm.nodes.map(({ peerId }, i) => [peerId, i % 2]));
      swarm.network.partition(halves);
      await swarm.startAll();
      await swarm.runToEpoch(10);
      assert.ok(swarm.node(0).peer!.snapshot().adapter.updates <= 6 * 10, 'the halves are cut');
      swarm.network.partition(new Map());
      await swarm.runToEnd();
      assert.equal(allUpdates(swarm), 12 * 40);
      return checkAgreement(swarm);
    },
  },

  alone: {
    title: 'a peer that meets nobody for half the run trains on and merges later',
    async run(seed, peers) {
      const swarm = new Swarm({ seed, peers });
      swarm.network.partition(new Map([[swarm.node(0).peerId, 1]]));
      await swarm.startAll();
      await swarm.runToEpoch(20);
      assert.match(swarm.node(0).peer!.snapshot().attention.join(), /trains alone/);
      assert.ok(swarm.node(0).peer!.snapshot().adapter.updates >= 19);
      swarm.network.partition(new Map());
      await swarm.runToEnd();
      return checkAgreement(swarm);
    },
  },

  'slow-peers': {
    title: 'a peer ten times slower takes part with fewer steps',
    async run(seed, peers) {
      const swarm = new Swarm({ seed, peers });
      swarm.node(0).stepMs = 1200;
      swarm.node(1).stepMs = 11_000;
      await swarm.startAll();
      await swarm.runToEnd();
      const slowest = swarm.node(1).peer!.snapshot().attention.join();
      assert.match(slowest, /made 1 of 8 optimiser steps/);
      const byAuthor = swarm.node(2).peer!.snapshot().members;
      for (const index of [0, 1]) {
        const member = byAuthor.find(({ peerId }) => peerId === swarm.node(index).peerId);
        assert.ok(member && member.updatesAccepted >= 15, `node ${index} contributes`);
      }
      return checkAgreement(swarm);
    },
  },

  'clock-skew': {
    title: 'clocks that are off do not keep peers from agreeing, and a wrong one is named',
    async run(seed, peers) {
      const swarm = new Swarm({ seed, peers });
      swarm.node(0).clockOffsetMs = 8000;
      swarm.node(1).clockOffsetMs = -1000;
      await swarm.startAll();
      await swarm.runToEpoch(10);
      assert.match(swarm.node(0).peer!.snapshot().attention.join(), /8\.0 s ahead of the median/);
      assert.deepEqual(swarm.node(2).peer!.snapshot().attention, []);
      await swarm.runToEnd();
      return checkAgreement(swarm);
    },
  },

  'disk-full': {
    title: 'a full disk stops publishing, says so, and loses nothing',
    async run(seed, peers) {
      const swarm = new Swarm({ seed, peers });
      await swarm.startAll();
      await swarm.runToEpoch(10);
      const { disk } = swarm.node(0);
      disk.isFull = true;
      await swarm.runToEpoch(15);
      assert.match(swarm.node(0).peer!.snapshot().attention.join(), /full.*nothing is lost/);
      disk.isFull = false;
      await swarm.runToEnd();
      assert.deepEqual(swarm.node(0).peer!.snapshot().attention, []);
      return checkAgreement(swarm);
    },
  },

  'trainer-dies': {
    title: 'a training process that dies costs at most its epoch',
    async run(seed, peers) {
      const swarm = new Swarm({ seed, peers });
      await swarm.startAll();
      for (let epoch = 5; epoch < 15; epoch++) {
        await swarm.runToEpoch(epoch);
        swarm.node(epoch % peers).trainer!.diesNext = true;
      }
      await swarm.runToEnd();
      assert.equal(allUpdates(swarm), peers * 40, 'each epoch was trained again in its slot');
      return checkAgreement(swarm);
    },
  },

  ...MACHINE_SCENARIOS,
  large: LARGE,
  'large-cohorts': LARGE_COHORTS,
  hostile: HOSTILE,
  ...SEAL_SCENARIOS,

  everything: {
    title: 'all faults at once still end in one adapter, and the swarm still learns',
    run: (seed, peers) => allFaults(new Swarm({ seed, peers, faults: ALL_FAULTS }), 8),
  },
  'everything-cohorts': {
    title: 'the same where members publish in turn, in two cohorts or, by an odd seed, in four',
    run: (seed, peers) => {
      const change = (manifest: Manifest): Manifest => ({
        ...manifest,
        schedule: { ...manifest.schedule, cohorts: seed % 2 === 0 ? 2 : 4 },
      });
      return allFaults(new Swarm({ seed, peers, faults: ALL_FAULTS, change }), 8);
    },
  },
  'everything-small': {
    title: 'the same with the smallest updates',
    run: (seed, peers) => {
      const change = (manifest: Manifest): Manifest => ({
        ...manifest,
        compression: { codec: 'rec10' },
      });
      return allFaults(new Swarm({ seed, peers, faults: ALL_FAULTS, change }), 8);
    },
  },
  filtered: {
    title: 'all faults at once, and a member that always pulls the other way does not count',
    run: async (seed, peers) => {
      const change = (manifest: Manifest): Manifest => ({
        ...manifest,
        fold: { ...manifest.fold, mode: 'filtered' },
      });
      const swarm = new Swarm({ seed, peers, faults: ALL_FAULTS, change });
      const target = swarm.problem.targets[0]!;
      for (const [j, optimum] of swarm.problem.optimum.entries()) target[j] = -4 * optimum;
      const outcome = await allFaults(swarm, 8);
      const names = swarm
        .node(1)
        .peer!.snapshot()
        .filtered.map(({ author }) => author);
      const first = swarm.node(0).peerId;
      assert.ok(names.filter((author) => author === first).length > names.length / 2);
      return outcome;
    },
  },
  'everything-brief': {
    title: 'the same in a run of 10 epochs, for many seeds in little time',
    run: (seed, peers) => {
      const change = (manifest: Manifest): Manifest => ({
        ...manifest,
        schedule: { ...manifest.schedule, epochsMax: 10 },
      });
      return allFaults(new Swarm({ seed, peers, faults: ALL_FAULTS, change }), 3);
    },
  },
};

const ALL_FAULTS = { loss: 0.2, duplicate: 0.2, delayMsMin: 1, delayMsMax: 6000, reset: 0.02 };

/** Crashes, two that join late, three parts and crashes in them: each phase takes `phase` epochs. */
async function allFaults(swarm: Swarm, phase: number): Promise<Outcome> {
  const { length: peers } = swarm.nodes;
  const late = swarm.nodes.slice(-2);
  for (const node of swarm.nodes) if (!late.includes(node)) await node.start();
  await swarm.runToEpoch(phase - 2);
  await crashAtRandom(swarm, peers / 2, phase - 1, 2 * phase - 2);
  for (const node of late) await node.start();
  swarm.network.partition(new Map(swarm.nodes.map(({ peerId }, i) => [peerId, i % 3])));
  await crashAtRandom(swarm, peers / 2, 2 * phase - 1, 3 * phase - 2);
  swarm.network.partition(new Map());
  await swarm.runToEnd();
  const outcome = checkAgreement(swarm);
  const initial = gap(swarm.problem, new Float32Array(swarm.problem.curvature.length));
  assert.ok(outcome.gap < 0.5 * initial, `gap ${outcome.gap} of ${initial} at the start`);
  return outcome;
}

/** Kills random peers at random moments between two epochs; each comes back within two epochs. */
async function crashAtRandom(swarm: Swarm, crashes: number, from = 2, to = 36): Promise<void> {
  const random = swarm.random(`crashes/${from}`);
  const { epochMs } = swarm.run.manifest.schedule;
  const span = (to - from) * epochMs;
  const moments = Array.from({ length: Math.round(crashes) }, () => random.nextFloat() * span);
  for (const moment of moments.sort((a, b) => a - b)) {
    await swarm.time.advanceTo(swarm.epochStartMs(from) + moment);
    const running = swarm.nodes.filter(({ peer }) => peer !== null);
    const victim = running[random.nextBelow(running.length)]!;
    victim.crash();
    swarm.time.after(random.nextFloat() * 2 * epochMs, () => {
      victim.start().catch((error: unknown) => swarm.failures.push(error));
    });
  }
  await swarm.runToEpoch(to + 2);
}

/** Updates that the first live peer holds. */
function allUpdates(swarm: Swarm): number {
  return swarm.nodes.find(({ peer }) => peer !== null)!.peer!.snapshot().adapter.updates;
}
