/** Starting and stopping leaves nothing behind: no socket, no timer, no listener. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { startBootstrap, type BootstrapNode } from '../../bootstrap/bootstrap-node.js';
import { cleanAddresses } from '../../node/net/addresses.js';
import { Dialler } from '../../node/net/dialler.js';
import { GossipTransport } from '../../node/net/gossip-transport.js';
import { createIdentity } from '../../node/net/identity.js';
import { serveIntroductions } from '../../node/net/introduce.js';
import { openHostOnSamePort } from '../../node/net/port-memory.js';
import { RunRegistry } from '../../node/net/run-registry.js';
import { startHttpServer } from '../../node/http/server.js';
import { encodeManifest } from '../../protocol/manifest-codec.js';
import { Recorder } from '../compliance/transport.js';
import { sampleManifest } from '../unit/manifest-sample.js';
import { makeDirectory, silent, until } from './harness.js';

const RUN = encodeManifest(sampleManifest());
const LISTEN = ['/ip4/127.0.0.1/tcp/0'];
const ROUNDS = 20;

/** How many of each kind of resource keep this process alive, e.g. { TCPSocketWrap: 2, Timeout: 5 }. */
function resources(): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const kind of process.getActiveResourcesInfo()) counts[kind] = (counts[kind] ?? 0) + 1;
  return counts;
}

describe('a peer that is started and stopped', () => {
  let directory: Awaited<ReturnType<typeof makeDirectory>>;
  let node: BootstrapNode;

  before(async () => {
    directory = await makeDirectory();
    const dir = join(directory.path, 'node');
    node = await startBootstrap({ dir, listen: LISTEN, logger: silent });
  });
  after(async () => {
    await node.stop();
    await directory.remove();
  });

  /** All network parts of a peer, until it has told the bootstrap node of itself. */
  const round = async (): Promise<void> => {
    const identity = await createIdentity();
    const port = join(directory.path, 'port');
    const host = await openHostOnSamePort(port, { identity, listen: LISTEN }, silent);
    const page = await startHttpServer({
      port: 0,
      peer: { status: () => null, history: () => [], registries: () => [] },
    });
    const transport = new GossipTransport(host, RUN.id, silent);
    await transport.start(new Recorder());
    const registry = new RunRegistry({ own: RUN });
    const self = { peerId: host.peerId, addresses: cleanAddresses(host.peerId, host.addresses()) };
    const stopServing = await serveIntroductions(
      host,
      { registry, self: () => self, door: null },
      silent,
    );
    const dialler = new Dialler({
      ...{ host, run: RUN, registry, contacts: node.addresses(), known: [], logger: silent },
      connected: () => transport.connections().map(({ peerId }) => peerId),
      saveKnown: () => Promise.resolve(),
    });
    dialler.start();
    await until('the answer of the node', () =>
      dialler.state().contacts.every(({ nextAttemptMs, busy }) => nextAttemptMs > 0 && !busy),
    );
    await dialler.stop();
    await stopServing();
    await transport.stop();
    await page.stop();
    await host.stop();
  };

  it(
    `leaves no more after ${ROUNDS} rounds than after the first`,
    { timeout: 90_000 },
    async () => {
      // What stops closes its handles a turn of the event loop later: wait for that, then compare.
      const settled = (): Promise<void> =>
        until('all sockets and listeners of the peer are closed', () => {
          const { TCPSocketWrap = 0, TCPServerWrap = 0 } = resources();
          return TCPSocketWrap === 0 && TCPServerWrap === listenersOfTheNode;
        });
      const listenersOfTheNode = resources()['TCPServerWrap'] ?? 0;
      assert.ok(listenersOfTheNode > 0, 'the bootstrap node listens');
      await round();
      await settled();
      const first = resources();
      for (let i = 1; i < ROUNDS; i++) await round();
      await settled();
      // A leak of one timer a round would be 19 more; a few of libp2p's own come and go.
      await until(
        'the timers are gone',
        () => (resources()['Timeout'] ?? 0) <= (first['Timeout'] ?? 0) + ROUNDS / 4,
      );
    },
  );
});
