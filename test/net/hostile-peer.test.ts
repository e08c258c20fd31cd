/** What one connected peer can make another keep: connections, and records in the DHT. */
import assert from 'node:assert/strict';
import { afterEach, describe, it } from 'node:test';
import { parseAddress } from '../../node/net/addresses.js';
import { connectionToKeep } from '../../node/net/connection-trimmer.js';
import { GossipTransport } from '../../node/net/gossip-transport.js';
import type { Host } from '../../node/net/host.js';
import { Recorder } from '../compliance/transport.js';
import { makeQuietHost, silent, until } from './harness.js';

const RUN_ID = '5a'.repeat(32);

describe('two connections to one peer', () => {
  let hosts: Host[] = [];
  let transports: GossipTransport[] = [];
  let recorders: Recorder[] = [];

  afterEach(async () => {
    for (const transport of transports) await transport.stop();
    for (const host of hosts) await host.stop();
  });

  const startTwo = async (): Promise<[Host, Host]> => {
    const [a, b] = await Promise.all([makeQuietHost(), makeQuietHost()]);
    hosts = [a, b];
    transports = hosts.map((host) => new GossipTransport(host, RUN_ID, silent));
    recorders = hosts.map(() => new Recorder());
    await Promise.all(transports.map((transport, i) => transport.start(recorders[i]!)));
    return [a, b];
  };
  const dialAgain = (from: Host, to: Host): Promise<unknown> =>
    from.libp2p.dial(parseAddress(to.addresses()[0]!), { force: true });
  const counts = (): number[] => hosts.map((host) => host.libp2p.getConnections().length);
  const areTrimmed = (): boolean => counts().every((count) => count === 1);

  it('become the one that the smaller id dialled when both dial at once, and gossip goes on', async () => {
    const [a, b] = await startTwo();
    await Promise.all([dialAgain(a, b), dialAgain(b, a)]);
    await until('both have two', () => counts().every((count) => count === 2));
    await until('one is left', areTrimmed);
    for (const [self, other] of [
      [a, b],
      [b, a],
    ] as const) {
      const direction = self.peerId < other.peerId ? 'outbound' : 'inbound';
      assert.equal(self.libp2p.getConnections()[0]?.direction, direction);
    }
    await until('both are members', () => transports.every((t) => t.connections().length === 1));
    assert.equal(await transports[0]!.publish(Uint8Array.of(1)), 1);
    assert.equal(await transports[1]!.publish(Uint8Array.of(2)), 1);
    await until('both hear', () => recorders.every(({ messages }) => messages.length === 1));
    assert.ok(areTrimmed(), 'and it stays one');
  });

  it('become one when the second comes long after the gossip began on the first', async () => {
    const [a, b] = await startTwo();
    const [small, large] = a.peerId < b.peerId ? [a, b] : [b, a];
    await dialAgain(large, small);
    await until('both are members', () => transports.every((t) => t.connections().length === 1));
    await dialAgain(small, large);
    await until('both have two', () => counts().every((count) => count === 2));
    await until('one is left', areTrimmed);
    // Well before the gossip watchdog would notice: identify starts the streams again.
    await until(
      'gossip is back',
      () => transports.every((t) => t.connections().length === 1),
      2_000,
    );
    assert.equal(await transports[0]!.publish(Uint8Array.of(1)), 1);
    await until('it is heard', () => recorders[1]!.messages.length === 1);
  });

  it('is chosen alike by both ends, whatever the order', () => {
    const opened = (direction: 'inbound' | 'outbound', open: number, direct = true) => ({
      ...{ direct, direction, timeline: { open } },
    });
    const seenByA = [opened('outbound', 1), opened('inbound', 2), opened('outbound', 3)];
    const seenByB = [opened('inbound', 3), opened('outbound', 2), opened('inbound', 1)];
    assert.equal(connectionToKeep(seenByA, 'A', 'B')?.timeline.open, 3);
    assert.equal(connectionToKeep(seenByB, 'B', 'A')?.timeline.open, 3);
    assert.equal(connectionToKeep(seenByA, 'C', 'B')?.timeline.open, 2);
    assert.equal(connectionToKeep(seenByB, 'B', 'C')?.timeline.open, 2);
    assert.equal(connectionToKeep(seenByA.slice(3), 'A', 'B'), undefined);
    const relayed = opened('outbound', 9, false);
    assert.equal(connectionToKeep([relayed, opened('inbound', 2)], 'A', 'B')?.timeline.open, 2);
    assert.equal(connectionToKeep([relayed], 'A', 'B'), relayed);
  });
});
