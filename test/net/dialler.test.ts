/** Diallers with a real bootstrap node: peers find each other, lose each other, and find each other again. */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { startBootstrap, type BootstrapNode } from '../../bootstrap/bootstrap-node.js';
import { cleanAddresses } from '../../node/net/addresses.js';
import { DEGREE } from '../../node/net/dial-rule.js';
import { Dialler } from '../../node/net/dialler.js';
import { GossipTransport } from '../../node/net/gossip-transport.js';
import type { Host } from '../../node/net/host.js';
import { createIdentity, type NetIdentity } from '../../node/net/identity.js';
import { serveIntroductions } from '../../node/net/introduce.js';
import { loadKnownPeers, saveKnownPeers } from '../../node/net/known-peers.js';
import { RunRegistry, type PeerAddresses } from '../../node/net/run-registry.js';
import { encodeManifest } from '../../protocol/manifest-codec.js';
import { Recorder } from '../compliance/transport.js';
import { sampleManifest } from '../unit/manifest-sample.js';
import { makeDirectory, makeHost, makeQuietHost, silent, until } from './harness.js';

const RUN = encodeManifest(sampleManifest());
/** Peers of an island: more than the degree and one, so that nobody dials for want of members. */
const ISLAND = 8;
const text = (value: string): Uint8Array => new TextEncoder().encode(value);

/** A whole peer but for the training. */
interface TestPeer {
  host: Host;
  transport: GossipTransport;
  recorder: Recorder;
  dialler: Dialler;
  stop: () => Promise<void>;
}

interface TestPeerInit {
  identity: NetIdentity;
  listen?: string;
  contacts?: readonly string[];
  knownPath?: string;
  roamIntervalMs?: number;
}

async function startPeer({
  identity,
  listen,
  contacts = [],
  knownPath,
  ...roaming
}: TestPeerInit): Promise<TestPeer> {
  const host = await makeHost(identity, listen);
  const transport = new GossipTransport(host, RUN.id, silent);
  const recorder = new Recorder();
  await transport.start(recorder);
  const registry = new RunRegistry({ own: RUN });
  const self = (): PeerAddresses => ({
    peerId: host.peerId,
    addresses: cleanAddresses(host.peerId, host.addresses()),
  });
  const stopServing = await serveIntroductions(host, { registry, self, door: null }, silent);
  const known = knownPath === undefined ? [] : await loadKnownPeers(knownPath);
  assert.ok(known !== null);
  const dialler = new Dialler({
    host,
    run: RUN,
    registry,
    contacts,
    known,
    connected: () => transport.connections().map(({ peerId }) => peerId),
    saveKnown: async (peers) => {
      if (knownPath !== undefined) await saveKnownPeers(knownPath, peers);
    },
    logger: silent,
    ...roaming,
  });
  dialler.start();
  const stop = async (): Promise<void> => {
    await dialler.stop();
    await stopServing();
    await transport.stop();
    await host.stop();
  };
  return { host, transport, recorder, dialler, stop };
}

const membersOf = ({ transport }: TestPeer): number => transport.connections().length;

describe('Dialler', () => {
  let directory: Awaited<ReturnType<typeof makeDirectory>>;
  let peers: TestPeer[];
  let bootstrap: BootstrapNode | null;

  beforeEach(async () => {
    directory = await makeDirectory();
    peers = [];
    bootstrap = null;
  });

  afterEach(async () => {
    await Promise.all([...peers.map((peer) => peer.stop()), bootstrap?.stop()]);
    await directory.remove();
  });

  const start = async (init: TestPeerInit): Promise<TestPeer> => {
    const peer = await startPeer(init);
    peers.push(peer);
    return peer;
  };

  const end = async (peer: TestPeer): Promise<void> => {
    peers = peers.filter((each) => each !== peer);
    await peer.stop();
  };

  const startNode = (listen: string): Promise<BootstrapNode> =>
    startBootstrap({ dir: join(directory.path, 'node'), listen: [listen], logger: silent });

  it('finds the others through a bootstrap node, and gossips on when that node is gone', async () => {
    bootstrap = await startNode('/ip4/127.0.0.1/tcp/0');
    const contacts = bootstrap.addresses();
    for (let i = 0; i < 3; i++) await start({ identity: await createIdentity(), contacts });
    await until('all are connected', () => peers.every((peer) => membersOf(peer) === 2));
    for (const { dialler } of peers) assert.deepEqual(dialler.attention(Date.now()), []);
    await bootstrap.stop();
    bootstrap = null;
    await until(
      'the loss of the node is reported',
      () => peers.every(({ dialler }) => dialler.attention(Date.now()).length === 1),
      60_000,
    );
    const [sentence = ''] = peers[0]!.dialler.attention(Date.now());
    assert.match(
      sentence,
      /^cannot reach .*tcp.* \(connection refused\): going on with 2 connected peers, (next attempt in \d+ s|trying again now)$/,
    );
    await peers[0]!.transport.publish(text('without a server'));
    await until('the others hear it', () =>
      peers.slice(1).every(({ recorder }) => recorder.messages.length === 1),
    );
  });

  it('reports an address that does not answer, trains alone, and connects when it comes up', async () => {
    const late = await createIdentity();
    const probe = await makeHost(late);
    const port = probe.listenPort();
    await probe.stop();
    const address = `/ip4/127.0.0.1/tcp/${port}/p2p/${late.peerId}`;
    const first = await start({ identity: await createIdentity(), contacts: [address] });
    await until('the failure is reported', () => first.dialler.attention(Date.now()).length === 1);
    const sentence = first.dialler.attention(Date.now())[0] ?? '';
    const expected = `cannot reach ${address} (connection refused): nobody is connected, `;
    assert.ok(sentence.startsWith(expected), sentence);
    await start({ identity: late, listen: `/ip4/127.0.0.1/tcp/${port}` });
    await until(
      'the two are connected',
      () => peers.every((peer) => membersOf(peer) === 1),
      30_000,
    );
    await until('the report is withdrawn', () => first.dialler.attention(Date.now()).length === 0);
  });

  it('finds a restarted peer again, and a restarted peer finds the others from its file', async () => {
    const identity = await createIdentity();
    const first = await start({ identity: await createIdentity() });
    const knownPath = join(directory.path, 'known-peers.json');
    let second = await start({ identity, contacts: [first.host.addresses()[0]!], knownPath });
    const listen = `/ip4/127.0.0.1/tcp/${second.host.listenPort()}`;
    await until('the two are connected', () => peers.every((peer) => membersOf(peer) === 1));
    await until('the members are on disk', async () => {
      const saved = await readFile(knownPath, 'utf8').catch(() => '');
      return saved.includes(first.host.peerId);
    });

    // Without any contact, only the other side or the file can bring them together.
    await end(second);
    await until('the loss is noticed', () => membersOf(first) === 0);
    second = await start({ identity, listen });
    await until('the first dials', () => peers.every((peer) => membersOf(peer) === 1), 30_000);
    assert.ok(first.recorder.connects.length >= 2, 'a new episode is told');

    await end(first);
    await end(second);
    const third = await start({ identity: await createIdentity() });
    await saveKnownPeers(knownPath, [
      {
        peerId: third.host.peerId,
        addresses: cleanAddresses(third.host.peerId, third.host.addresses()),
      },
    ]);
    await start({ identity, knownPath });
    await until('the file is used', () => peers.every((peer) => membersOf(peer) === 1));
  });

  it('learns of members through the one member that it knows', async () => {
    const hub = await start({ identity: await createIdentity() });
    const contacts = [hub.host.addresses()[0]!];
    for (let i = 0; i < 2; i++) await start({ identity: await createIdentity(), contacts });
    await until('the spokes are connected too', () => peers.every((peer) => membersOf(peer) === 2));
  });

  it('joins two islands that hear of each other although each member has connections enough', async () => {
    const islands: TestPeer[][] = [[], []];
    for (const island of islands) {
      for (let i = 0; i < ISLAND; i++) {
        const contacts = island.slice(0, 1).map(({ host }) => host.addresses()[0]!);
        island.push(
          await start({ identity: await createIdentity(), contacts, roamIntervalMs: 2_000 }),
        );
      }
    }
    const isSated = (peer: TestPeer): boolean => membersOf(peer) >= DEGREE;
    await until('nobody needs more members', () => peers.every(isSated), 60_000);
    // What a bootstrap node tells both sides when it can be reached again.
    const addressesOf = (island: TestPeer[]): PeerAddresses[] =>
      island.map(({ host }) => ({
        peerId: host.peerId,
        addresses: cleanAddresses(host.peerId, host.addresses()),
      }));
    const [left = [], right = []] = islands;
    for (const { dialler } of left) dialler.heard(addressesOf(right));
    for (const { dialler } of right) dialler.heard(addressesOf(left));
    const ids = new Set(right.map(({ host }) => host.peerId));
    const bridges = (): number =>
      left.flatMap(({ transport }) =>
        transport.connections().filter(({ peerId }) => ids.has(peerId)),
      ).length;
    await until('the islands are joined many times', () => bridges() >= ISLAND, 90_000);
    const dialled = ({ transport }: TestPeer): number =>
      transport.connections().filter(({ direction }) => direction === 'outbound').length;
    await until(
      'what is too much is let go',
      () => peers.every((peer) => dialled(peer) <= DEGREE + 1 && isSated(peer)),
      60_000,
    );
  });
});

describe('a dialler on a slow disk', () => {
  it('writes the known members one write at a time', async (t) => {
    const host = await makeQuietHost();
    const ids = [(await createIdentity()).peerId, (await createIdentity()).peerId];
    const [first, second] = ids.map((peerId) => ({
      peerId,
      addresses: [`/ip4/127.0.0.1/tcp/9/p2p/${peerId}`],
    }));
    assert.ok(first && second);
    const connected = [first.peerId];
    const writes: { peers: PeerAddresses[]; finish: () => void }[] = [];
    const dialler = new Dialler({
      ...{ host, run: RUN, registry: new RunRegistry({ own: RUN }), contacts: [] },
      known: [first],
      connected: () => connected,
      saveKnown: (peers) => new Promise((finish) => writes.push({ peers, finish })),
      logger: silent,
    });
    dialler.start();
    assert.equal(writes.length, 1);

    // Time for many more writes passes, and there is something to write.
    t.mock.timers.enable({ apis: ['Date'], now: Date.now() + 60_000 });
    connected.push(second.peerId);
    dialler.heard([second]);
    t.mock.timers.reset();
    assert.equal(writes.length, 1);

    writes[0]?.finish();
    await until('the second write', () => writes.length === 2);
    assert.deepEqual(
      writes
        .at(1)
        ?.peers.map(({ peerId }) => peerId)
        .sort(),
      ids.sort(),
    );
    writes[1]?.finish();
    await dialler.stop();
    await host.stop();
  });
});

describe('loadKnownPeers', () => {
  it('tells a damaged file from none, and leaves out what is not an address', async () => {
    const directory = await makeDirectory();
    const path = join(directory.path, 'known-peers.json');
    assert.deepEqual(await loadKnownPeers(path), []);
    const { peerId } = await createIdentity();
    const peers = [
      { peerId, addresses: ['/ip4/127.0.0.1/tcp/4001', 'junk'] },
      { peerId: 'nobody', addresses: ['/ip4/127.0.0.1/tcp/4001'] },
    ];
    await writeFile(path, JSON.stringify({ peers }));
    assert.deepEqual(await loadKnownPeers(path), [
      { peerId, addresses: ['/ip4/127.0.0.1/tcp/4001'] },
    ]);
    for (const damage of ['', '{"peers":', '{"peers":[{"peerId":7}]}', '[]']) {
      await writeFile(path, damage);
      assert.equal(await loadKnownPeers(path), null, damage);
    }
    await directory.remove();
  });
});
