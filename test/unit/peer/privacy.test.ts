import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { StoreUnavailableError } from '../../../node/interfaces.js';
import { epsilonOf, type NoisySteps } from '../../../node/train/accountant.js';
import { PrivacySpending } from '../../../node/train/privacy-budget.js';
import { decodeGossip } from '../../../protocol/gossip.js';
import { Slicer } from '../../../protocol/slice.js';
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
  const slicer = new Slicer(swarm.run);
  const messages = witness.disk.everAppended.map((bytes) => decodeGossip(swarm.run, slicer, bytes));
  return messages.reduce((sum, message) => {
    const isOwn = message.kind === 'update' && message.update.author === peerId;
    return isOwn ? sum + message.update.steps : sum;
  }, 0);
}

/** Two peers, the first of which trains with a budget of `stepsMax` steps; an epoch has eight. */
function setUp(stepsMax: number) {
  const swarm = new Swarm({ seed: 1, peers: 2 });
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
});
