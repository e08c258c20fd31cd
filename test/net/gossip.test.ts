/** Gossip among four peers in a line, so that what arrives at the end was passed on. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { MessageTooLargeError } from '../../node/interfaces.js';
import { GossipTransport } from '../../node/net/gossip-transport.js';
import type { FrameStream } from '../../node/interfaces.js';
import type { Host } from '../../node/net/host.js';
import { updateTopic } from '../../protocol/ids.js';
import { GOSSIP_BYTES_MAX } from '../../protocol/limits.js';
import { Recorder } from '../compliance/transport.js';
import { dial, makeQuietHost, silent, until } from './harness.js';

const RUN_ID = 'cd'.repeat(32);
const text = (value: string): Uint8Array => new TextEncoder().encode(value);

describe('GossipTransport', () => {
  let hosts: Host[];
  let transports: GossipTransport[];
  const recorders = Array.from({ length: 4 }, () => new Recorder());

  before(async () => {
    hosts = await Promise.all(recorders.map(() => makeQuietHost()));
    transports = hosts.map((host) => new GossipTransport(host, RUN_ID, silent));
    for (const [i, transport] of transports.entries()) await transport.start(recorders[i]!);
    for (const [i, from] of hosts.slice(1).entries()) await dial(from, hosts[i]!);
    await until('the line stands', () =>
      recorders.every(({ connects }, i) => connects.length === (i === 0 || i === 3 ? 1 : 2)),
    );
  });

  after(async () => {
    for (const transport of transports) await transport.stop();
    await Promise.all(hosts.map((host) => host.stop()));
  });

  const heard = (i: number, message: string): boolean =>
    recorders[i]!.messages.some((each) => each.text === message);

  it('passes an accepted message on along the line, naming the neighbour it came from', async () => {
    await transports[0]!.publish(text('one'));
    await until('the far end hears it', () => heard(3, 'one'));
    const last = recorders[3]!.messages.find((each) => each.text === 'one');
    assert.equal(last?.from, hosts[2]!.peerId);
  });

  it('delivers the largest message whole, and refuses a larger one with its size', async () => {
    await transports[0]!.publish(text('m'.repeat(GOSSIP_BYTES_MAX)));
    await until('the far end hears it', () => heard(3, 'm'.repeat(GOSSIP_BYTES_MAX)));
    await assert.rejects(
      transports[0]!.publish(new Uint8Array(GOSSIP_BYTES_MAX + 1)),
      (error: unknown) =>
        error instanceof MessageTooLargeError && error.sizeBytes === GOSSIP_BYTES_MAX + 1,
    );
  });

  it('does not pass on what is deferred, ignored or rejected', async () => {
    for (const verdict of ['defer', 'ignore', 'reject'] as const) {
      recorders[1]!.verdict = verdict;
      await transports[0]!.publish(text(verdict));
      await until('the neighbour hears it', () => heard(1, verdict));
    }
    recorders[1]!.verdict = 'accept';
    // What is published later by the neighbour overtakes nothing: all four would have come before it.
    await transports[1]!.publish(text('afterwards'));
    await until('the far end hears the neighbour', () => heard(3, 'afterwards'));
    const told = recorders[2]!.messages.map((message) => message.text);
    assert.deepEqual(
      told.filter((message) => ['defer', 'ignore', 'reject'].includes(message)),
      [],
    );
  });

  it('stops listening to a peer whose message was rejected', async () => {
    // The rejection above put peer 0 below the graylist threshold at peer 1.
    // Gossipsub looks at a score once a heartbeat, so the first messages may still come through.
    let round = 0;
    await until('a message of the honest side comes alone', async () => {
      round++;
      await transports[0]!.publish(text(`please ${round}`));
      await transports[2]!.publish(text(`from the other side ${round}`));
      await until('the honest side is heard', () => heard(1, `from the other side ${round}`));
      return !heard(1, `please ${round}`);
    });
  });

  it('counts bytes by purpose, and all of them at the sockets', async () => {
    const { bytesIn, bytesOut } = hosts[0]!.traffic();
    assert.ok(bytesOut.gossip >= GOSSIP_BYTES_MAX, `gossip ${bytesOut.gossip}`);
    assert.ok(bytesOut.gossip < 2 * GOSSIP_BYTES_MAX, `gossip ${bytesOut.gossip}`);
    assert.equal(bytesOut.sync, 0);
    const signal = AbortSignal.timeout(10_000);
    const stream = await transports[0]!.open('sync', hosts[1]!.peerId, signal);
    await stream.send(new Uint8Array(100_000));
    await until('the frame is counted at the other end', () => {
      return hosts[1]!.traffic().bytesIn.sync === 100_003;
    });
    const after = hosts[0]!.traffic();
    assert.equal(after.bytesOut.sync, 100_003);
    // Encryption and framing cost something, but not much.
    const parts = after.bytesOut.gossip + after.bytesOut.sync;
    assert.ok(after.bytesOut.total > parts && after.bytesOut.total < 1.5 * parts);
    for (const { total, ...parts } of [bytesIn, bytesOut]) {
      assert.equal(
        Object.values(parts).reduce((sum, bytes) => sum + bytes),
        total,
      );
    }
    const neighbour = after.sentTo.find(({ peerId }) => peerId === hosts[1]!.peerId);
    assert.equal(neighbour?.bytes.sync, 100_003);
    assert.ok((neighbour.bytes.gossip ?? 0) > 0 && (neighbour.bytes.identify ?? 0) > 0);
    stream.abort(new RangeError('done'));
  });

  it('rejects an oversize message unseen, and its sender with it', async () => {
    const hostile = await makeQuietHost();
    const gossip = await hostile.startGossip(updateTopic(RUN_ID), () => true);
    gossip.subscribe(updateTopic(RUN_ID));
    await dial(hostile, hosts[3]!);
    await until('the hostile peer is a member', () => {
      return recorders[3]!.connects.includes(hostile.peerId);
    });
    const huge = text('h'.repeat(GOSSIP_BYTES_MAX + 1));
    const { recipients } = await gossip.publish(updateTopic(RUN_ID), huge);
    assert.equal(recipients.length, 1);
    let round = 0;
    await until('nothing of it is heard any more', async () => {
      round++;
      await gossip.publish(updateTopic(RUN_ID), text(`small ${round}`));
      await transports[2]!.publish(text(`honest ${round}`));
      await until('the honest side is heard', () => heard(3, `honest ${round}`));
      return !heard(3, `small ${round}`);
    });
    assert.equal(heard(3, 'h'.repeat(GOSSIP_BYTES_MAX + 1)), false);
    await hostile.stop();
  });

  it('resets the sync streams of one peer beyond the bound, and no other', async () => {
    const open = async (): Promise<FrameStream> => {
      const stream = await transports[2]!.open(
        'sync',
        hosts[1]!.peerId,
        AbortSignal.timeout(10_000),
      );
      await stream.send(text('hello'));
      return stream;
    };
    const earlier = recorders[1]!.streams.length;
    const [first, second] = [await open(), await open()];
    await until('both arrive', () => recorders[1]!.streams.length === earlier + 2);
    await assert.rejects(async () => {
      const third = await open();
      await third.frames[Symbol.asyncIterator]().next();
    });
    const { stream } = recorders[1]!.streams[earlier]!;
    await stream.send(text('still here'));
    await stream.close();
    for await (const frame of first.frames)
      assert.equal(Buffer.from(frame).toString(), 'still here');
    for (const each of [first, second]) each.abort(new RangeError('done'));
  });

  it('closes a gossip stream that died under a living connection, so that a new one can come', async () => {
    const [connection] = hosts[3]!.libp2p.getConnections(hosts[2]!.libp2p.peerId);
    const dead = connection?.streams.find(
      ({ protocol, direction }) => direction === 'outbound' && protocol.startsWith('/meshsub/'),
    );
    assert.ok(connection !== undefined && dead !== undefined, 'there is a gossip stream');
    dead.abort(new RangeError('cut for the test'));
    await until('the member is given up', () =>
      recorders[3]!.disconnects.includes(hosts[2]!.peerId),
    );
    await until('the connection is dropped', () => connection.status !== 'open');
    await dial(hosts[3]!, hosts[2]!);
    const connects = (i: number, other: number): number =>
      recorders[i]!.connects.filter((peerId) => peerId === hosts[other]!.peerId).length;
    await until('gossip is back', () => connects(2, 3) > 1 && connects(3, 2) > 1);
    await transports[2]!.publish(text('welcome back'));
    await until('the message arrives', () => heard(3, 'welcome back'));
  });
});
