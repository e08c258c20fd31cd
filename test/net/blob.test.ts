/** Blobs over real hosts on loopback: several donors, one that dies, and askers that never read. */
import assert from 'node:assert/strict';
import { afterEach, describe, it } from 'node:test';
import { SystemClock } from '../../node/clock.js';
import type { FrameStream, TransportHandlers } from '../../node/interfaces.js';
import { GossipTransport } from '../../node/net/gossip-transport.js';
import type { Host } from '../../node/net/host.js';
import { BlobServer } from '../../node/peer/blob-server.js';
import { Fetcher } from '../../node/peer/fetcher.js';
import type { BlobSource } from '../../protocol/blob.js';
import { BLOB_STREAMS_PER_PEER_MAX } from '../../protocol/limits.js';
import { Prng } from '../../protocol/prng.js';
import * as wire from '../../protocol/wire/messages.js';
import { blobOf, pattern } from '../support/blobs.js';
import { dial, makeQuietHost, silent, until } from './harness.js';

const RUN_ID = '7b'.repeat(32);
const MIB = 1024 * 1024;
const clock = new SystemClock();
const ignore = (): void => undefined;

interface Member {
  host: Host;
  transport: GossipTransport;
  /** Chunks read from its source. */
  reads: number;
}

describe('blobs over libp2p', () => {
  let stop = new AbortController();
  let members: Member[] = [];

  afterEach(async () => {
    stop.abort(new Error('the test is over'));
    for (const { transport, host } of members) {
      await transport.stop();
      await host.stop();
    }
    members = [];
    stop = new AbortController();
  });

  /** A member that serves `source`, waiting `pauseMs` before each chunk. */
  const start = async (source?: BlobSource, pauseMs = 0): Promise<Member> => {
    const host = await makeQuietHost();
    const member = { host, transport: new GossipTransport(host, RUN_ID, silent), reads: 0 };
    const counted: BlobSource | undefined = source && {
      ...source,
      chunk: (index) => {
        member.reads++;
        return source.chunk(index);
      },
    };
    const server = new BlobServer({ clock, runId: RUN_ID, find: () => counted }, stop.signal);
    const handlers: TransportHandlers = {
      onGossip: () => 'ignore',
      onStream: (_kind, stream, from) => server.serve(pausing(stream, pauseMs), from),
      onConnect: ignore,
      isMember: () => true,
      onDisconnect: ignore,
    };
    await member.transport.start(handlers);
    members.push(member);
    return member;
  };

  /** Ends a member as a dying process does: its connections break, and nobody listens. */
  const kill = async (member: Member): Promise<void> => {
    members = members.filter((other) => other !== member);
    for (const connection of member.host.libp2p.getConnections())
      connection.abort(new RangeError('killed'));
    await member.transport.stop();
    await member.host.stop();
  };

  /** The same stream, whose frames leave after a pause. */
  const pausing = (stream: FrameStream, pauseMs: number): FrameStream => ({
    frames: stream.frames,
    send: async (frame) => {
      if (pauseMs > 0) await clock.sleep(pauseMs);
      await stream.send(frame);
    },
    close: () => stream.close(),
    abort: (error) => stream.abort(error),
  });

  const fetcherOf = ({ transport }: Member, lies: string[] = []): Fetcher =>
    new Fetcher(
      {
        ...{ transport, clock, runId: RUN_ID },
        random: new Prng(new Uint8Array(32), 'test'),
        onLie: (peerId) => lies.push(peerId),
      },
      stop.signal,
    );

  it('fetches 8 MiB from two donors, goes on with one when the other dies, each chunk once', async () => {
    const bytes = pattern(8 * MIB + 123);
    const { name, source } = blobOf(bytes);
    const [asker, mortal, survivor] = [
      await start(),
      await start(source, 20),
      await start(source, 20),
    ];
    await dial(asker.host, mortal.host);
    await dial(asker.host, survivor.host);
    const fetcher = fetcherOf(asker);
    const donors = [mortal.host.peerId, survivor.host.peerId];
    const result = fetcher.fetch(name, { donors });
    await until('some chunks came from both', () => mortal.reads > 4 && survivor.reads > 4);
    await kill(mortal);
    const value = await result;
    assert.ok(value !== null && Buffer.compare(value, bytes) === 0);
    const { chunkCount } = source;
    // What was on its way from the one that died is fetched again: its window at most, and one being sent.
    const total = mortal.reads + survivor.reads;
    assert.ok(total >= chunkCount && total <= chunkCount + 5, `${total} reads of ${chunkCount}`);
    assert.ok(mortal.reads < chunkCount / 2 + 5);
  });

  it('takes up where it stopped when its only donor comes back', async () => {
    const bytes = pattern(3 * MIB);
    const { name, source } = blobOf(bytes);
    const [asker, first, second] = [await start(), await start(source, 50), await start(source)];
    await dial(asker.host, first.host);
    const fetcher = fetcherOf(asker);
    const half = fetcher.fetch(name, { donors: [first.host.peerId] });
    await until('some chunks came', () => first.reads > 4);
    await kill(first);
    assert.equal(await half, null);
    await dial(asker.host, second.host);
    const value = await fetcher.fetch(name, { donors: [second.host.peerId] });
    assert.ok(value !== null && Buffer.compare(value, bytes) === 0);
    assert.ok(second.reads < source.chunkCount - 2, `${second.reads} read again`);
  });

  it('is not held up by a peer that opens streams, asks and never reads', async () => {
    const bytes = pattern(16 * MIB);
    const { name, source } = blobOf(bytes);
    const [hostile, asker, donor] = [await start(), await start(), await start(source)];
    await dial(hostile.host, donor.host);
    await dial(asker.host, donor.host);
    const open = wire.BlobFrame.encode({
      open: { runId: Buffer.from(RUN_ID, 'hex'), root: Buffer.from(name.root, 'hex') },
    });
    let refused = 0;
    for (let i = 0; i < BLOB_STREAMS_PER_PEER_MAX + 4; i++) {
      const signal = AbortSignal.timeout(10_000);
      try {
        const stream = await hostile.transport.open('blob', donor.host.peerId, signal);
        await stream.send(open);
        for (let index = 0; index < source.chunkCount; index++)
          await stream.send(wire.BlobFrame.encode({ want: { index } }));
      } catch {
        refused++;
      }
    }
    const before = donor.reads;
    const value = await fetcherOf(asker).fetch(name, { donors: [donor.host.peerId] });
    assert.ok(value !== null && Buffer.compare(value, bytes) === 0);
    // A window and a queue of each stream are full, no more.
    const perStream = before / (BLOB_STREAMS_PER_PEER_MAX + 4 - refused);
    assert.ok(perStream <= 24, `${perStream} chunks for each stream that nobody reads`);
  });
});
