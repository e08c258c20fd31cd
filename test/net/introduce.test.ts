/** Introductions through a bootstrap node and through peers: answers, bounds, refusals, restarts. */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { pbStream } from '@libp2p/utils';
import { startBootstrap, type BootstrapNode } from '../../bootstrap/bootstrap-node.js';
import { UserError } from '../../node/errors.js';
import { parseAddress } from '../../node/net/addresses.js';
import { createHost, type Host } from '../../node/net/host.js';
import { createIdentity } from '../../node/net/identity.js';
import { EXCHANGES_MAX, announce, askRuns, serveIntroductions } from '../../node/net/introduce.js';
import { RunRegistry } from '../../node/net/run-registry.js';
import { fromHex } from '../../protocol/bytes.js';
import { DHT_PROTOCOL_ID, INTRODUCE_PROTOCOL_ID } from '../../protocol/ids.js';
import { encodeManifest } from '../../protocol/manifest-codec.js';
import type { Run } from '../../protocol/manifest.js';
import { IntroduceRequest, IntroduceResponse } from '../../protocol/wire/messages.js';
import { sampleManifest } from '../unit/manifest-sample.js';
import { makeDirectory, makeHost, makeQuietHost, silent, until } from './harness.js';

const LISTEN = ['/ip4/127.0.0.1/tcp/0'];
const signal = (): AbortSignal => AbortSignal.timeout(10_000);
const runNamed = (name: string): Run => encodeManifest({ ...sampleManifest(), name });

describe('introductions through a bootstrap node', () => {
  let directory: Awaited<ReturnType<typeof makeDirectory>>;
  let node: BootstrapNode;
  let [alice, bob]: Host[] = [];

  beforeEach(async () => {
    directory = await makeDirectory();
    node = await startBootstrap({ dir: directory.path, listen: LISTEN, logger: silent });
    [alice, bob] = await Promise.all([makeHost(), makeHost()]);
  });

  afterEach(async () => {
    await Promise.all([node.stop(), alice!.stop(), bob!.stop()]);
    await directory.remove();
  });

  const announceTo = (host: Host, run: Run): ReturnType<typeof announce> =>
    announce(host, parseAddress(node.addresses()[0]!), run, null, signal());

  it('has no run until a member brings one, and then gives it whole to whoever asks', async () => {
    const address = node.addresses()[0]!;
    assert.deepEqual(await askRuns(bob!, address, signal()), []);
    const run = runNamed('offices');
    assert.deepEqual(await announceTo(alice!, run), []);
    const [known, ...more] = await askRuns(bob!, address, signal());
    assert.deepEqual(more, []);
    assert.equal(known?.run.id, run.id);
    assert.deepEqual([...known.run.bytes], [...run.bytes]);
    const port = alice!.listenPort();
    assert.deepEqual(known.peers, [
      { peerId: alice!.peerId, addresses: [`/ip4/127.0.0.1/tcp/${port}`] },
    ]);
  });

  it('tells a member of the others but not of itself, and lists many runs', async () => {
    const [one, two] = [runNamed('one'), runNamed('two')];
    await announceTo(alice!, one);
    await announceTo(alice!, two);
    const others = await announceTo(bob!, one);
    assert.deepEqual(
      others.map(({ peerId }) => peerId),
      [alice!.peerId],
    );
    const runs = await askRuns(bob!, node.addresses()[0]!, signal());
    assert.deepEqual(runs.map(({ run }) => run.manifest.name).sort(), ['one', 'two']);
    assert.deepEqual(
      node
        .runs()
        .map(({ members }) => members)
        .sort(),
      [1, 2],
    );
  });

  it('keeps address, identity and registry over a stop without goodbye', async () => {
    const run = runNamed('kept');
    await announceTo(alice!, run);
    const path = join(directory.path, 'registry.json');
    await until('the registry is on disk', async () => {
      const text = await readFile(path, 'utf8').catch(() => '');
      return text.includes(alice!.peerId);
    });
    const addresses = node.addresses();
    const onDisk = await readFile(path);
    await node.stop();
    // What a kill leaves: the file as it was, perhaps with a half-written neighbour.
    await writeFile(path, onDisk);
    await writeFile(`${path}.tmp`, onDisk.subarray(0, 20));
    node = await startBootstrap({ dir: directory.path, listen: LISTEN, logger: silent });
    assert.deepEqual(node.addresses(), addresses);
    const [known] = await askRuns(bob!, addresses[0]!, signal());
    assert.equal(known?.run.id, run.id);
    assert.deepEqual(
      known.peers.map(({ peerId }) => peerId),
      [alice!.peerId],
    );
  });

  it('starts without a registry that is damaged, and says so', async () => {
    await node.stop();
    const warnings: string[] = [];
    for (const damage of ['{"runs":[{"manifest":"AAAA"', '{"runs":[{}]}', 'null']) {
      await writeFile(join(directory.path, 'registry.json'), damage);
      const logger = { ...silent, warn: (_: object, message: string) => warnings.push(message) };
      node = await startBootstrap({ dir: directory.path, listen: LISTEN, logger });
      assert.deepEqual(node.runs(), []);
      await node.stop();
    }
    assert.deepEqual(warnings, Array(3).fill('the registry is damaged: starting without it'));
    node = await startBootstrap({ dir: directory.path, listen: LISTEN, logger: silent });
  });

  it('takes part in no gossip and answers no sync', async () => {
    await askRuns(alice!, node.addresses()[0]!, signal());
    const protocols = async (): Promise<string[]> => {
      const known = await alice!.libp2p.peerStore.all();
      return known.find(({ id }) => id.toString() === node.peerId)?.protocols ?? [];
    };
    await until('the node is identified', async () => {
      return (await protocols()).includes(DHT_PROTOCOL_ID);
    });
    const spoken = await protocols();
    assert.ok(spoken.includes(INTRODUCE_PROTOCOL_ID), spoken.join());
    assert.deepEqual(
      spoken.filter((name) => /meshsub|floodsub|sync/.test(name)),
      [],
    );
  });
});

describe('introductions through a peer', () => {
  const run = runNamed('own');
  let server: Host;
  let client: Host;
  let registry: RunRegistry;
  let stopServing: () => Promise<void>;

  before(async () => {
    [server, client] = await Promise.all([makeQuietHost(), makeQuietHost()]);
    registry = new RunRegistry({ own: run });
    const self = { peerId: server.peerId, addresses: ['/ip4/127.0.0.1/tcp/9'] };
    stopServing = await serveIntroductions(
      server,
      { registry, self: () => self, door: null },
      silent,
    );
  });

  after(async () => {
    await stopServing();
    await Promise.all([server.stop(), client.stop()]);
  });

  /** Sends `request` as it is; resolves with the answer, rejects when there is none. */
  const ask = async (request: Partial<IntroduceRequest>): Promise<IntroduceResponse> => {
    const empty = { runId: new Uint8Array(), manifest: new Uint8Array(), addresses: [] };
    const target = parseAddress(server.addresses()[0]!);
    const stream = await client.libp2p.dialProtocol(target, INTRODUCE_PROTOCOL_ID);
    const pb = pbStream(stream);
    await pb.write({ ...empty, ...request }, IntroduceRequest);
    const response = await pb.read(IntroduceResponse, { signal: signal() });
    await stream.close();
    return response;
  };

  it('names its run and itself, so that any peer can be given to join', async () => {
    const [known] = await askRuns(client, server.addresses()[0]!, signal());
    assert.equal(known?.run.id, run.id);
    assert.deepEqual(
      known.peers.map(({ peerId }) => peerId),
      [server.peerId],
    );
  });

  it('lists a member under the peer id of its connection, whatever its addresses claim', async () => {
    const foreign = `/ip4/192.0.2.1/tcp/1/p2p/${server.peerId}`;
    const addresses = [foreign, '/ip4/192.0.2.2/tcp/2'];
    const answer = await ask({ runId: fromHex(run.id), addresses });
    assert.equal(answer.runs[0]?.manifest.length, 0, 'a member needs no manifest');
    assert.deepEqual(registry.list(run.id)[0]?.peers, [
      { peerId: client.peerId, addresses: ['/ip4/192.0.2.2/tcp/2'] },
    ]);
  });

  it('refuses what is malformed, foreign or too much', async () => {
    const other = runNamed('other');
    const addresses = ['/ip4/192.0.2.2/tcp/2'];
    const many = Array.from({ length: 17 }, (_, i) => `/ip4/192.0.2.2/tcp/${i + 1}`);
    await assert.rejects(ask({ runId: Uint8Array.of(1, 2, 3) }), 'a short run id');
    await assert.rejects(ask({ addresses }), 'an announcement without a run');
    await assert.rejects(ask({ runId: fromHex(run.id), addresses: many }), '17 addresses');
    await assert.rejects(ask({ runId: fromHex(run.id), addresses: ['junk'] }), 'no usable address');
    await assert.rejects(
      ask({ runId: fromHex(other.id), manifest: other.bytes.slice(), addresses }),
      'the run of somebody else',
    );
    assert.deepEqual((await ask({ runId: fromHex(other.id) })).runs, []);
  });

  it('cuts a stream of bytes that are no request', async () => {
    const target = parseAddress(server.addresses()[0]!);
    const stream = await client.libp2p.dialProtocol(target, INTRODUCE_PROTOCOL_ID);
    stream.send(new Uint8Array(64).fill(255));
    await until('the stream is cut', () => stream.status === 'reset');
  });
});

describe('a flood of introductions', () => {
  it('is served in bounded number, and keeps nobody else waiting', async () => {
    const run = runNamed('flooded');
    const server = await makeQuietHost();
    const registry = new RunRegistry({ own: run });
    const self = { peerId: server.peerId, addresses: ['/ip4/127.0.0.1/tcp/9'] };
    const stopServing = await serveIntroductions(
      server,
      { registry, self: () => self, door: null },
      silent,
    );
    const address = server.addresses()[0]!;
    const hosts = [server];
    after(async () => {
      await stopServing();
      await Promise.all(hosts.map((host) => host.stop()));
    });
    // One connection after the other: all handshakes at once take a slow machine longer than libp2p waits.
    for (let i = 0; i < EXCHANGES_MAX / 2 + 4; i++) {
      const host = await makeQuietHost();
      hosts.push(host);
      await host.libp2p.dial(parseAddress(address));
    }
    // Streams that are opened and then say nothing; two of each connection are served at one time.
    const opened = await Promise.all(
      hosts
        .slice(1)
        .flatMap((host) =>
          [1, 2].map(() => host.libp2p.dialProtocol(parseAddress(address), INTRODUCE_PROTOCOL_ID)),
        ),
    );
    await until('the surplus is refused', () => {
      return opened.filter(({ status }) => status === 'open').length <= EXCHANGES_MAX;
    });
    const client = await makeQuietHost();
    hosts.push(client);
    for (let i = 0; i < 4; i++) {
      const [known] = await askRuns(client, address, signal());
      assert.equal(known?.run.id, run.id);
    }
    assert.ok(opened.some(({ status }) => status === 'open'));
    for (const stream of opened) stream.abort(new Error('the flood is over'));
  });
});

describe('askRuns and createHost with bad addresses', () => {
  let host: Host;
  before(async () => {
    host = await makeQuietHost();
  });
  after(() => host.stop());

  it('says in one sentence that nobody answers, and that something else does', async () => {
    const refused = askRuns(host, '/ip4/127.0.0.1/tcp/1', signal());
    await assert.rejects(refused, (error: unknown) => {
      assert.ok(error instanceof UserError);
      assert.match(
        error.message,
        /^cannot reach \/ip4\/127.0.0.1\/tcp\/1 \(connection refused\): /,
      );
      return true;
    });
    const silentPeer = await makeQuietHost();
    const address = silentPeer.addresses()[0]!;
    await assert.rejects(askRuns(host, address, signal()), /does not speak this protocol/);
    const wrongId = address.replace(silentPeer.peerId, host.peerId.replace(/.$/, 'x'));
    await assert.rejects(askRuns(host, wrongId, signal()), UserError);
    await silentPeer.stop();
  });

  it('says in one sentence that a port is taken, and takes another when any will do', async () => {
    const port = host.listenPort();
    const taken = makeHost(undefined, `/ip4/127.0.0.1/tcp/${port}`);
    await assert.rejects(taken, (error: unknown) => {
      assert.ok(error instanceof UserError && error.exitCode === 1);
      assert.match(error.message, /^cannot listen on .*: another program uses the port; /);
      assert.ok(!error.message.includes('\n'), 'one line');
      return true;
    });
    const identity = await createIdentity();
    const second = await createHost({ identity, listen: LISTEN, preferredPort: port });
    assert.notEqual(second.listenPort(), port);
    await second.stop();
  });
});
