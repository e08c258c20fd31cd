/** A peer of a run with cohorts: it trains in each epoch, publishes in its own slots, and loses nothing in between. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { cohortOf } from '../../../protocol/cohorts.js';
import { decodeGossip } from '../../../protocol/gossip.js';
import type { Manifest } from '../../../protocol/manifest.js';
import { RowFormats } from '../../../protocol/row-format.js';
import { checkAgreement } from '../../sim/checkers.js';
import { Swarm, type SimNode } from '../../sim/swarm.js';
import { testIdentity } from '../../support/runs.js';

const EPOCHS = 9;

/** Four listed members in two cohorts. */
function openSwarm(change: (manifest: Manifest) => Manifest = (manifest) => manifest): Swarm {
  const members = [0, 1, 2, 3].map((i) => ({
    peerId: testIdentity(i, 'swarm/1').peerId,
    weight: 1,
  }));
  return new Swarm({
    ...{ seed: 1, peers: 4 },
    change: (manifest) =>
      change({
        ...manifest,
        schedule: { ...manifest.schedule, epochsMax: EPOCHS, cohorts: 2 },
        membership: { mode: 'allowlist', members },
      }),
  });
}

function nodeOf(swarm: Swarm, cohort: number): SimNode {
  const node = swarm.nodes.find(({ peerId }) => cohortOf(swarm.run, peerId) === cohort);
  assert.ok(node);
  return node;
}

/** The updates of `node`, as another peer holds them on its disk. */
function updatesOf(swarm: Swarm, node: SimNode): { epoch: number; steps: number; lag: number }[] {
  const other = swarm.nodes.find((one) => one !== node && one.peer !== null);
  const formats = new RowFormats(swarm.run);
  const messages = other!.disk.everAppended.map((bytes) => decodeGossip(swarm.run, formats, bytes));
  return messages
    .flatMap((message) => (message.kind === 'update' ? message.update : []))
    .filter(({ author }) => author === node.peerId)
    .map(({ epoch, baseEpoch, steps }) => ({ epoch, steps, lag: epoch - baseEpoch }))
    .toSorted((a, b) => a.epoch - b.epoch);
}

describe('a peer of a run with two cohorts', () => {
  it('publishes in every second epoch what it trained in both, and trains for nothing after its last slot', async () => {
    const swarm = openSwarm();
    await swarm.startAll();
    await swarm.runToEnd();
    const early = [0, 2, 4, 6, 8].map((epoch) => ({ epoch, steps: epoch === 0 ? 8 : 16, lag: 0 }));
    const late = [1, 3, 5, 7].map((epoch) => ({ epoch, steps: 16, lag: 0 }));
    assert.deepEqual(updatesOf(swarm, nodeOf(swarm, 0)), early);
    assert.deepEqual(updatesOf(swarm, nodeOf(swarm, 1)), late);
    assert.equal(nodeOf(swarm, 0).trainer?.calls, 9);
    assert.equal(nodeOf(swarm, 1).trainer?.calls, 8);
    checkAgreement(swarm);
  });

  it('says when it publishes next, and of others when they last should have', async () => {
    const swarm = openSwarm();
    await swarm.startAll();
    await swarm.runToEpoch(4);
    const [first, second] = [nodeOf(swarm, 0), nodeOf(swarm, 1)];
    const snapshot = second.peer!.snapshot();
    assert.deepEqual([snapshot.epoch, snapshot.cohorts, snapshot.nextUpdateEpoch], [4, 2, 5]);
    const member = snapshot.members.find(({ peerId }) => peerId === first.peerId);
    assert.deepEqual([member?.lastUpdateEpoch, member?.dueEpoch], [2, 2]);
    first.crash();
    await swarm.runToEpoch(7);
    const missed = second.peer!.snapshot().members.find(({ peerId }) => peerId === first.peerId);
    assert.deepEqual([missed?.lastUpdateEpoch, missed?.dueEpoch], [2, 6]);
    await swarm.runToEpoch(EPOCHS + 1);
    assert.equal(second.peer!.snapshot().nextUpdateEpoch, null);
  });

  it('keeps over a crash what waits for its slot', async () => {
    const residuals: Float32Array[] = [];
    for (const isEmptied of [false, false, true]) {
      const swarm = openSwarm();
      await swarm.startAll();
      const node = nodeOf(swarm, 0);
      // Epoch 3 is trained and on disk, and says nothing yet; it is not trained again.
      await swarm.time.advanceTo(swarm.epochStartMs(3) + 6000);
      node.crash();
      const { state } = node.disk;
      assert.ok(state && state.epoch === 3 && state.waitingSteps === 8);
      const residual = isEmptied ? new Float32Array(state.residual.length) : state.residual;
      node.disk.state = { ...state, residual };
      await node.start();
      await swarm.runToEpoch(7);
      // The slot of the start is that of an earlier process.
      assert.deepEqual(
        updatesOf(swarm, node).map(({ epoch, steps }) => [epoch, steps]),
        [
          [0, 8],
          [2, 16],
          [4, 16],
          [6, 16],
        ],
      );
      residuals.push(node.disk.state.residual.slice());
    }
    assert.deepEqual(residuals[0], residuals[1]);
    assert.notDeepEqual(residuals[0], residuals[2]);
  });

  it('has its slot also when its steps take longer', async () => {
    const swarm = openSwarm();
    const node = nodeOf(swarm, 0);
    await swarm.startAll();
    await swarm.runToEpoch(2);
    // One step of epoch 2 takes until epoch 3, in which this peer publishes nothing.
    node.trainer!.sleepsNextMs = 11_000;
    await swarm.runToEpoch(6);
    const epochs = updatesOf(swarm, node).map(({ epoch }) => epoch);
    assert.deepEqual(epochs, [0, 2, 4]);
    checkAgreement(swarm);
  });
});
