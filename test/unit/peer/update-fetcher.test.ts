import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { FrameStream } from '../../../node/interfaces.js';
import { AntiEntropy } from '../../../node/peer/anti-entropy.js';
import { BlobServer } from '../../../node/peer/blob-server.js';
import { Fetcher } from '../../../node/peer/fetcher.js';
import { UpdateFetcher } from '../../../node/peer/update-fetcher.js';
import { chunkHashes, wholeBlob, type BlobSource, type Chunk } from '../../../protocol/blob.js';
import { toHex } from '../../../protocol/bytes.js';
import { encodeAnnouncement, encodeUpdateMessage } from '../../../protocol/gossip.js';
import { Prng } from '../../../protocol/prng.js';
import { createUpdate, type Update } from '../../../protocol/update.js';
import { VirtualClock, VirtualTime } from '../../../node/sim/clock.js';
import { NO_FAULTS, SimNetwork } from '../../../node/sim/network.js';
import { restoreAll, testReplica } from '../../support/replicas.js';
import { testIdentity, testRun, testUpdate } from '../../support/runs.js';
import { closedRun } from '../../support/seals.js';
import { testSealing } from '../../support/sealings.js';

const run = testRun();
const nothing = (): void => undefined;
const logger = { debug: nothing, info: nothing, warn: nothing, error: nothing };

function bodyOf({ scales, codes }: Update): Uint8Array[] {
  return [scales, codes];
}

class World {
  constructor(readonly run = testRun()) {}

  readonly time = new VirtualTime(0);
  readonly network = new SimNetwork(this.time, new Prng(new Uint8Array(32), 'test'), NO_FAULTS);
  readonly clock = new VirtualClock(this.time);
  readonly stop = new AbortController();

  id(index: number): string {
    return testIdentity(index).peerId;
  }

  /** All of a peer that has to do with getting updates. `serves` is false for one that gives no blob. */
  async peer(index: number, held: readonly Update[] = [], serves = true) {
    const { run, clock, stop } = this;
    const { signal } = stop;
    const transport = this.network.transport(this.id(index));
    const heard = { proofs: 0, blobs: 0, syncs: 0 };
    const made = testReplica(run, () => 40, {
      onAnnounced: (header, from) => updateFetcher.onAnnounced(header, from),
      onProof: () => heard.proofs++,
    });
    const { replica } = made;
    restoreAll(made, held.map(encodeUpdateMessage));
    const shared = { transport, clock, logger, runId: run.id, replica };
    const random = new Prng(new Uint8Array(32), `peer ${index}`);
    const fetcher = new Fetcher({ ...shared, random, onLie: nothing }, signal);
    const updateFetcher = new UpdateFetcher({
      ...shared,
      fetcher,
      isSyncing: (slot) => antiEntropy.isFetching(slot),
      onFailed: (from) => antiEntropy.onAnnounced(from),
    });
    const isElsewhere = (slot: string, peerId: string): boolean =>
      updateFetcher.offer(slot, peerId);
    const antiEntropy: AntiEntropy = new AntiEntropy(
      {
        ...{ ...shared, random, isElsewhere },
        sealing: testSealing({ replica, transport, clock }),
        onFailure: (error) => assert.fail(String(error)),
      },
      signal,
    );
    const find = (root: string): BlobSource<Chunk> | undefined =>
      serves ? updateFetcher.source(root) : undefined;
    const server = new BlobServer({ clock, runId: run.id, find }, signal);
    await transport.start({
      onGossip: (message, from) => replica.onGossip(message, from),
      onStream: (kind, stream, from) => {
        heard[kind === 'blob' ? 'blobs' : 'syncs'] += 1;
        return kind === 'blob' ? server.serve(stream, from) : antiEntropy.serve(stream, from);
      },
      onConnect: nothing,
      isMember: () => true,
      onDisconnect: (peerId) => updateFetcher.forget(peerId),
    });
    return { transport, replica, antiEntropy, updateFetcher, heard };
  }

  async pass(ms: number): Promise<void> {
    await this.time.advanceTo(this.time.nowMs + ms);
  }

  async end(): Promise<void> {
    this.stop.abort(new Error('the test is over'));
    await this.pass(1000);
  }
}

describe('UpdateFetcher', () => {
  const author = testIdentity(1);
  const update = testUpdate(run, author, 3);

  it('fetches what is announced from whoever passed it on, without a sync', async () => {
    const world = new World();
    const peer = await world.peer(0);
    const holder = await world.peer(2, [update]);
    await holder.transport.publish(encodeAnnouncement(update));
    await world.pass(1000);
    assert.equal(peer.replica.log.get(author.peerId, 3)?.id, update.id);
    assert.deepEqual([holder.heard.blobs, holder.heard.syncs], [1, 0]);
    assert.equal(peer.updateFetcher.fetched, 1);
    await world.end();
  });

  it('leaves to sync what nobody gives as a blob', async () => {
    const world = new World();
    const peer = await world.peer(0);
    const holder = await world.peer(2, [update], false);
    await holder.transport.publish(encodeAnnouncement(update));
    await world.pass(20_000);
    assert.equal(peer.replica.log.size, 1);
    assert.ok(holder.heard.syncs > 0);
    assert.equal(peer.antiEntropy.fetched, 1);
    await world.end();
  });

  it('asks for nothing by sync that comes as a blob, and takes the partner for a donor', async () => {
    const world = new World();
    const peer = await world.peer(0);
    // The one who announced says that it is on its way, and it never comes.
    const root = toHex(update.bodyRoot);
    const never: BlobSource = {
      ...wholeBlob(bodyOf(update), chunkHashes(bodyOf(update))),
      has: () => false,
    };
    const find = (asked: string): BlobSource | undefined => (asked === root ? never : undefined);
    const idle = new BlobServer({ clock: world.clock, runId: run.id, find }, world.stop.signal);
    const forwarder = world.network.transport(world.id(3));
    await forwarder.start({
      onGossip: () => 'ignore',
      onStream: (_kind, stream: FrameStream, from) => idle.serve(stream, from),
      onConnect: nothing,
      isMember: () => true,
      onDisconnect: nothing,
    });
    const holder = await world.peer(2, [update]);
    await forwarder.publish(encodeAnnouncement(update));
    await world.pass(500);
    assert.equal(peer.replica.log.size, 0);
    peer.antiEntropy.request(world.id(2));
    await world.pass(1500);
    assert.equal(peer.replica.log.size, 1);
    assert.equal(peer.antiEntropy.fetched, 0);
    assert.equal(peer.updateFetcher.fetched, 1);
    assert.deepEqual(holder.heard, { proofs: 0, blobs: 1, syncs: 1 });
    await world.end();
  });

  for (const [of, expected] of [
    [closedRun(), 1],
    [run, 0],
  ] as const) {
    it(`proves equivocation from two announcements, before any body is here: ${expected} in a run that is ${of.manifest.membership.mode}`, async () => {
      const world = new World(of);
      const peer = await world.peer(0);
      const silent = await world.peer(2, [], false);
      for (const salt of ['', 'again']) {
        await silent.transport.publish(encodeAnnouncement(testUpdate(of, author, 3, { salt })));
        await world.pass(50);
      }
      assert.equal(peer.replica.log.proofs().length, expected);
      assert.equal(peer.heard.proofs, expected);
      await world.end();
    });
  }

  it('blames the author, not the donor, for a body that no run takes, and fetches it once', async () => {
    const world = new World();
    const peer = await world.peer(0);
    const scales = update.scales.map(() => 0xff);
    const bad = createUpdate(run, author, { ...update, scales, logDigest: new Uint8Array(32) });
    const source = wholeBlob(bodyOf(bad), chunkHashes(bodyOf(bad)));
    const giver = new BlobServer(
      { clock: world.clock, runId: run.id, find: () => source },
      world.stop.signal,
    );
    const heard = { blobs: 0 };
    const donor = world.network.transport(world.id(3));
    await donor.start({
      onGossip: () => 'ignore',
      onStream: (kind, stream, from) => {
        heard.blobs += kind === 'blob' ? 1 : 0;
        return giver.serve(stream, from);
      },
      onConnect: nothing,
      isMember: () => true,
      onDisconnect: nothing,
    });
    for (let i = 0; i < 3; i++) {
      await donor.publish(encodeAnnouncement(bad));
      await world.pass(5000);
    }
    assert.equal(peer.replica.log.size, 0);
    assert.equal(heard.blobs, 1);
    assert.equal(peer.replica.rejectedBy(author.peerId)['bad-scale'], 1);
    assert.deepEqual(peer.replica.rejectedBy(world.id(3)), {});
    await world.end();
  });
});
