/** Whole peers over real hosts whose updates are too large for gossip: bodies come as blobs, not by sync. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { SystemClock } from '../../node/clock.js';
import { createIdentity } from '../../node/net/identity.js';
import type { Peer } from '../../node/peer.js';
import { adapterSha256, initialAdapter } from '../../protocol/adapter.js';
import { bodyBytes, RowFormats } from '../../protocol/row-format.js';
import { adapterSize, testRun } from '../support/runs.js';
import { until } from './harness.js';
import { OpenPeers } from './open-peers.js';

const EPOCHS = 4;
const PEERS = 3;

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
  const all = await OpenPeers.open(run, identities);
  const { peers, hosts } = all;
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
    await all.close();
  }
});
