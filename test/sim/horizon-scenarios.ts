/** Scenarios of runs with a horizon: the beginning of the log becomes a checkpoint, and peers must agree on it. */
import assert from 'node:assert/strict';
import type { FrameStream } from '../../node/interfaces.js';
import { checkpointEpochAt, describeTheta } from '../../protocol/checkpoint.js';
import { UpdateLog } from '../../protocol/log.js';
import type { Manifest } from '../../protocol/manifest.js';
import { SyncSession } from '../../protocol/sync.js';
import { adapterSize, testIdentity } from '../support/runs.js';
import { checkAgreement, foldOfEverything, type Outcome, type Scenario } from './checkers.js';
import { Swarm, type SimNode, type SwarmOptions } from './swarm.js';
import { gap } from '../../node/sim/synthetic-trainer.js';

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
    title: 'halves that part for longer agree on one checkpoint, and the smaller one’s work counts',
    async run(seed, peers) {
      const dropped = await partLong(seed, peers, { dropDebt: true });
      const outcome = await partLong(seed, peers, { dropDebt: false });
      assert.ok(
        outcome.gapAfter < 0.9 * dropped.gapAfter,
        `gap ${outcome.gapAfter}, without what the smaller half did ${dropped.gapAfter}`,
      );
      return outcome;
    },
  },

  'horizon-crash': {
    title: 'a peer killed at any moment of cutting resumes with the same checkpoint',
    async run(seed, peers) {
      const swarm = makeSwarm({ seed, peers });
      await swarm.startAll();
      for (let cut = 1; cut <= 12; cut++) {
        const victim = swarm.node(cut % peers);
        await swarm.runToEpoch(HORIZON + cut * SPACING);
        const before = victim.peer!.snapshot().adapter.checkpointEpoch;
        while (victim.peer!.snapshot().adapter.checkpointEpoch === before) await pass(swarm, 1);
        // Writes take 2 ms each: the checkpoint, then the log.
        await pass(swarm, cut % 6);
        victim.crash();
        await victim.start();
      }
      await swarm.runToEnd();
      const outcome = checkAgreement(swarm);
      assert.equal(outcome.sha256, foldOfEverything(swarm));
      return outcome;
    },
  },

  'horizon-liars': {
    title: 'a minority that states another checkpoint moves neither members nor a newcomer',
    async run(seed, peers) {
      const swarm = makeSwarm({ seed, peers });
      const late = swarm.node(0);
      for (const node of swarm.nodes) if (node !== late) await node.start();
      for (let i = 0; 2 * i < peers - 2; i++)
        await startLiar(swarm, testIdentity(i, 'liar').peerId);
      await swarm.runToEpoch(30.2);
      await late.start();
      await swarm.runToEpoch(42.5);
      const said = swarm.nodes.flatMap((node) => node.peer!.snapshot().attention).join();
      assert.match(said, /another checkpoint .* keeps its own, which most members share/);
      await swarm.runToEnd();
      const outcome = checkAgreement(swarm);
      assert.equal(outcome.sha256, foldOfEverything(swarm));
      assert.ok(late.peer!.snapshot().adapter.checkpointEpoch > 0);
      return outcome;
    },
  },

  'horizon-return': {
    title:
      'a peer that comes back after longer than the horizon, or without its files, takes up the swarm’s checkpoint',
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
      // What is left when checkpoint.bin is damaged: it was put aside, and the log with it.
      crasher.crash();
      [crasher.disk.checkpoint, crasher.disk.log] = [null, []];
      await crasher.start();
      await swarm.runToEpoch(54);
      assert.ok(crasher.peer!.snapshot().adapter.checkpointEpoch > 0);
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

/** A swarm whose first two peers, `few`, have just met the others again after three horizons alone. */
export async function afterLongPartition(
  seed: number,
  peers: number,
): Promise<{ swarm: Swarm; few: SimNode[] }> {
  const swarm = makeSwarm({ seed, peers });
  await swarm.startAll();
  await swarm.runToEpoch(12);
  const few = swarm.nodes.slice(0, 2);
  swarm.network.partition(new Map(few.map(({ peerId }) => [peerId, 1])));
  await swarm.runToEpoch(45.5);
  swarm.network.partition(new Map());
  return { swarm, few };
}

/** The two that gave way are restarted at once, with or without what they owe. */
async function partLong(
  seed: number,
  peers: number,
  { dropDebt }: { dropDebt: boolean },
): Promise<Outcome & { gapAfter: number }> {
  const { swarm, few } = await afterLongPartition(seed, peers);
  await swarm.runToEpoch(45.9);
  for (const node of few) {
    const stored = node.disk.checkpoint!;
    assert.ok(stored.debt !== null, 'whoever gives way owes its work');
    if (dropDebt) node.disk.checkpoint = { ...stored, debt: null };
    node.crash();
    await node.start();
  }
  await swarm.runToEpoch(52);
  const gapAfter = gap(swarm.problem, swarm.node(2).peer!.theta());
  await swarm.runToEnd();
  return { ...checkAgreement(swarm), gapAfter };
}

async function pass(swarm: Swarm, delayMs: number): Promise<void> {
  await swarm.time.advanceTo(swarm.time.nowMs + delayMs);
}

/** A member that answers each sync with a checkpoint of its own invention, with more contributions than any. */
async function startLiar(swarm: Swarm, peerId: string): Promise<void> {
  const transport = swarm.network.transport(peerId);
  const theta = new Float64Array(adapterSize(swarm.run)).fill(7);
  const serve = async (stream: FrameStream): Promise<void> => {
    const { startMs, epochMs, epochsMax } = swarm.run.manifest.schedule;
    const now = Math.floor((swarm.time.nowMs - startMs) / epochMs);
    const epoch = checkpointEpochAt(swarm.run.manifest.fold, now, epochsMax);
    const digest = '66'.repeat(32);
    const lie = { epoch, digest, contributions: 1000 * epoch, ancestors: [] };
    const log = new UpdateLog();
    log.setFloor(epoch);
    const session = new SyncSession(swarm.run, log, new Set(), { ...lie, ...describeTheta(theta) });
    await stream.send(session.hello(swarm.time.nowMs));
    for await (const frame of stream.frames) {
      const { kind } = session.receive(frame);
      if (kind === 'differs') for (const part of session.vectors()) await stream.send(part);
      const answer = kind === 'have' ? session.want(-1) : kind === 'want' ? session.reply() : [];
      for (const part of answer) await stream.send(part);
      if (kind === 'want') await stream.close();
    }
  };
  await transport.start({
    onGossip: () => 'ignore',
    onStream: async (kind, stream) => {
      if (kind === 'sync') await serve(stream);
      else stream.abort(new Error('no blobs here'));
    },
    onConnect: () => undefined,
    isMember: () => true,
    onDisconnect: () => undefined,
  });
}
