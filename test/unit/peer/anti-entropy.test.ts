import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { AntiEntropy } from '../../../node/peer/anti-entropy.js';
import type { FrameStream, Transport } from '../../../node/interfaces.js';
import { adapterSha256, initialAdapter } from '../../../protocol/adapter.js';
import { encodeHave, encodeOpening, encodeWant, NO_SEALS } from '../../../protocol/have.js';
import { UpdateLog } from '../../../protocol/log.js';
import type { Manifest, Run } from '../../../protocol/manifest.js';
import { Prng } from '../../../protocol/prng.js';
import { bodyBytes, RowFormats } from '../../../protocol/row-format.js';
import { createUpdate, type Update } from '../../../protocol/update.js';
import * as wire from '../../../protocol/wire/messages.js';
import { VirtualClock, VirtualTime } from '../../../node/sim/clock.js';
import { NO_FAULTS, SimNetwork } from '../../../node/sim/network.js';
import { replicaWith } from '../../support/replicas.js';
import { testIdentity, testRun } from '../../support/runs.js';
import { SILENT, testSealing } from '../../support/sealings.js';

/** A signed update of zeros: valid at any size, and made in no time. */
function zeros(run: Run, author: number, epoch: number): Update {
  const size = bodyBytes(new RowFormats(run).at(epoch));
  return createUpdate(run, testIdentity(author), {
    epoch,
    baseEpoch: epoch,
    steps: 8,
    logDigest: new Uint8Array(32),
    scales: new Uint8Array(size.scales),
    codes: new Uint8Array(size.codes),
  });
}

/** 2,960,896 coordinates: 384 KiB an update, so 85 of them fill a session. */
function large(manifest: Manifest): Manifest {
  const modules = [{ name: 'layers.0.up_proj', inFeatures: 740_224, outFeatures: 740_224 }];
  const adapter = { ...manifest.adapter, modules };
  return {
    ...manifest,
    adapter: { ...adapter, initialSha256: adapterSha256(initialAdapter(adapter)) },
  };
}

class World {
  readonly time = new VirtualTime(0);
  readonly network = new SimNetwork(this.time, new Prng(new Uint8Array(32), 'test'), NO_FAULTS);
  readonly #stop = new AbortController();

  constructor(readonly run: Run) {}

  peerId(index: number): string {
    return testIdentity(index, 'node').peerId;
  }

  /** A peer that holds `updates`. */
  async honest(index: number, updates: readonly Update[] = [], transport?: Transport) {
    const { run } = this;
    const nothing = (): void => undefined;
    const replica = replicaWith(run, updates, () => 40);
    const own = this.network.transport(this.peerId(index));
    const clock = new VirtualClock(this.time);
    const antiEntropy = new AntiEntropy(
      {
        transport: transport ?? own,
        clock,
        sealing: testSealing({ replica, transport: own, clock }),
        onFailure: (error) => assert.fail(String(error)),
        logger: SILENT,
        replica,
        random: new Prng(new Uint8Array(32), `peer ${index}`),
        isElsewhere: () => false,
      },
      this.#stop.signal,
    );
    await own.start({
      onGossip: () => 'ignore',
      onStream: (_kind, stream, from) => antiEntropy.serve(stream, from),
      onConnect: nothing,
      isMember: () => true,
      onDisconnect: nothing,
    });
    return { replica, antiEntropy };
  }

  /** A peer that says it holds `claims` and then does as `after` says; returns how often it was asked. */
  async liar(
    index: number,
    claims: readonly Update[],
    after: (stream: FrameStream) => Promise<void>,
  ) {
    const log = new UpdateLog();
    for (const update of claims) log.insert(update);
    const sessions = { count: 0 };
    await this.network.transport(this.peerId(index)).start({
      onGossip: () => 'ignore',
      onStream: async (_kind, stream) => {
        sessions.count += 1;
        await stream.send(encodeOpening(this.run, log, this.time.nowMs, NO_SEALS));
        for (const frame of encodeHave(this.run, log)) await stream.send(frame);
        await after(stream);
      },
      onConnect: () => undefined,
      isMember: () => true,
      onDisconnect: () => undefined,
    });
    return sessions;
  }

  async pass(ms: number): Promise<void> {
    await this.time.advanceTo(this.time.nowMs + ms);
  }

  async end(): Promise<void> {
    this.#stop.abort(new Error('the test is over'));
    await this.pass(1000);
  }
}

async function endAtOnce(stream: FrameStream): Promise<void> {
  for (const frame of encodeWant(new Map())) await stream.send(frame);
  await stream.send(wire.SyncFrame.encode({ end: {} }));
  await stream.close();
}

const silent = async (): Promise<void> => undefined;

describe('AntiEntropy', () => {
  it('fetches a log larger than a session in sessions at once, and only then counts as in sync', async () => {
    const world = new World(testRun(large));
    const updates = Array.from({ length: 90 }, (_, i) =>
      zeros(world.run, i % 3, Math.floor(i / 3)),
    );
    await world.honest(1, updates);
    const newcomer = await world.honest(2);
    let heldAtFirstSync = 0;
    newcomer.antiEntropy.firstSync.addEventListener('abort', () => {
      heldAtFirstSync = newcomer.replica.log.size;
    });
    newcomer.antiEntropy.request(world.peerId(1));
    await world.pass(5000);
    assert.equal(newcomer.replica.log.size, 90);
    assert.equal(heldAtFirstSync, 90);
    await world.end();
  });

  it('knows when the adapter of another was last seen to equal its own', async () => {
    const world = new World(testRun());
    const { replica } = await world.honest(1, [zeros(world.run, 0, 0), zeros(world.run, 1, 0)]);
    const { antiEntropy, ...newcomer } = await world.honest(2);
    antiEntropy.request(world.peerId(1));
    await world.pass(5000);
    assert.equal(newcomer.replica.sha256(), replica.sha256());
    assert.equal(antiEntropy.agreedMs(world.peerId(1)), null, 'they differed when they met');
    antiEntropy.request(world.peerId(1));
    await world.pass(5000);
    const agreedMs = antiEntropy.agreedMs(world.peerId(1));
    assert.ok(agreedMs !== null && agreedMs >= 5000 && agreedMs <= world.time.nowMs);
    antiEntropy.forget(world.peerId(1));
    assert.equal(antiEntropy.agreedMs(world.peerId(1)), null);
    await world.end();
  });

  it('does not ask again and again a peer that promises much and sends nothing', async () => {
    const world = new World(testRun(large));
    const claims = Array.from({ length: 90 }, (_, i) => zeros(world.run, i % 3, Math.floor(i / 3)));
    const sessions = await world.liar(1, claims, endAtOnce);
    const { antiEntropy } = await world.honest(2);
    antiEntropy.request(world.peerId(1));
    await world.pass(20_000);
    assert.equal(sessions.count, 1);
    await world.end();
  });

  it('is not kept from the honest by a peer that promises everything and falls silent', async () => {
    const world = new World(testRun());
    const updates = Array.from({ length: 30 }, (_, i) => zeros(world.run, 0, i));
    await world.liar(1, updates, silent);
    await world.honest(2, updates.slice(0, 15));
    const { antiEntropy, replica } = await world.honest(3);
    antiEntropy.request(world.peerId(1));
    await world.pass(15_000);
    antiEntropy.request(world.peerId(2));
    await world.pass(1000);
    assert.equal(replica.log.size, 15, 'what was asked for elsewhere is free again after a while');
    await world.pass(60_000);
    // The second time its promises block nobody at all.
    await world.honest(4, updates);
    antiEntropy.request(world.peerId(1));
    await world.pass(1000);
    antiEntropy.request(world.peerId(4));
    await world.pass(1000);
    assert.equal(replica.log.size, 30);
    await world.end();
  });

  it('counts as in sync only when nothing is left to another session that runs', async () => {
    const world = new World(testRun());
    const updates = Array.from({ length: 30 }, (_, i) => zeros(world.run, 0, i));
    await world.liar(1, updates, silent);
    await world.honest(2, updates);
    const { antiEntropy, replica } = await world.honest(3);
    antiEntropy.request(world.peerId(1));
    await world.pass(1000);
    antiEntropy.request(world.peerId(2));
    await world.pass(1000);
    assert.equal(replica.log.size, 0);
    assert.equal(antiEntropy.firstSync.aborted, false);
    await world.end();
  });

  it('goes on to others when streams to some never open', async () => {
    const world = new World(testRun());
    const updates = Array.from({ length: 3 }, (_, i) => zeros(world.run, 0, i));
    await world.honest(1, updates);
    const real = world.network.transport(world.peerId(2));
    const hung = ['silent peer 1', 'silent peer 2'];
    const transport: Transport = {
      start: (handlers) => real.start(handlers),
      stop: () => real.stop(),
      publish: (message) => real.publish(message),
      connections: () => real.connections(),
      open: (kind, peerId, signal) =>
        hung.includes(peerId)
          ? new Promise((_, reject) => {
              signal.addEventListener('abort', () => reject(signal.reason as Error));
            })
          : real.open(kind, peerId, signal),
    };
    const { antiEntropy, replica } = await world.honest(2, [], transport);
    for (const peerId of [...hung, world.peerId(1)]) antiEntropy.request(peerId);
    await world.pass(15_000);
    assert.equal(replica.log.size, 3);
    await world.end();
  });

  it('asks again for what is announced while a session with that peer runs, but not without end', async () => {
    const world = new World(testRun());
    const sessions = await world.liar(1, [], endAtOnce);
    const { antiEntropy } = await world.honest(2);
    const liar = world.peerId(1);
    antiEntropy.onAnnounced(liar);
    antiEntropy.onAnnounced(liar);
    await world.pass(1000);
    const first = sessions.count;
    assert.equal(first, 2);
    for (let i = 0; i < 40; i++) {
      antiEntropy.onAnnounced(liar);
      await world.pass(1000);
    }
    assert.equal(sessions.count, 9);
    await world.end();
  });

  it('asks for nothing that it would have to defer', async () => {
    const world = new World(testRun((m) => ({ ...m, schedule: { ...m.schedule, epochsMax: 90 } })));
    const { replica } = await world.honest(1);
    const wanted: number[] = [];
    const claims = [zeros(world.run, 0, replica.newestWelcome), zeros(world.run, 0, 80)];
    await world.liar(2, claims, async (stream) => {
      for await (const frame of stream.frames) {
        const { want } = wire.SyncFrame.decode(frame);
        if (want) wanted.push(...want.authors.map(({ epochs }) => epochs.length));
      }
    });
    const { antiEntropy } = await world.honest(3);
    antiEntropy.request(world.peerId(2));
    await world.pass(1000);
    assert.deepEqual(wanted, [1 + (replica.newestWelcome >> 3)]);
    await world.end();
  });
});
