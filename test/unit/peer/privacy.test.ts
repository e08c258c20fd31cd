import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { StoreUnavailableError } from '../../../node/interfaces.js';
import { SimDisk } from '../../../node/sim/store.js';
import { epsilonOf, type NoisySteps } from '../../../node/train/accountant.js';
import { PrivacySpending } from '../../../node/train/privacy-budget.js';
import { decodeGossip } from '../../../protocol/gossip.js';
import type { Manifest } from '../../../protocol/manifest.js';
import { RowFormats } from '../../../protocol/row-format.js';
import { testIdentity } from '../../support/runs.js';
import { Swarm, type SimNode } from '../../sim/swarm.js';

const SETTING = { sampleRate: 0.05, noise: 1 };
const DELTA = 1e-5;

/** What a budget is kept on. */
interface Ledger {
  taken: readonly NoisySteps[];
  isFull: boolean;
}

/** A budget of exactly `stepsMax` steps, with what `ledger` holds already spent. */
function budget(ledger: Ledger, stepsMax: number): PrivacySpending {
  const epsilon = epsilonOf([{ ...SETTING, steps: stepsMax }], DELTA) + 1e-9;
  return new PrivacySpending(
    { ...SETTING, epsilon, delta: DELTA, clip: 1, batchSize: 8 },
    ledger.taken,
    async (taken) => {
      if (ledger.isFull) throw new StoreUnavailableError('the disk is full');
      ledger.taken = structuredClone(taken);
    },
  );
}

function counted({ taken }: Ledger): number {
  return taken.reduce((sum, { steps }) => sum + steps, 0);
}

/** Steps in the updates of `node` that `witness` has. */
function published(witness: SimNode, { peerId, swarm }: SimNode): number {
  const formats = new RowFormats(swarm.run);
  const messages = witness.disk.everAppended.map((bytes) =>
    decodeGossip(swarm.run, formats, bytes),
  );
  return messages.reduce((sum, message) => {
    const isOwn = message.kind === 'update' && message.update.author === peerId;
    return isOwn ? sum + message.update.steps : sum;
  }, 0);
}

/** Two peers, the first of which trains with a budget of `stepsMax` steps; an epoch has eight. */
function setUp(stepsMax: number, change = (manifest: Manifest): Manifest => manifest) {
  const swarm = new Swarm({ seed: 1, peers: 2, change });
  const [node, witness] = [swarm.node(0), swarm.node(1)];
  const ledger: Ledger = { taken: [], isFull: false };
  node.privacy = budget(ledger, stepsMax);
  return { swarm, node, witness, ledger };
}

describe('a privacy budget', () => {
  it('counts what is missing to the steps that the swarm holds, and never less than it did', async () => {
    const ledger: Ledger = { taken: [], isFull: false };
    const spending = budget(ledger, 60);
    await spending.charge(8);
    for (const [steps, expected] of [
      [5, 8],
      [8, 8],
      [20, 20],
      [20, 20],
      [70, 70],
    ] as const) {
      await spending.atLeast(steps);
      assert.deepEqual([counted(ledger), spending.report().steps], [expected, expected]);
    }
    assert.equal(spending.report().stepsLeft, 0);
    ledger.isFull = true;
    await assert.rejects(spending.atLeast(90), StoreUnavailableError);
    assert.equal(spending.report().steps, 70, 'nothing is counted that is not on disk');
  });
});

describe('a peer with a privacy budget', () => {
  it('stops at the last step that the budget allows, says so, and goes on sharing and folding', async () => {
    const { swarm, node, witness, ledger } = setUp(20);
    await Promise.all([node.start(), witness.start()]);
    await swarm.runToEpoch(3);
    assert.deepEqual([counted(ledger), published(witness, node)], [20, 20]);
    const before = node.peer!.snapshot();
    await swarm.runToEpoch(8);
    assert.deepEqual([counted(ledger), published(witness, node)], [20, 20]);
    const snapshot = node.peer!.snapshot();
    assert.equal(snapshot.state, 'spent');
    assert.deepEqual(
      [snapshot.privacy?.steps, snapshot.privacy?.stepsLeft, snapshot.training.step],
      [20, 0, 20],
    );
    const sentence = snapshot.attention.find((one) => /privacy budget is spent/.test(one));
    assert.match(
      sentence!,
      /epsilon \d+\.\d+ of .* at delta 0\.00001 after 20 steps .*noise 1.*0\.0500/,
    );
    assert.ok(snapshot.adapter.updates > before.adapter.updates);
    assert.equal(snapshot.adapter.sha256, witness.peer!.snapshot().adapter.sha256);
  });

  it('has counted every step that it ever published, wherever it is killed, and never less', async () => {
    const { swarm, node, witness, ledger } = setUp(60);
    await Promise.all([node.start(), witness.start()]);
    for (let epoch = 1; epoch <= 12; epoch++) {
      // From the middle of training over its end to the pause after it.
      await swarm.time.advanceTo(swarm.epochStartMs(epoch) + 300 * epoch);
      node.crash();
      assert.ok(counted(ledger) >= published(witness, node));
      node.privacy = budget(ledger, 60);
      await node.start();
    }
    await swarm.runToEpoch(16);
    assert.ok(counted(ledger) >= published(witness, node));
    assert.ok(published(witness, node) > 0);
    assert.equal(counted(ledger), 60);
    assert.equal(node.peer!.snapshot().state, 'spent');
  });

  it('takes no step that it cannot count', async () => {
    const { swarm, node, witness, ledger } = setUp(60);
    ledger.isFull = true;
    await Promise.all([node.start(), witness.start()]);
    await swarm.runToEpoch(2);
    assert.equal(node.trainer!.calls, 0);
    assert.match(node.peer!.snapshot().attention.join(' '), /disk is full/);
    ledger.isFull = false;
    await swarm.time.advanceTo(swarm.epochStartMs(6) - 100);
    assert.ok(published(witness, node) > 0);
    assert.equal(counted(ledger), published(witness, node));
  });

  it('takes back the steps for which there was no time', async () => {
    const { swarm, node, witness, ledger } = setUp(60);
    node.stepMs = 3000;
    await Promise.all([node.start(), witness.start()]);
    await swarm.time.advanceTo(swarm.epochStartMs(4) - 100);
    assert.ok(published(witness, node) > 0 && published(witness, node) < 4 * 8);
    assert.equal(counted(ledger), published(witness, node));
  });

  for (const isClosed of [false, true]) {
    const where = isClosed ? 'a run whose updates are sealed' : 'an open run';
    for (const what of ['files', 'ledger'] as const) {
      it(`that gets its ${what} back from a backup in ${where} has paid for all that it ever sent`, async () => {
        const { swarm, node, witness, ledger } = setUp(8 * 60, isClosed ? sealing : undefined);
        await Promise.all([node.start(), witness.start()]);
        await swarm.runToEpoch(4.5);
        const backup = { disk: node.disk.snapshot(), taken: ledger.taken };
        await swarm.runToEpoch(20.5);
        const sent = published(witness, node);
        assert.ok(sent >= 8 * 20 && counted(ledger) >= sent);
        node.crash();
        ledger.taken = backup.taken;
        if (what === 'files') node.disk.restore(backup.disk);
        node.privacy = budget(ledger, 8 * 60);
        // Before the network is there it may train, and counts that as well.
        swarm.network.partition(new Map([[node.peerId, 1]]));
        await node.start();
        await swarm.runToEpoch(22.5);
        swarm.network.partition(new Map());
        await swarm.runToEpoch(24.5);
        const now = published(witness, node);
        assert.ok(now > sent, 'it trains on');
        const { steps } = node.peer!.snapshot().privacy ?? assert.fail();
        assert.ok(steps >= now && counted(ledger) >= now, `${steps} counted, ${now} sent`);
        // What it has found is counted once.
        assert.ok(steps <= 8 * 25, `${steps} counted`);
        const again = budget(ledger, 8 * 60);
        assert.equal(again.report().steps, counted(ledger));
      });
    }
  }

  it('that has nothing left but its key has paid for all that the swarm holds, and stops in time', async () => {
    const { swarm, node, witness, ledger } = setUp(8 * 12, sealing);
    await Promise.all([node.start(), witness.start()]);
    await swarm.runToEpoch(10.5);
    node.crash();
    node.disk.restore(new SimDisk());
    ledger.taken = [];
    node.privacy = budget(ledger, 8 * 12);
    await node.start();
    await swarm.runToEpoch(30);
    assert.ok(published(witness, node) <= 8 * 12, `${published(witness, node)} steps`);
    assert.equal(counted(ledger), 8 * 12);
    assert.equal(node.peer!.snapshot().state, 'spent');
  });
});

/** Two listed members who sign every second epoch what they hold. */
function sealing(manifest: Manifest): Manifest {
  const members = [0, 1].map((i) => ({ peerId: testIdentity(i, 'swarm/1').peerId, weight: 1 }));
  return {
    ...manifest,
    schedule: { ...manifest.schedule, epochsMax: 60 },
    fold: { ...manifest.fold, sealEvery: 2, sealAfter: 1 },
    membership: { mode: 'allowlist', members },
  };
}
