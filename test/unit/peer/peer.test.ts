import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { decodeGossip, encodeUpdateMessage, type GossipMessage } from '../../../protocol/gossip.js';
import { RowFormats } from '../../../protocol/row-format.js';
import { Swarm } from '../../sim/swarm.js';
import { testIdentity, testUpdate } from '../../support/runs.js';

/** A swarm of one peer, and a bystander who hears all its gossip. */
async function setUp() {
  const swarm = new Swarm({ seed: 1, peers: 1 });
  const heard: GossipMessage[] = [];
  const formats = new RowFormats(swarm.run);
  const bystander = swarm.network.transport(testIdentity(50).peerId);
  await bystander.start({
    onGossip: (bytes) => {
      heard.push(decodeGossip(swarm.run, formats, bytes));
      return 'accept';
    },
    onStream: async (_kind, stream) => stream.abort(new Error('only listening')),
    onConnect: () => undefined,
    isMember: () => true,
    onDisconnect: () => undefined,
  });
  return { swarm, heard, bystander, node: swarm.node(0) };
}

/** Codes of the first update after a restart with a changed residual and an absence of some epochs. */
async function updateAfterRestart(
  pauseEpochs: number,
  change: (residual: Float32Array) => Float32Array,
): Promise<Uint8Array> {
  const { swarm, heard, node } = await setUp();
  await node.start();
  await swarm.time.advanceTo(swarm.epochStartMs(2) + 3000);
  node.crash();
  const { state } = node.disk;
  assert.ok(state);
  node.disk.state = { ...state, residual: change(state.residual) };
  heard.length = 0;
  await swarm.time.advanceTo(swarm.epochStartMs(2 + pauseEpochs) + 6000);
  await node.start();
  await swarm.runToEpoch(4 + pauseEpochs);
  const message = heard.find(({ kind }) => kind === 'update');
  assert.ok(message?.kind === 'update' && message.update.epoch > 2);
  return message.update.codes;
}

describe('Peer', () => {
  it('publishes nothing that is not on disk', async () => {
    const { swarm, heard, node } = await setUp();
    node.disk.isFull = true;
    await node.start();
    await swarm.runToEpoch(3);
    assert.deepEqual([...heard], []);
    node.disk.isFull = false;
    await swarm.runToEpoch(6);
    const [first] = heard;
    assert.equal(first?.kind, 'update');
    assert.equal(heard.filter(({ kind }) => kind === 'update').length, heard.length);
  });

  it('tells the others of an equivocation that it found', async () => {
    const { swarm, heard, bystander, node } = await setUp();
    await node.start();
    await swarm.runToEpoch(2);
    for (const salt of ['one', 'other']) {
      const update = testUpdate(swarm.run, testIdentity(9), 1, { salt });
      await bystander.publish(encodeUpdateMessage(update));
    }
    await swarm.time.advanceTo(swarm.time.nowMs + 100);
    const proofs = heard.filter((message) => message.kind === 'equivocation');
    assert.deepEqual(
      proofs.map(({ proof }) => proof.author),
      [testIdentity(9).peerId],
    );
  });

  it('carries what compression held back to the next update, also over a restart, but not for long', async () => {
    const { lagMax } = (await setUp()).swarm.run.manifest.fold;
    for (const [pauseEpochs, isCarried] of [
      [0, true],
      [lagMax + 2, false],
    ] as const) {
      const kept = await updateAfterRestart(pauseEpochs, (residual) => residual);
      const again = await updateAfterRestart(pauseEpochs, (residual) => residual);
      const emptied = await updateAfterRestart(
        pauseEpochs,
        ({ length }) => new Float32Array(length),
      );
      assert.deepEqual(kept, again);
      assert.equal(Buffer.compare(kept, emptied) !== 0, isCarried, `after ${pauseEpochs} epochs`);
    }
  });

  it('enters its last update again when a crash kept it out of the log', async () => {
    const { swarm, node } = await setUp();
    await node.start();
    await swarm.time.advanceTo(swarm.epochStartMs(2) + 3000);
    node.crash();
    node.disk.log.pop();
    await node.start();
    await swarm.time.advanceTo(swarm.epochStartMs(2) + 4000);
    assert.equal(node.peer?.snapshot().adapter.updates, 3);
    assert.equal(node.disk.log.length, 3);
  });

  it('has on disk at the end of stop() what came in until its transport had stopped', async () => {
    const { swarm, bystander, node } = await setUp();
    await node.start();
    await swarm.runToEpoch(2);
    const { peer } = node;
    assert.ok(peer);
    await bystander.publish(encodeUpdateMessage(testUpdate(swarm.run, testIdentity(9), 1)));
    const stopped = node.stop();
    // Virtual time passes until the writes under way are done.
    await swarm.time.advanceTo(swarm.time.nowMs + 60_000);
    await stopped;
    assert.equal(node.disk.log.length, peer.snapshot().adapter.updates);
  });
});
