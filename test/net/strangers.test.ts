/** What a stranger gets from a peer of a closed run, and from a private network: nothing. Real hosts on loopback. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { afterEach, describe, it } from 'node:test';
import { multiaddr } from '@multiformats/multiaddr';
import { startBootstrap } from '../../bootstrap/bootstrap-node.js';
import { parseAddress, parsePeerId } from '../../node/net/addresses.js';
import { NotAdmittedError } from '../../node/net/errors.js';
import { GossipTransport } from '../../node/net/gossip-transport.js';
import { createHost, type Host } from '../../node/net/host.js';
import { createIdentity } from '../../node/net/identity.js';
import { announce, askRuns } from '../../node/net/introduce.js';
import { RelayPlaces } from '../../node/net/relay-client.js';
import { checkReach, serveReach } from '../../node/net/reach.js';
import { SwarmKey } from '../../node/net/swarm-key.js';
import { updateTopic } from '../../protocol/ids.js';
import { Recorder } from '../compliance/transport.js';
import { inviteRun, testAdmission } from '../support/invites.js';
import { dial, makeDirectory, makeQuietHost, silent, until } from './harness.js';

const RUN_ID = 'cd'.repeat(32);
const LISTEN = ['/ip4/127.0.0.1/tcp/0'];
const signal = (): AbortSignal => AbortSignal.timeout(20_000);

const ends: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

async function quietHost(swarmKey: SwarmKey | null = null): Promise<Host> {
  const identity = await createIdentity();
  const host = await createHost({ identity, listen: LISTEN, dht: 'client', swarmKey });
  ends.push(() => host.stop());
  return host;
}

/** Handlers of a closed run. */
class ClosedRecorder extends Recorder {
  readonly admitted = new Set<string>();
  refused = 0;

  override isMember(peerId?: string): boolean {
    return this.admitted.has(peerId ?? '');
  }

  onStranger(): void {
    this.refused += 1;
  }
}

describe('a peer of a closed run', () => {
  it('resets the streams of a stranger, drops its gossip unread and sends it none, until it is let in', async () => {
    const [member, stranger] = [await quietHost(), await quietHost()];
    const [own, foreign] = [new ClosedRecorder(), new Recorder()];
    const transport = new GossipTransport(member, RUN_ID, silent);
    const other = new GossipTransport(stranger, RUN_ID, silent);
    await transport.start(own);
    await other.start(foreign);
    ends.push(
      () => transport.stop(),
      () => other.stop(),
    );
    await dial(stranger, member);
    await until('the stranger takes the peer for a member', () => foreign.connects.length === 1);
    for (const kind of ['sync', 'blob'] as const) {
      const before = own.refused;
      const stream = await other.open(kind, member.peerId, signal());
      await assert.rejects(async () => {
        for (let i = 0; i < 1_000; i++) await stream.send(new Uint8Array(1_000));
        for await (const frame of stream.frames) assert.fail(`${frame.length} bytes`);
      });
      assert.equal(own.refused, before + 1, kind);
    }
    const before = own.refused;
    await until('its gossip is dropped', async () => {
      await other.publish(Uint8Array.of(1));
      return own.refused > before;
    });
    assert.equal(await transport.publish(Uint8Array.of(2)), 0, 'nobody to tell');
    assert.deepEqual([own.messages, own.streams, own.connects], [[], [], []]);
    assert.deepEqual(transport.connections(), []);

    own.admitted.add(stranger.peerId);
    await until('it is a member', () => own.connects.length === 1);
    await until('it hears and is heard', async () => {
      await transport.publish(Uint8Array.of(3));
      await other.publish(Uint8Array.of(4));
      return foreign.messages.length > 0 && own.messages.length > 0;
    });
  });

  it('is not worn out by a stranger that goes on: gossipsub stops to read what it sends', async () => {
    const [member, stranger] = [await quietHost(), await makeQuietHost()];
    ends.push(() => stranger.stop());
    const own = new ClosedRecorder();
    const transport = new GossipTransport(member, RUN_ID, silent);
    await transport.start(own);
    ends.push(() => transport.stop());
    const gossip = await stranger.startGossip(updateTopic(RUN_ID), () => true);
    gossip.subscribe(updateTopic(RUN_ID));
    await dial(stranger, member);
    let sent = 0;
    let quiet = 0;
    await until('a hundred messages in a row count for nothing', async () => {
      const before = own.refused;
      const { recipients } = await gossip.publish(updateTopic(RUN_ID), Uint8Array.of(sent++ & 255));
      if (recipients.length === 0 || own.refused === 0) return false;
      quiet = own.refused === before ? quiet + 1 : 0;
      return quiet >= 100;
    });
    assert.ok(own.refused < sent, `${own.refused} of ${sent}`);
    assert.deepEqual(own.messages, []);
  });
});

describe('a bootstrap node, in a run with invites', () => {
  it('lists who shows an admission, and tells nobody else who takes part', async () => {
    const directory = await makeDirectory();
    ends.push(() => directory.remove());
    const node = await startBootstrap({ dir: directory.path, listen: LISTEN, logger: silent });
    ends.push(() => node.stop());
    const [identity, run] = [await createIdentity(), inviteRun()];
    const invited = await createHost({ identity, listen: LISTEN, dht: 'client' });
    ends.push(() => invited.stop());
    const stranger = await quietHost();
    const address = parseAddress(node.addresses()[0]!);
    const refused = (error: unknown): boolean =>
      error instanceof NotAdmittedError && error.refusal === 'not-a-member';
    await assert.rejects(announce(invited, address, run, null, signal()), refused);
    const show = (host: Host): ReturnType<typeof announce> => {
      const { signed } = testAdmission(run, identity, 'one');
      return announce(host, address, run, { admission: signed, meet: () => undefined }, signal());
    };
    assert.deepEqual(await show(invited), []);
    await assert.rejects(show(stranger), (error) => {
      return error instanceof NotAdmittedError && error.refusal === 'bad-admission';
    });
    const asked = async (host: Host): Promise<string[][]> =>
      (await askRuns(host, node.addresses()[0]!, signal())).map(({ peers }) =>
        peers.map(({ peerId }) => peerId),
      );
    assert.deepEqual(await asked(stranger), [[]], 'the manifest alone');
    assert.equal(node.runs()[0]?.members, 1);
  });
});

describe('a private network', () => {
  const key = new SwarmKey(randomBytes(32));

  it('finishes a handshake with who has its key, and with nobody else', async () => {
    const [one, two] = [await quietHost(key), await quietHost(key)];
    await dial(two, one);
    const others = [await quietHost(), await quietHost(new SwarmKey(randomBytes(32)))];
    for (const [i, other] of others.entries()) {
      const dialled = other.libp2p.dial(parseAddress(one.addresses()[0]!), { signal: signal() });
      await assert.rejects(dialled);
      await assert.rejects(dial(one, other));
      await assert.rejects(
        askRuns(other, one.addresses()[0]!, signal()),
        i === 0 ? /whether its network is private/ : /that it has the same swarm key/,
      );
    }
    assert.deepEqual(one.libp2p.getPeers().map(String), [two.peerId]);
  });

  it('relays and checks reachability as any other', async () => {
    const directory = await makeDirectory();
    ends.push(() => directory.remove());
    const init = { dir: directory.path, listen: LISTEN, swarmKey: key, logger: silent };
    const node = await startBootstrap(init);
    ends.push(() => node.stop());
    const run = inviteRun((m) => ({ ...m, membership: { mode: 'open' } }));
    const [alice, bob] = [await quietHost(key), await quietHost(key)];
    for (const host of [alice, bob])
      await announce(host, parseAddress(node.addresses()[0]!), run, null, signal());
    const places = new RelayPlaces(alice.libp2p, silent, () => 0);
    const circuit = `${node.addresses()[0]}/p2p-circuit`;
    await until('a place', async () => {
      await places.reserve(Date.now());
      return alice.addresses().some((address) => address.startsWith(circuit));
    });
    await bob.libp2p.dial(multiaddr(`${circuit}/p2p/${alice.peerId}`), { signal: signal() });
    assert.equal(bob.libp2p.getConnections(parsePeerId(alice.peerId)!).length, 1);

    const carol = await quietHost(key);
    ends.push(await serveReach(carol, silent));
    await dial(alice, carol);
    const ports = [alice.listenPort()!];
    const id = parsePeerId(carol.peerId)!;
    assert.deepEqual((await checkReach(alice, id, ports, signal())).ports, ports);
  });
});
