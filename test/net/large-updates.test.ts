/** Whole peers over real hosts whose updates are too large for gossip: bodies come as blobs, not by sync. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, it } from 'node:test';
import { SystemClock } from '../../node/clock.js';
import type { Store, Trainer } from '../../node/interfaces.js';
import { HeldMoments } from '../../node/moments.js';
import { GossipTransport } from '../../node/net/gossip-transport.js';
import type { Host } from '../../node/net/host.js';
import { createIdentity } from '../../node/net/identity.js';
import { Peer } from '../../node/peer.js';
import { DataDirectory } from '../../node/store/directory.js';
import { FileStore } from '../../node/store/file-store.js';
import { adapterSha256, initialAdapter } from '../../protocol/adapter.js';
import { bodyBytes, RowFormats } from '../../protocol/row-format.js';
import { adapterSize, testRun } from '../support/runs.js';
import { dial, makeHost, silent, until } from './harness.js';

const EPOCHS = 4;
const PEERS = 3;

/** Moves every coordinate a little, each peer in its own way. */
function trainerOf(index: number, clock: SystemClock): Trainer {
  return {
    device: 'none',
    evaluate: async () => null,
    train: async ({ theta, optimiser, steps, epoch }) => {
      await clock.sleep(50);
      const { length } = theta;
      return {
        theta: theta.map((value, i) => value + 1e-3 * Math.sin(i + index + epoch)),
        optimiser:
          optimiser ??
          new HeldMoments({ step: 0, m: new Float32Array(length), v: new Float32Array(length) }),
        steps,
        tokens: 1,
        loss: 1,
        seconds: 1,
      };
    },
  };
}

const made: string[] = [];

async function newStore(runId: string): Promise<Store> {
  const path = await mkdtemp(join(tmpdir(), 'murmurate-large-'));
  made.push(path);
  return new FileStore(new DataDirectory(path), runId);
}

after(async () => {
  for (const path of made) await rm(path, { recursive: true, force: true });
});

it('peers whose updates are announced end with one adapter, from bodies that came as blobs', async () => {
  const clock = new SystemClock();
  const identities = await Promise.all(Array.from({ length: PEERS }, () => createIdentity()));
  const run = testRun((manifest) => {
    // 289 KiB an update: two chunks.
    const modules = [{ name: 'layers.0.up_proj', inFeatures: 557_056, outFeatures: 557_056 }];
    const adapter = { ...manifest.adapter, modules };
    return {
      ...manifest,
      founder: identities[0]!.peerId,
      adapter: { ...adapter, initialSha256: adapterSha256(initialAdapter(adapter)) },
      schedule: {
        ...{ startMs: clock.now() + 8_000, epochMs: 8_000, epochsMax: EPOCHS },
        ...{ stepsRef: 1, cohorts: 1 },
      },
    };
  });
  assert.equal(adapterSize(run), 2_228_224);
  const hosts: Host[] = [];
  const peers: Peer[] = [];
  for (const [i, identity] of identities.entries()) {
    const host = await makeHost(identity, undefined, 'client');
    const transport = new GossipTransport(host, run.id, silent);
    const parts = { transport, clock, identity, logger: silent };
    const peer = new Peer(
      { ...parts, store: await newStore(run.id), trainer: trainerOf(i, clock) },
      { run },
    );
    await peer.start();
    for (const other of hosts) await dial(host, other);
    hosts.push(host);
    peers.push(peer);
  }
  try {
    const isDone = (peer: Peer): boolean => {
      const { adapter, state } = peer.snapshot();
      return state === 'finished' && adapter.updates === PEERS * EPOCHS;
    };
    await until('all have all', () => peers.every(isDone), 90_000);
    const hashes = new Set(peers.map((peer) => peer.snapshot().adapter.sha256));
    assert.equal(hashes.size, 1);
    const { scales, codes } = bodyBytes(new RowFormats(run).at(0));
    for (const [i, host] of hosts.entries()) {
      const { blob, sync, gossip } = host.traffic().bytesIn;
      const needed = (PEERS - 1) * EPOCHS * (scales + codes);
      assert.ok(blob > needed && blob < 1.1 * needed, `${blob} bytes of blobs for ${needed}`);
      assert.ok(sync < 0.1 * needed && gossip < 0.1 * needed, `sync ${sync}, gossip ${gossip}`);
      assert.ok(peers[i]!.snapshot().lastRecipients! >= 1);
    }
  } finally {
    for (const peer of peers) await peer.stop();
    for (const host of hosts) await host.stop();
  }
});
