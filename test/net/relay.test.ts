/** Relays over loopback: who may use one, what runs through it, and how a direct connection takes over. */
import assert from 'node:assert/strict';
import { after, afterEach, beforeEach, describe, it } from 'node:test';
import { RELAY_V2_STOP_CODEC } from '@libp2p/circuit-relay-v2';
import { multiaddr } from '@multiformats/multiaddr';
import { startBootstrap, type BootstrapNode } from '../../bootstrap/bootstrap-node.js';
import { cleanAddresses, parseAddress, parsePeerId } from '../../node/net/addresses.js';
import { DirectUpgrade } from '../../node/net/direct-upgrade.js';
import { GossipTransport } from '../../node/net/gossip-transport.js';
import type { Host } from '../../node/net/host.js';
import { announce } from '../../node/net/introduce.js';
import { RelayPlaces, relaysOf } from '../../node/net/relay-client.js';
import { checkReach, serveReach } from '../../node/net/reach.js';
import { encodeManifest } from '../../protocol/manifest-codec.js';
import { Recorder } from '../compliance/transport.js';
import { sampleManifest } from '../unit/manifest-sample.js';
import { dial, makeDirectory, makeHost, makeQuietHost, silent, until } from './harness.js';

const RUN = encodeManifest(sampleManifest());
const signal = (): AbortSignal => AbortSignal.timeout(10_000);

describe('a relay', () => {
  let directory: Awaited<ReturnType<typeof makeDirectory>>;
  let node: BootstrapNode;
  let hosts: Host[];
  let stops: (() => Promise<void>)[] = [];

  beforeEach(async () => {
    directory = await makeDirectory();
    const listen = ['/ip4/127.0.0.1/tcp/0'];
    node = await startBootstrap({ dir: directory.path, listen, logger: silent });
    hosts = await Promise.all([makeQuietHost(), makeQuietHost()]);
  });

  afterEach(async () => {
    for (const stop of stops.splice(0)) await stop();
    await Promise.all([node.stop(), ...hosts.map((host) => host.stop())]);
    await directory.remove();
  });

  const join = (host: Host): Promise<unknown> =>
    announce(host, parseAddress(node.addresses()[0]!), RUN, null, signal());

  /** Resolves when `host` has the place that it asks for again and again. */
  const reserve = async (host: Host): Promise<void> => {
    const places = new RelayPlaces(host.libp2p, silent, () => 0);
    await until('a place', async () => {
      await places.reserve(Date.now());
      return relaysOf(host.libp2p).length === 1;
    });
  };

  const dialRelayed = async (from: Host, to: Host): Promise<void> => {
    const address = multiaddr(`${node.addresses()[0]}/p2p-circuit/p2p/${to.peerId}`);
    await from.libp2p.dial(address, { signal: signal() });
  };

  it('keeps a place for a member, at an address that others are told', async () => {
    const [alice, bob] = [hosts[0]!, hosts[1]!];
    await join(alice);
    await reserve(alice);
    const relayed = `${node.addresses()[0]}/p2p-circuit`;
    assert.ok(
      alice.addresses().includes(`${relayed}/p2p/${alice.peerId}`),
      alice.addresses().join(),
    );
    await join(alice);
    const others = await announce(bob, parseAddress(node.addresses()[0]!), RUN, null, signal());
    assert.deepEqual(others, [
      { peerId: alice.peerId, addresses: cleanAddresses(alice.peerId, alice.addresses()) },
    ]);
    assert.ok(others[0]?.addresses.includes(relayed));
  });

  it('keeps none for a stranger, and passes nothing on to one', async () => {
    const [alice, bob] = [hosts[0]!, hosts[1]!];
    await alice.libp2p.dial(parseAddress(node.addresses()[0]!), { signal: signal() });
    const places = new RelayPlaces(alice.libp2p, silent, () => 0);
    for (let i = 0; i < 3; i++) await places.reserve(Number.MAX_SAFE_INTEGER);
    assert.deepEqual(relaysOf(alice.libp2p), []);
    await assert.rejects(dialRelayed(bob, alice));
  });

  it('lets a run gossip and sync, and hands over to a direct connection without losing a member', async () => {
    const [alice, bob] = [hosts[0]!, hosts[1]!];
    const transports = hosts.map((host) => new GossipTransport(host, RUN.id, silent));
    const recorders = hosts.map(() => new Recorder());
    for (const [i, transport] of transports.entries()) await transport.start(recorders[i]!);
    stops = transports.map((transport) => () => transport.stop());
    await join(alice);
    await reserve(alice);
    await dialRelayed(bob, alice);
    const both = (count: number): boolean =>
      transports.every((transport) => transport.connections().length === count);
    await until('both are members', () => both(1));
    for (const transport of transports) {
      assert.match(transport.connections()[0]?.address ?? '', /\/p2p-circuit/);
    }
    await transports[0]!.publish(Uint8Array.of(65));
    await until('gossip arrives', () => recorders[1]!.messages.length === 1);
    const stream = await transports[1]!.open('sync', alice.peerId, signal());
    await stream.send(Uint8Array.of(66));
    await until('a sync stream arrives', () => recorders[0]!.streams.length === 1);
    stream.abort(new Error('that was all'));
    recorders[0]!.streams[0]!.stream.abort(new Error('that was all'));
    assert.equal(bob.libp2p.getConnections(parsePeerId(alice.peerId)!).length, 1, 'no second dial');

    const upgrade = new DirectUpgrade(bob, () => 0);
    const tick = (nowMs: number): Promise<void>[] =>
      upgrade.dialDue(
        [parsePeerId(alice.peerId)!],
        () => cleanAddresses(alice.peerId, alice.addresses()),
        nowMs,
        signal(),
      );
    assert.equal(tick(0).length, 0, 'a moment later');
    await Promise.all(tick(60_000));
    await until('the direct connection alone is left', () =>
      transports.every((transport, i) => {
        const all = hosts[i]!.libp2p.getConnections(parsePeerId(hosts[1 - i]!.peerId)!);
        return all.length === 1 && all[0]!.direct && transport.connections().length === 1;
      }),
    );
    await transports[1]!.publish(Uint8Array.of(67));
    await until('gossip arrives on it', () => recorders[0]!.messages.length === 1);
    assert.equal(tick(120_000).length, 0);
  });

  it('that nobody asked for makes no peer listen, however often it calls', async () => {
    const [victim, hostile] = [hosts[0]!, hosts[1]!];
    await dial(hostile, victim);
    const { transportManager } = victim.libp2p.services.parts;
    const before = transportManager.getListeners().length;
    for (let i = 0; i < 5; i++) {
      const [connection] = hostile.libp2p.getConnections();
      const stream = await connection!.newStream(RELAY_V2_STOP_CODEC, { signal: signal() });
      stream.send(Uint8Array.of(0));
      stream.abort(new Error('enough'));
    }
    await until('the streams are gone', () =>
      victim.libp2p
        .getConnections()
        .every(({ streams }) => streams.every(({ protocol }) => protocol !== RELAY_V2_STOP_CODEC)),
    );
    assert.equal(transportManager.getListeners().length, before);
  });
});

describe('a reach check', () => {
  it('says where one is seen and which ports answer with the right key', async () => {
    const hosts = await Promise.all([makeQuietHost(), makeHost(), makeQuietHost()]);
    const [asker, server, other] = hosts;
    const stop = await serveReach(server, silent);
    after(async () => {
      await stop();
      await Promise.all(hosts.map((host) => host.stop()));
    });
    await dial(asker, server);
    const [own, foreign] = [asker.listenPort()!, other.listenPort()!];
    const id = parsePeerId(server.peerId)!;
    const result = await checkReach(asker, id, [own, foreign, 1, 70_000], signal());
    assert.deepEqual(result, { seen: '/ip4/127.0.0.1', ports: [own] });
    assert.equal(server.libp2p.getConnections(parsePeerId(asker.peerId)!).length, 1, 'undisturbed');
    await assert.rejects(checkReach(asker, parsePeerId(other.peerId)!, [own], signal()));
  });
});
