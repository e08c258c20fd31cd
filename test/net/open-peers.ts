/** Whole peers over real hosts on loopback, with a stand-in for training: what they exchange is on trial. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SystemClock } from '../../node/clock.js';
import type { Trainer } from '../../node/interfaces.js';
import { HeldMoments } from '../../node/moments.js';
import { GossipTransport } from '../../node/net/gossip-transport.js';
import type { Host } from '../../node/net/host.js';
import type { NetIdentity } from '../../node/net/identity.js';
import { Peer } from '../../node/peer.js';
import { DataDirectory } from '../../node/store/directory.js';
import { FileStore } from '../../node/store/file-store.js';
import type { Run } from '../../protocol/manifest.js';
import { dial, makeHost, silent } from './harness.js';

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

/** Peers of one run, each connected to all others. */
export class OpenPeers {
  readonly hosts: Host[] = [];
  readonly peers: Peer[] = [];
  readonly #made: string[] = [];

  static async open(run: Run, identities: readonly NetIdentity[]): Promise<OpenPeers> {
    const all = new OpenPeers();
    for (const identity of identities) await all.#add(run, identity);
    return all;
  }

  async close(): Promise<void> {
    for (const peer of this.peers) await peer.stop();
    for (const host of this.hosts) await host.stop();
    for (const path of this.#made) await rm(path, { recursive: true, force: true });
  }

  async #add(run: Run, identity: NetIdentity): Promise<void> {
    const clock = new SystemClock();
    const path = await mkdtemp(join(tmpdir(), 'murmurate-peers-'));
    this.#made.push(path);
    const host = await makeHost(identity, undefined, 'client');
    const peer = new Peer(
      {
        transport: new GossipTransport(host, run.id, silent),
        ...{ clock, identity, logger: silent, trainer: trainerOf(this.peers.length, clock) },
        store: new FileStore(new DataDirectory(path), run.id),
      },
      { run },
    );
    await peer.start();
    for (const other of this.hosts) await dial(host, other);
    this.hosts.push(host);
    this.peers.push(peer);
  }
}
