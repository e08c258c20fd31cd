/** Scenarios with updates too large for gossip, which are announced and fetched in chunks. */
import assert from 'node:assert/strict';
import { adapterSha256, initialAdapter } from '../../protocol/adapter.js';
import { UPDATE_INLINE_BYTES_MAX } from '../../protocol/limits.js';
import type { Manifest } from '../../protocol/manifest.js';
import { bodyBytes, RowFormats } from '../../protocol/row-format.js';
import { checkAgreement, type Scenario } from './checkers.js';
import { Swarm, type SwarmOptions } from './swarm.js';

const EPOCHS = 2;

/** 2,228,224 coordinates: 289 KiB an update, two chunks. Few epochs, as each is work. */
function large(manifest: Manifest): Manifest {
  const modules = [{ name: 'layers.0.up_proj', inFeatures: 557_056, outFeatures: 557_056 }];
  const adapter = { ...manifest.adapter, modules };
  return {
    ...manifest,
    adapter: { ...adapter, initialSha256: adapterSha256(initialAdapter(adapter)) },
    schedule: { ...manifest.schedule, epochMs: 30_000, epochsMax: EPOCHS, stepsRef: 1 },
  };
}

/** A swarm whose updates are announced, by gossip that goes from neighbour to neighbour. */
export class LargeSwarm extends Swarm {
  readonly updateBytes: number;

  constructor(options: SwarmOptions) {
    super({ ...options, change: large });
    this.network.isMeshed = true;
    const { scales, codes } = bodyBytes(new RowFormats(this.run).at(0));
    this.updateBytes = scales + codes;
    assert.ok(this.updateBytes > UPDATE_INLINE_BYTES_MAX);
  }

  /** Bytes that all blob streams carried, in multiples of what every peer needs of the others. */
  copies(peers: number): number {
    const carried = [...this.network.blobBytes.values()].reduce((sum, bytes) => sum + bytes, 0);
    return carried / (peers * (peers - 1) * EPOCHS * this.updateBytes);
  }
}

export const LARGE_SCENARIOS: Readonly<Record<string, Scenario>> = {
  'large-updates': {
    title: 'large updates reach everyone as blobs, each chunk once',
    async run(seed, peers) {
      const swarm = new LargeSwarm({ seed, peers });
      await swarm.startAll();
      await swarm.runToEnd(1);
      const outcome = checkAgreement(swarm);
      assert.equal(outcome.updates, peers * EPOCHS);
      const copies = swarm.copies(peers);
      assert.ok(copies > 0.99 && copies < 1.02, `${copies} copies of each update for each peer`);
      return outcome;
    },
  },

  'large-faults': {
    title: 'large updates arrive over streams that break, by blobs where announcements come',
    async run(seed, peers) {
      const faults = { loss: 0.2, reset: 0.1, delayMsMin: 5, delayMsMax: 300 };
      const swarm = new LargeSwarm({ seed, peers, faults });
      await swarm.startAll();
      await swarm.runToEnd(4);
      const outcome = checkAgreement(swarm);
      assert.equal(outcome.updates, peers * EPOCHS);
      const copies = swarm.copies(peers);
      assert.ok(copies > 0.5 && copies < 1.3, `${copies} copies of each update for each peer`);
      return outcome;
    },
  },
};
