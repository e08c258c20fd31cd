/** Seals at peers that are connected, under virtual time: what is signed, adopted, given back and fetched. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { BlobServer } from '../../../node/peer/blob-server.js';
import type { Sealing } from '../../../node/peer/sealing.js';
import { VirtualClock, VirtualTime } from '../../../node/sim/clock.js';
import { NO_FAULTS, SimNetwork } from '../../../node/sim/network.js';
import { SimDisk, SimStore } from '../../../node/sim/store.js';
import { wholeBlob, type BlobSource, type Chunk } from '../../../protocol/blob.js';
import type { SealContents } from '../../../protocol/seal-contents.js';
import { decodeGossip, encodeSeal, encodeUpdateMessage } from '../../../protocol/gossip.js';
import { UpdateLog } from '../../../protocol/log.js';
import { Prng } from '../../../protocol/prng.js';
import {
  assembleCertificate,
  createSeal,
  encodeStatement,
  type Seal,
} from '../../../protocol/seal.js';
import type { Update } from '../../../protocol/update.js';
import { restoreAll, testReplica } from '../../support/replicas.js';
import { TEST_START_MS, testIdentity, testUpdate } from '../../support/runs.js';
import { certificateOf, closedRun, hashesOf, sealedLog, sealsOf } from '../../support/seals.js';
import { testSealing } from '../../support/sealings.js';

/** Three members of equal weight; a seal for every 4 epochs is due 2 epochs later. All three have to sign. */
const run = closedRun([1, 1, 1], { every: 4, after: 2 });
const EPOCH_MS = run.manifest.schedule.epochMs;
const ids = [0, 1, 2].map((i) => testIdentity(i).peerId);
const common = [0, 1, 2].flatMap((author) =>
  [0, 1, 2, 3, 4, 5].map((epoch) => testUpdate(run, testIdentity(author), epoch)),
);
const extra = testUpdate(run, testIdentity(0), 3);
const without = common.filter(({ id }) => id !== extra.id);

interface TestPeer {
  sealing: Sealing;
  told: Uint8Array[];
  replica: ReturnType<typeof testReplica>['replica'];
  disk: SimDisk;
  adopted: () => number;
}

class World {
  readonly time = new VirtualTime(TEST_START_MS);
  readonly network = new SimNetwork(this.time, new Prng(new Uint8Array(32), 'test'), NO_FAULTS);
  readonly clock = new VirtualClock(this.time);
  readonly stop = new AbortController();

  async to(epoch: number): Promise<void> {
    await this.time.advanceTo(TEST_START_MS + epoch * EPOCH_MS);
  }

  /** Member `index` with these updates; `startEpoch` as a process that began then. */
  async peer(
    index: number,
    updates: readonly Update[],
    startEpoch = -1,
    disk = new SimDisk(),
    seals: readonly Seal[] = [],
  ) {
    const { clock, stop, time } = this;
    const { signal } = stop;
    const epochNow = (): number => Math.floor((clock.now() - TEST_START_MS) / EPOCH_MS);
    const made = testReplica(run, epochNow, { disk });
    const { replica } = made;
    const transport = this.network.transport(ids[index] ?? `stranger ${index}`);
    const told: Uint8Array[] = [];
    let adopted = 0;
    const sealing = testSealing(
      { replica, transport, clock, store: new SimStore(disk, time) },
      {
        identity: testIdentity(index),
        tell: (message) => void told.push(message),
        onAdopted: () => (adopted += 1),
      },
      signal,
    );
    replica.setSeals(sealing);
    await sealing.load(startEpoch, signal);
    restoreAll(made, [...updates.map(encodeUpdateMessage), ...seals.map(encodeSeal)]);
    await sealing.begin(null, signal);
    const server = new BlobServer({ clock, runId: run.id, find: (r) => sealing.source(r) }, signal);
    await transport.start({
      onGossip: () => 'ignore',
      onStream: (_kind, stream, from) => server.serve(stream, from),
      onConnect: () => undefined,
      isMember: () => true,
      onDisconnect: () => undefined,
    });
    return { sealing, told, replica, disk, adopted: () => adopted } satisfies TestPeer;
  }

  /** A member that gives these contents and this sum, whatever they are; returns the roots that it was asked for. */
  async liar(contents: SealContents, sum: Float64Array): Promise<Set<string>> {
    const { clock, stop } = this;
    const asked = new Set<string>();
    const { root, hashes } = hashesOf(sum);
    const find = (of: string): BlobSource<Chunk> | undefined => {
      asked.add(of);
      if (of === contents.name.root) return wholeBlob([contents.bytes], contents.hashes);
      return of === root ? wholeBlob([new Uint8Array(sum.slice().buffer)], hashes) : undefined;
    };
    const server = new BlobServer({ clock, runId: run.id, find }, stop.signal);
    await this.network.transport(ids[0] ?? '').start({
      onGossip: () => 'ignore',
      onStream: (_kind, stream, from) => server.serve(stream, from),
      onConnect: () => undefined,
      isMember: () => true,
      onDisconnect: () => undefined,
    });
    return asked;
  }

  /** Each peer gets its turn, and the disk and the network the time that they take. */
  async turn(...peers: readonly TestPeer[]): Promise<void> {
    const turns = Promise.all(peers.map(({ sealing }) => sealing.turn(this.stop.signal)));
    await this.time.advanceTo(this.time.nowMs + 1500);
    await turns;
  }

  async end(): Promise<void> {
    this.stop.abort(new Error('the test is over'));
    await this.time.advanceTo(this.time.nowMs + 1000);
  }
}

/** Every peer hears what any has told. */
function gossip(...peers: readonly TestPeer[]): void {
  for (const { told } of peers) {
    for (const message of told.splice(0))
      for (const { replica } of peers) replica.onGossip(message, 'x');
  }
}

describe('Sealing', () => {
  it('signs what is due once, on disk before anybody hears of it, and nothing else', async () => {
    const world = new World();
    const peer = await world.peer(1, common);
    await world.to(5);
    await world.turn(peer);
    assert.deepEqual(peer.told, [], 'nothing is due');
    await world.to(6);
    for (let i = 0; i < 3; i++) await world.turn(peer);
    const { statement } = sealedLog(run, peer.replica.log, 4);
    assert.deepEqual(peer.told, [encodeSeal(createSeal(statement, testIdentity(1)))]);
    assert.deepEqual(peer.disk.log.slice(common.length), peer.told);
    assert.equal(peer.disk.sums.size, 0, 'only the sum of a certificate is kept for others');
    await world.to(10);
    for (let i = 0; i < 3; i++) await world.turn(peer);
    assert.equal(peer.told.length, 2);
    await world.end();
  });

  it('signs nothing that was due when its process began, but what comes after', async () => {
    const world = new World();
    await world.to(7);
    const peer = await world.peer(1, common, 7);
    await world.turn(peer);
    assert.deepEqual(peer.told, []);
    await world.to(10);
    await world.turn(peer);
    assert.equal(peer.told.length, 1);
    await world.end();
  });

  it('signs nothing as a stranger or in the place of an evicted member', async () => {
    const world = new World();
    const stranger = await world.peer(7, common);
    const evicted = await world.peer(1, [
      ...common,
      testUpdate(run, testIdentity(1), 5, { salt: 'b' }),
    ]);
    await world.to(6);
    await world.turn(stranger, evicted);
    assert.deepEqual([stranger.told, evicted.told], [[], []]);
    await world.end();
  });

  it('adopts what all signed from its own log, and keeps its adapter', async () => {
    const world = new World();
    const peers = [
      await world.peer(0, common),
      await world.peer(1, common),
      await world.peer(2, common),
    ];
    const before = peers.map(({ replica }) => replica.sha256());
    await world.to(6);
    await world.turn(...peers);
    gossip(...peers);
    await world.turn(...peers);
    for (const [i, { replica, adopted, disk, sealing }] of peers.entries()) {
      assert.deepEqual([replica.log.floor, adopted(), replica.log.size], [4, 1, 6]);
      assert.equal(replica.sha256(), before[i]);
      assert.deepEqual([disk.seal?.epoch, disk.seal?.logStart], [4, 0]);
      assert.deepEqual([sealing.returned, sealing.isBehind, sealing.problem], [null, false, null]);
      const late = testUpdate(run, testIdentity(1), 3, { salt: 'late' });
      assert.equal(replica.onGossip(encodeUpdateMessage(late), 'x'), 'ignore');
      assert.deepEqual(replica.rejectedBy('x').sealed, 1);
    }
    await world.end();
  });

  it('adopts nothing without the last third, and says who is silent', async () => {
    const world = new World();
    const peers = [await world.peer(0, common), await world.peer(1, common)];
    for (const epoch of [6, 10, 14, 18]) {
      await world.to(epoch);
      await world.turn(...peers);
      gossip(...peers);
      await world.turn(...peers);
    }
    for (const { replica, sealing } of peers) {
      assert.deepEqual([replica.log.floor, replica.log.size], [0, common.length]);
      assert.match(
        sealing.problem ?? '',
        new RegExp(`2 signed the same, 1 nothing \\(${ids[2]}\\)`),
      );
    }
    await world.end();
  });

  it('drops an update of its own that a certificate does not count, and gives its work back', async () => {
    const world = new World();
    const [author, other] = [await world.peer(0, common), await world.peer(1, without)];
    await world.to(6);
    await world.turn(other);
    const { statement } = sealedLog(run, other.replica.log, 4);
    const { wire } = certificateOf(statement, [0, 1, 2]);
    for (const { replica } of [author, other]) {
      assert.equal(replica.onSyncedCertificate(wire, 'x'), 'accept');
      assert.equal(replica.onSyncedCertificate(wire, 'x'), 'ignore');
    }
    await world.turn(other);
    await world.turn(author);
    assert.equal(author.replica.log.floor, 4);
    assert.equal(author.replica.sha256(), other.replica.sha256());
    const { returned } = author.sealing;
    assert.deepEqual(
      [returned?.seal, returned?.updates.map(({ id }) => id)],
      [statement.id, [extra.id]],
    );
    assert.deepEqual(author.replica.log.read(extra), { scales: extra.scales, codes: extra.codes });
    author.sealing.settle(statement.id);
    assert.deepEqual([author.sealing.returned, other.sealing.returned], [null, null]);
    await world.end();
  });

  it('is behind as soon as it hears of a certificate that does not follow its own', async () => {
    const world = new World();
    const newcomer = await world.peer(2, [], 10);
    await world.to(10);
    const made = await world.peer(1, common);
    const first = sealedLog(run, made.replica.log, 4);
    const second = encodeStatement(run, {
      ...first.statement,
      epoch: 8,
      previous: first.statement.id,
    });
    newcomer.replica.onSyncedCertificate(certificateOf(second, [0, 1, 2]).wire, 'x');
    assert.deepEqual([newcomer.sealing.isBehind, newcomer.sealing.wantedFrom], [true, 8]);
    await world.end();
  });

  it('waits an epoch for an update that it lacks, then fetches the sum from others', async () => {
    const world = new World();
    const [holder, lacking] = [await world.peer(1, common), await world.peer(2, without)];
    await world.to(6);
    await world.turn(holder);
    const { statement } = sealedLog(run, holder.replica.log, 4);
    for (const { replica } of [holder, lacking])
      replica.onSyncedCertificate(certificateOf(statement, [0, 1, 2]).wire, 'x');
    await world.turn(holder);
    await world.turn(lacking);
    assert.deepEqual([lacking.replica.log.floor, lacking.sealing.isBehind], [0, false]);
    await world.to(7.5);
    await world.turn(lacking);
    assert.deepEqual([lacking.replica.log.floor, lacking.sealing.isBehind], [4, false]);
    assert.equal(lacking.replica.sha256(), holder.replica.sha256());
    assert.deepEqual([lacking.disk.seal?.epoch, lacking.disk.seal?.logStart], [4, 4]);
    await world.end();
  });

  it('of a newcomer fetches the sum at once, trusting signatures alone, and asks for no sealed update', async () => {
    const world = new World();
    const holder = await world.peer(1, common);
    await world.to(6);
    await world.turn(holder);
    const { statement } = sealedLog(run, holder.replica.log, 4);
    const { wire } = certificateOf(statement, [0, 1, 2]);
    holder.replica.onSyncedCertificate(wire, 'x');
    await world.turn(holder);
    const newcomer = await world.peer(2, [], 6);
    assert.equal(newcomer.replica.onSyncedCertificate(wire, 'x'), 'accept');
    await world.turn(newcomer);
    assert.equal(newcomer.replica.log.floor, 4);
    for (const update of common.filter(({ epoch }) => epoch >= 4))
      newcomer.replica.onGossip(encodeUpdateMessage(update), 'x');
    assert.equal(newcomer.replica.sha256(), holder.replica.sha256());
    await world.end();
  });

  it('goes on after a restart from what is on disk, and signs what comes next', async () => {
    const world = new World();
    const first = await world.peer(1, common);
    await world.to(6);
    await world.turn(first);
    const { statement } = sealedLog(run, first.replica.log, 4);
    first.replica.onSyncedCertificate(certificateOf(statement, [0, 1, 2]).wire, 'x');
    await world.turn(first);
    const sha256 = first.replica.sha256();
    const copy = first.disk.snapshot();
    copy.log = [];
    const again = await world.peer(1, common, 6, copy);
    assert.deepEqual([again.replica.log.floor, again.replica.sha256()], [4, sha256]);
    await world.to(10);
    await world.turn(again);
    const [message = new Uint8Array()] = again.told;
    const heard = decodeGossip(run, again.replica.formats, message);
    assert.ok(heard.kind === 'seal');
    assert.deepEqual(
      [heard.seal.statement.epoch, heard.seal.statement.previous],
      [8, statement.id],
    );
    await world.end();
  });

  it('is not behind after a restart whose log holds the seals of the certificate itself', async () => {
    const world = new World();
    const first = await world.peer(1, common);
    await world.to(6);
    await world.turn(first);
    const { statement } = sealedLog(run, first.replica.log, 4);
    first.replica.onSyncedCertificate(certificateOf(statement, [0, 1, 2]).wire, 'x');
    await world.turn(first);
    const seals = sealsOf(statement, [0, 1, 2]);
    // Nobody is there to give what it has itself.
    const alone = new World();
    await alone.to(6);
    const again = await alone.peer(1, common, 6, first.disk.snapshot(), seals);
    await alone.turn(again);
    assert.deepEqual([again.sealing.isBehind, again.sealing.problem], [false, null]);
    await alone.to(10);
    await alone.turn(again);
    assert.equal(again.told.length, 1, 'it signs what comes next');
    await world.end();
    await alone.end();
  });

  it('keeps the sum of the last certificate for others, however long no seal finds a quorum', async () => {
    const world = new World();
    const holder = await world.peer(1, common);
    await world.to(6);
    await world.turn(holder);
    const { statement } = sealedLog(run, holder.replica.log, 4);
    const { wire } = certificateOf(statement, [0, 1, 2]);
    holder.replica.onSyncedCertificate(wire, 'x');
    await world.turn(holder);
    for (let epoch = 10; epoch <= 26; epoch += 4) {
      await world.to(epoch);
      await world.turn(holder);
    }
    assert.equal(holder.told.length, 6, 'it signed again and again');
    assert.deepEqual([...holder.disk.sums.keys()], [4], 'and its disk does not fill up');
    const newcomer = await world.peer(2, [], 26);
    newcomer.replica.onSyncedCertificate(wire, 'x');
    await world.turn(newcomer);
    assert.deepEqual([newcomer.replica.log.floor, newcomer.sealing.isBehind], [4, false]);
    await world.end();
  });

  it('takes no sum that no fold can have, whoever signed it', async () => {
    const world = new World();
    const holder = await world.peer(1, common);
    await world.to(6);
    const honest = sealedLog(run, holder.replica.log, 4);
    for (const value of [NaN, Infinity, 0.5]) {
      const sum = honest.sum.slice().fill(value, 3, 4);
      const bytes = { ...honest.statement, sum: hashesOf(sum).root };
      const statement = encodeStatement(run, bytes);
      const seals = [0, 1, 2].map((i) => createSeal(statement, testIdentity(i)));
      const [one, ...rest] = seals;
      const { wire } = assembleCertificate([one ?? assert.fail(), ...rest]);
      const asked = await world.liar(honest.contents, sum);
      const victim = await world.peer(2, []);
      victim.replica.onSyncedCertificate(wire, 'x');
      await world.turn(victim);
      assert.ok(asked.has(hashesOf(sum).root), 'the sum was given');
      assert.equal(victim.replica.log.floor, 0, `${value}`);
      assert.ok(victim.sealing.isBehind);
    }
    await world.end();
  });

  it('makes the sum of its seal again where it was lost and the log is whole, also when alone', async () => {
    const world = new World();
    const first = await world.peer(1, common);
    let base = null;
    const log = new UpdateLog();
    for (const update of common) log.insert(update);
    for (const epoch of [4, 8]) {
      base = sealedLog(run, log, epoch, base);
      log.seal(epoch, base.statement.id);
      await world.to(epoch + 2);
      first.replica.onSyncedCertificate(certificateOf(base.statement, [0, 1, 2]).wire, 'x');
      await world.turn(first);
    }
    assert.equal(first.replica.log.floor, 8);
    const copy = first.disk.snapshot();
    copy.log = [];
    copy.sums.delete(8);
    const again = await world.peer(1, common, 10, copy);
    for (let i = 0; i < 3; i++) await world.turn(again);
    assert.deepEqual([again.replica.log.floor, again.sealing.isBehind], [8, false]);
    assert.equal(again.replica.sha256(), first.replica.sha256());
    await world.end();
  });
});
