/** What history gives back is what peers had, epoch by epoch, also where the beginning is a sum alone. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { UserError } from '../../node/errors.js';
import { adapterOfEpoch, countPast, goneReason, pastAdapters } from '../../node/past-adapters.js';
import type { SimDisk } from '../../node/sim/store.js';
import { Swarm, type SimNode } from '../../node/sim/swarm.js';
import { SyntheticWorkload } from '../../node/sim/workload.js';
import { restoreRun, type StoredRun } from '../../node/stored-run.js';
import { decodeGossip, encodeUpdateMessage } from '../../protocol/gossip.js';
import type { Run } from '../../protocol/manifest.js';
import { RowFormats } from '../../protocol/row-format.js';
import { storeOf, storeWith } from '../support/replicas.js';
import { adapterSize, testIdentity, testRun, testUpdate } from '../support/runs.js';
import { closedRun } from '../support/seals.js';

const PEERS = 4;
const EPOCHS = 20;

/** Members of equal weight, who seal every 4 epochs. */
function sealingRun(): Run {
  const weights = Array.from({ length: PEERS }, () => 1);
  return closedRun(weights, { every: 4, after: 2 }, (manifest) => ({
    ...manifest,
    schedule: { ...manifest.schedule, epochsMax: EPOCHS },
    compression: { ...manifest.compression, phases: [{ fromEpoch: 0, slices: 1, bits: 1 }] },
  }));
}

/** A swarm without faults whose last peer comes at epoch `joinAt`; hashes that each node had at the end of each epoch. */
async function live(
  run: Run,
  joinAt = 0,
): Promise<{ nodes: readonly SimNode[]; hashes: Map<number, string>[] }> {
  const workload = new SyntheticWorkload(PEERS, adapterSize(run), new Uint8Array(32));
  const swarm: Swarm = new Swarm({
    run,
    identities: Array.from({ length: PEERS }, (_, i) => testIdentity(i)),
    seed: new Uint8Array(32),
    openTrainer: (node, clock) => workload.openTrainer(node.index, clock, swarm.time, 100),
  });
  const { nodes } = swarm;
  const hashes = nodes.map(() => new Map<number, string>());
  for (const node of joinAt === 0 ? nodes : nodes.slice(0, -1)) await node.start();
  for (let epoch = 0; epoch < EPOCHS; epoch++) {
    await swarm.runToEpoch(epoch);
    if (epoch === joinAt && joinAt > 0) await nodes.at(-1)?.start();
    await swarm.time.advanceTo(swarm.epochStartMs(epoch + 1) - 1);
    for (const [i, { peer }] of nodes.entries()) {
      if (peer !== null) hashes[i]?.set(epoch, peer.snapshot().adapter.sha256);
    }
  }
  // A write to the disk may be under way, which takes virtual time.
  const stopped = Promise.all(nodes.map((node) => node.stop()));
  await swarm.time.advanceTo(swarm.time.nowMs + 1000);
  await stopped;
  assert.deepEqual(swarm.failures, []);
  return { nodes, hashes };
}

/** What a peer keeps whose log had no room for sealed updates. */
function compacted(disk: SimDisk, run: Run): SimDisk {
  const copy = disk.snapshot();
  const { seal } = copy;
  assert.ok(seal !== null);
  const formats = new RowFormats(run);
  copy.log = copy.log.filter((record) => {
    const message = decodeGossip(run, formats, record, 'disk');
    return message.kind !== 'update' || message.update.epoch >= seal.epoch;
  });
  copy.seal = { ...seal, logStart: seal.epoch };
  return copy;
}

function stored({ disk }: SimNode, run: Run): Promise<StoredRun> {
  return restoreRun(run, storeOf(disk));
}

describe('the history of a run', () => {
  it('gives every adapter that the peer had, with its updates and authors', async () => {
    const run = sealingRun();
    const { nodes, hashes } = await live(run);
    for (const [i, node] of nodes.entries()) {
      const history = await stored(node, run);
      assert.ok((node.disk.seal?.epoch ?? 0) >= 12, 'seals drop nothing while there is room');
      const past = [...pastAdapters(history)];
      assert.deepEqual(new Map(past.map(({ epoch, sha256 }) => [epoch, sha256])), hashes[i]);
      assert.deepEqual(
        past.map(({ updates }) => updates),
        Array.from({ length: EPOCHS }, (_, epoch) => PEERS * (epoch + 1)),
      );
      const all = nodes.map(({ peerId }) => peerId).sort();
      for (const { authors } of past) assert.deepEqual(authors, all);
      assert.equal(goneReason(history), null);
      assert.equal(countPast(history), EPOCHS);
    }
  });

  it('begins with a sum where the updates before it were dropped, and says why', async () => {
    const run = sealingRun();
    const { nodes, hashes } = await live(run);
    const { disk } = nodes[0] ?? assert.fail();
    const history = await restoreRun(run, storeOf(compacted(disk, run)));
    const { epoch: cut } = history.dropped ?? assert.fail('nothing was dropped');
    assert.ok(cut >= 8 && cut % 4 === 0, `only ${cut} epochs were dropped`);
    const past = [...pastAdapters(history)];
    assert.deepEqual(
      past.map(({ epoch }) => epoch),
      Array.from({ length: EPOCHS - cut + 1 }, (_, i) => cut - 1 + i),
    );
    for (const { epoch, sha256 } of past) assert.equal(sha256, hashes[0]?.get(epoch), `${epoch}`);
    assert.deepEqual([past[0]?.authors, past[0]?.updates], [null, PEERS * cut]);
    assert.equal(countPast(history), past.length);
    assert.match(goneReason(history) ?? '', new RegExp(`before epoch ${cut}: .* --log-disk`));
    const gone = new RegExp(
      `no adapter of epoch 2: this peer does not keep .* give --epoch ${cut - 1} to 19$`,
    );
    assert.throws(
      () => adapterOfEpoch(history, 2),
      (error) => error instanceof UserError && gone.test(error.message),
    );
  });

  it('of a peer that took over the sum of the others is theirs from there on', async () => {
    const run = sealingRun();
    const { nodes, hashes } = await live(run, 14);
    const history = await stored(nodes.at(-1) ?? assert.fail(), run);
    const past = [...pastAdapters(history)];
    const cut = history.dropped?.epoch ?? assert.fail('it has all updates');
    assert.ok(cut >= 12);
    assert.equal(past.length, EPOCHS - cut + 1);
    for (const { epoch, sha256 } of past) assert.equal(sha256, hashes[0]?.get(epoch), `${epoch}`);
  });
});

describe('the adapter of an epoch', async () => {
  const run = testRun();
  const log: Uint8Array[] = [];
  for (const [author, epoch] of [
    [0, 2],
    [1, 2],
    [0, 5],
  ] as const) {
    log.push(encodeUpdateMessage(testUpdate(run, testIdentity(author), epoch)));
  }
  const history = await restoreRun(run, storeWith(log));
  const empty = await restoreRun(run, storeWith([]));

  it('is the last one before, where the epoch itself has no updates', () => {
    const [second, fifth] = [...pastAdapters(history)];
    assert.equal(adapterOfEpoch(history, 2).sha256, second?.sha256);
    assert.equal(adapterOfEpoch(history, 4).sha256, second?.sha256);
    assert.equal(adapterOfEpoch(history, 5).sha256, fifth?.sha256);
    assert.equal(fifth?.sha256, history.sha256);
    assert.notEqual(second?.sha256, history.sha256);
  });

  it('is refused in a sentence before the first and after the last', () => {
    const refuses = (epoch: number, message: RegExp, of = history): void =>
      assert.throws(
        () => adapterOfEpoch(of, epoch),
        (error) => error instanceof UserError && message.test(error.message),
      );
    refuses(1, /no adapter of epoch 1: the run has no updates up to then; give --epoch 2 to 5$/);
    refuses(6, /no adapter of epoch 6: it has not come yet; give --epoch 2 to 5$/);
    refuses(0, /no updates yet/, empty);
  });
});
