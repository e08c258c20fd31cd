/** The transport suite on real libp2p hosts. */
import { GossipTransport } from '../../node/net/gossip-transport.js';
import { transportCompliance, type TransportSwarm } from '../compliance/transport.js';
import { dial, makeQuietHost, silent, until } from './harness.js';

const RUN_ID = 'ab'.repeat(32);
const DEADLINE_MS = 20_000;

async function makeSwarm(count: number): Promise<TransportSwarm> {
  const hosts = await Promise.all(Array.from({ length: count }, () => makeQuietHost()));
  const members = hosts.map((host) => ({
    peerId: host.peerId,
    transport: new GossipTransport(host, RUN_ID, silent),
  }));
  return {
    members,
    connect: async () => {
      for (const [i, from] of hosts.entries()) {
        for (const to of hosts.slice(i + 1)) await dial(from, to);
      }
    },
    until: (what, condition) => until(what, condition),
    run: (work) =>
      Promise.race([
        work,
        new Promise<never>((_, reject) => {
          const signal = AbortSignal.timeout(DEADLINE_MS);
          signal.addEventListener('abort', () => {
            reject(new RangeError('the operation hangs'));
          });
        }),
      ]),
    stop: async () => {
      for (const { transport } of members) await transport.stop();
      await Promise.all(hosts.map((host) => host.stop()));
    },
  };
}

transportCompliance('libp2p', makeSwarm);
