/** Faults that were found in the program, each as a scenario: expected-red.ts says which of them it still has. */
import assert from 'node:assert/strict';
import type { SimDisk } from '../../../node/sim/store.js';
import { encodeEquivocation } from '../../../protocol/gossip.js';
import type { Manifest } from '../../../protocol/manifest.js';
import { testIdentity } from '../../support/runs.js';
import type { Outcome, Scenario } from '../checkers.js';
import { Swarm } from '../swarm.js';
import { BaseLiar, FORGED_VALUE, sealing, sealInstants } from './base-liar.js';
import { COST_FAULTS } from './cost-faults.js';
import { HIDDEN_ROWS } from './hidden-rows.js';
import { RESTORED_LEDGER } from './restored-ledger.js';
import { DiskReader, sharedDisk } from './disks.js';
import { throwAwayProof } from './messages.js';

export const KNOWN_FAULTS: Readonly<Record<string, Scenario>> = {
  'invented-base': {
    title: 'one member that speaks first with an adapter of its own invention moves nobody’s',
    async run(seed, peers) {
      const liar = testIdentity(0, 'liar');
      const epochsMax = 40;
      const swarm = new Swarm({
        ...{ seed, peers },
        change: (base) => closed(sealing(base, epochsMax), `swarm/${seed}`, peers, liar.peerId),
      });
      const member = new BaseLiar(swarm, liar);
      await member.start();
      await swarm.startAll();
      for (const epoch of sealInstants(swarm, epochsMax)) {
        await swarm.runToEpoch(epoch);
        await pass(swarm, 1);
        member.speakFirst();
        await pass(swarm, 200);
        for (const node of swarm.nodes) {
          const [first = 0] = node.peer!.theta();
          const distance = Math.abs(first - FORGED_VALUE);
          assert.ok(distance > 1, `peer ${node.index} took the invented adapter in epoch ${epoch}`);
        }
      }
      await swarm.runToEnd(20);
      return endOf(swarm);
    },
  },

  'three-apart': {
    title: 'three that were each alone for many seals have one adapter again',
    async run(seed) {
      const swarm = new Swarm({
        ...{ seed, peers: 4 },
        change: (base) => closed(sealing(base, 90), `swarm/${seed}`, 4),
      });
      const visitor = swarm.node(3);
      await swarm.startAll();
      await swarm.runToEpoch(12);
      swarm.network.partition(new Map(swarm.nodes.map(({ peerId }, i) => [peerId, i])));
      await swarm.runToEpoch(40);
      visitor.crash();
      swarm.network.partition(new Map());
      // A laptop that is there for a third of every third epoch.
      for (let epoch = 42; epoch < 89; epoch += 3) {
        await swarm.runToEpoch(epoch);
        await visitor.start();
        await swarm.runToEpoch(epoch + 0.3);
        visitor.crash();
      }
      await swarm.runToEpoch(89.9);
      const adapters = swarm.nodes.slice(0, 3).map((node) => node.peer!.snapshot().adapter.sha256);
      assert.equal(new Set(adapters).size, 1, 'one adapter 49 epochs after they met again');
      await visitor.start();
      await swarm.runToEnd(20);
      const outcome = endOf(swarm);
      assert.ok(
        outcome.updates >= 3 * 90,
        `${outcome.updates} updates: all work of the three counts`,
      );
      return outcome;
    },
  },

  'throw-away-proofs': {
    title: 'proofs against a thousand throw-away keys cost nobody a place in the run',
    async run(seed) {
      const swarm = new Swarm({ seed, peers: 5 });
      const late = swarm.node(4);
      for (const node of swarm.nodes) if (node !== late) await node.start();
      await swarm.runToEpoch(6.5);
      const stranger = swarm.network.transport(testIdentity(0, 'stranger').peerId);
      for (let i = 0; i < 1100; i++) {
        const proof = throwAwayProof(swarm.run, `${seed}/${i}`);
        await stranger.publish(encodeEquivocation(proof));
      }
      await swarm.runToEpoch(8.5);
      await late.start();
      await swarm.runToEpoch(20);
      // One that starts again, and one that has to fetch everything.
      const [restarted, emptied] = [swarm.node(0), swarm.node(1)];
      restarted.crash();
      await restarted.start();
      emptied.crash();
      [emptied.disk.log, emptied.disk.state] = [[], null];
      await emptied.start();
      await swarm.runToEnd(10);
      const outcome = endOf(swarm);
      // Each start of a process leaves a slot out.
      assert.ok(outcome.updates >= 40 * 4 + 25, `${outcome.updates} updates: the newcomer counts`);
      return outcome;
    },
  },

  'restored-snapshot': restored(
    'a backup that is put back costs its owner the slot, not its past',
    0,
  ),
  'restored-snapshot-offline': restored(
    'nor does it where the network comes up a minute after the program',
    60_000,
  ),

  'copied-directory': {
    title: 'a data directory that runs twice costs its owner what comes after, not what was before',
    async run(seed, peers) {
      const swarm = new Swarm({ seed, peers });
      const owner = swarm.node(1);
      await swarm.startAll();
      await swarm.runToEpoch(10.5);
      const disk = sharedDisk();
      disk.restore(owner.disk.snapshot());
      const copy = swarm.copyOf(owner, disk);
      await copy.start();
      await swarm.runToEpoch(15);
      copy.crash();
      await swarm.runToEnd();
      const outcome = endOf(swarm);
      assert.ok(
        outcome.updates >= 40 * (peers - 1) + 10,
        `${outcome.updates} updates: the past counts`,
      );
      return outcome;
    },
  },

  ...COST_FAULTS,
  'hidden-rows': HIDDEN_ROWS,
  'restored-ledger': RESTORED_LEDGER,
};

/** Puts a peer back to a snapshot of its disk in a slot that it signed for since; `offlineMs`: without a network. */
function restored(title: string, offlineMs: number): Scenario {
  return {
    title,
    async run(seed, peers) {
      const epochs = 24;
      const swarm = new Swarm({
        ...{ seed, peers },
        change: (base) => ({
          ...base,
          schedule: { ...base.schedule, epochMs: 600_000, epochsMax: epochs },
        }),
      });
      await swarm.startAll();
      const owner = swarm.node(2);
      await swarm.runToEpoch(8.5);
      const backup: SimDisk = owner.disk.snapshot();
      await swarm.runToEpoch(10.2);
      owner.crash();
      owner.disk.restore(backup);
      swarm.drawAgain(owner);
      const others = swarm.nodes.filter((node) => node !== owner);
      const links = others.map(({ peerId }) => [owner.peerId, peerId] as const);
      if (offlineMs > 0) swarm.network.cut(links, true);
      await owner.start();
      await pass(swarm, offlineMs);
      swarm.network.cut(links, false);
      await swarm.runToEnd();
      const outcome = endOf(swarm);
      const least = epochs * peers - 2;
      assert.ok(outcome.updates >= least, `${outcome.updates} updates, at least ${least} expected`);
      return outcome;
    },
  };
}

/** All honest peers have one adapter: that of everything that was ever on a disk, nobody evicted without need. */
function endOf(swarm: Swarm): Outcome {
  assert.deepEqual(swarm.failures, [], 'no peer ended with an error');
  const adapters = swarm.nodes.map(({ peer }) => peer!.snapshot().adapter);
  const said = adapters.map(({ sha256, updates }) => `${sha256.slice(0, 8)}:${updates}`).join(' ');
  const hashes = new Set(adapters.map(({ sha256 }) => sha256));
  assert.equal(hashes.size, 1, `one adapter; adapter:updates ${said}`);
  const reader = new DiskReader(swarm.run);
  const records = swarm.nodes.flatMap(({ disk }) => disk.everAppended);
  reader.note(reader.updates(records));
  const seals = swarm.nodes.map(({ disk }) => reader.sealOf(disk));
  const newest = seals.reduce((a, b) => ((b?.epoch ?? 0) > (a?.epoch ?? 0) ? b : a), null);
  const everything = reader.set(records, newest);
  const { sha256, updates } = adapters[0]!;
  assert.equal(
    sha256,
    reader.adapterOf(everything),
    'the fold of all that was ever on a disk, but for what a seal left out',
  );
  return { sha256, updates, gap: 0 };
}

function closed(base: Manifest, label: string, peers: number, ...others: string[]): Manifest {
  const ids = Array.from({ length: peers }, (_, i) => testIdentity(i, label).peerId);
  const members = [...ids, ...others].map((peerId) => ({ peerId, weight: 1 }));
  return { ...base, membership: { mode: 'allowlist', members } };
}

async function pass(swarm: Swarm, delayMs: number): Promise<void> {
  await swarm.time.advanceTo(swarm.time.nowMs + delayMs);
}
