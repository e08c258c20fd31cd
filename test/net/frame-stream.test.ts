/** Sync streams over real connections: large transfers, backpressure, broken connections, wrong bytes. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { connect, createServer, type Socket } from 'node:net';
import { after, before, describe, it } from 'node:test';
import type { Stream } from '@libp2p/interface';
import { parseAddress } from '../../node/net/addresses.js';
import { FrameTooLargeError, StreamTruncatedError } from '../../node/net/errors.js';
import { NetFrameStream } from '../../node/net/frame-stream.js';
import type { Host } from '../../node/net/host.js';
import { dial, makeHost, until } from './harness.js';

const PROTOCOL = '/murmurate/test/1.0.0';
const MIB = 1024 * 1024;
const LIMITS = { frameBytesMax: 256 * 1024, timeoutMs: 30_000 };

describe('NetFrameStream', () => {
  let near: Host;
  let far: Host;
  /** Streams that arrived at `far`, oldest first. */
  const arrived: Stream[] = [];

  before(async () => {
    [near, far] = await Promise.all([makeHost(), makeHost()]);
    await far.libp2p.handle(PROTOCOL, (stream) => {
      arrived.push(stream);
    });
    await dial(near, far);
  });

  after(async () => {
    await Promise.all([near.stop(), far.stop()]);
  });

  /** Both raw ends of a new stream. */
  const open = async (): Promise<[Stream, Stream]> => {
    arrived.length = 0;
    const stream = await near.libp2p.dialProtocol(far.libp2p.peerId, PROTOCOL);
    await until('the stream arrives', () => arrived.length === 1);
    return [stream, arrived[0]!];
  };

  it('carries 3 MiB unchanged while the reader is slower than the writer', async () => {
    const [a, b] = (await open()).map((stream) => new NetFrameStream(stream, LIMITS));
    const sent = createHash('sha256');
    const received = createHash('sha256');
    const writing = (async () => {
      for (let i = 0; i < 12; i++) {
        const frame = new Uint8Array(256 * 1024).map((_, at) => (at * 31 + i * 7) & 255);
        sent.update(frame);
        await a!.send(frame);
      }
      await a!.close();
    })();
    let frames = 0;
    for await (const frame of b!.frames) {
      received.update(frame);
      frames++;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    await writing;
    await b!.close();
    assert.equal(frames, 12);
    assert.equal(received.digest('hex'), sent.digest('hex'));
    await Promise.all([a!.done, b!.done]);
  });

  it('makes send wait while the remote does not read, and loses nothing when it reads at last', async () => {
    const [a, b] = (await open()).map((stream) => new NetFrameStream(stream, LIMITS));
    const count = 96;
    let handedOver = 0;
    const writing = (async () => {
      for (let i = 0; i < count; i++) {
        await a!.send(new Uint8Array(256 * 1024).fill(i));
        handedOver++;
      }
      await a!.close();
    })();
    let before = -1;
    await until('the writer stands still', async () => {
      const still = handedOver === before && handedOver > 0;
      before = handedOver;
      await new Promise((resolve) => setTimeout(resolve, 300));
      return still && handedOver === before;
    });
    const waitingBytes = handedOver * 256 * 1024;
    assert.ok(waitingBytes < 8 * MIB, `${waitingBytes} bytes went to a reader that does not read`);
    let expected = 0;
    for await (const frame of b!.frames) {
      assert.ok(frame.length === 256 * 1024 && frame.every((byte) => byte === expected));
      expected++;
    }
    await writing;
    await b!.close();
    assert.equal(expected, count);
  });

  it('delivers what waited when the remote finished while the reader paused', async () => {
    const [a, b] = (await open()).map((stream) => new NetFrameStream(stream, LIMITS));
    // More than the reader queues before it pauses, less than it takes for the writer to wait.
    for (let i = 0; i < 6; i++) await a!.send(new Uint8Array(256 * 1024).fill(i));
    await a!.close();
    await b!.send(Uint8Array.of(1));
    await b!.close();
    let expected = 0;
    for await (const frame of b!.frames) assert.equal(frame[0], expected++);
    assert.equal(expected, 6);
    for await (const frame of a!.frames) assert.deepEqual([...frame], [1]);
  });

  it('surfaces a connection that ends between two frames as an error, not as the end', async () => {
    // As when the remote process dies: its system closes the socket, and nobody says goodbye.
    const proxy = await startProxy(far.listenPort()!);
    const third = await makeHost();
    const address = `/ip4/127.0.0.1/tcp/${proxy.port}/p2p/${far.peerId}`;
    await third.libp2p.dial(parseAddress(address));
    arrived.length = 0;
    const stream = await third.libp2p.dialProtocol(far.libp2p.peerId, PROTOCOL);
    await until('the stream arrives', () => arrived.length === 1);
    const [a, b] = [stream, arrived[0]!].map((each) => new NetFrameStream(each, LIMITS));
    await a!.send(Uint8Array.of(1, 2, 3));
    const frames = b!.frames[Symbol.asyncIterator]();
    const first = await frames.next();
    assert.deepEqual(first, { done: false, value: Uint8Array.of(1, 2, 3) });
    const ends = [frames.next(), drain(a!)].map((reading) => assert.rejects(reading, Error));
    await proxy.cut();
    await Promise.all(ends);
    await assert.rejects(a!.send(Uint8Array.of(4)));
    await Promise.all([a!.done, b!.done]);
    await third.stop();
  });

  it('refuses a frame over the bound at the sender, and at a receiver whose sender does not care', async () => {
    const [raw, rawFar] = await open();
    const b = new NetFrameStream(rawFar, LIMITS);
    const a = new NetFrameStream(raw, LIMITS);
    await assert.rejects(a.send(new Uint8Array(LIMITS.frameBytesMax + 1)), FrameTooLargeError);
    // Varint 262145: one more than the bound.
    raw.send(Uint8Array.of(0x81, 0x80, 0x10));
    await assert.rejects(drain(b));
    assert.equal(rawFar.status, 'aborted');
  });

  it('refuses bytes that are no frames', async () => {
    const [raw, rawFar] = await open();
    const b = new NetFrameStream(rawFar, LIMITS);
    raw.send(new Uint8Array(64).fill(255));
    await assert.rejects(drain(b));
    assert.equal(rawFar.status, 'aborted');
    await until('the sender is cut', () => raw.status === 'reset');
  });

  it('does not take a half frame for a whole stream', async () => {
    const [raw, rawFar] = await open();
    const b = new NetFrameStream(rawFar, LIMITS);
    raw.send(Uint8Array.of(100, 1, 2, 3));
    await raw.close();
    await assert.rejects(drain(b));
  });

  it('resets a stream that is not done at its deadline', async () => {
    const [raw, rawFar] = await open();
    const b = new NetFrameStream(rawFar, { ...LIMITS, timeoutMs: 100 });
    await assert.rejects(drain(b), /not done after 100 ms/);
    await until('the sender is cut', () => raw.status === 'reset');
  });

  it('fails a send that waits when the stream is aborted', async () => {
    const [a] = (await open()).map((stream) => new NetFrameStream(stream, LIMITS));
    const sends = Array.from({ length: 40 }, () => a!.send(new Uint8Array(256 * 1024)));
    const outcomes = Promise.allSettled(sends);
    a!.abort(new StreamTruncatedError());
    const failed = (await outcomes).filter(({ status }) => status === 'rejected');
    assert.ok(failed.length > 20, `${failed.length} sends failed`);
  });
});

/** Forwards one TCP connection to `port` until it is cut by closing both sockets in good order. */
async function startProxy(port: number): Promise<{ port: number; cut: () => Promise<void> }> {
  const sockets: Socket[] = [];
  const server = createServer((inbound) => {
    const outbound = connect(port, '127.0.0.1');
    sockets.push(inbound, outbound);
    inbound.pipe(outbound);
    outbound.pipe(inbound);
    for (const socket of [inbound, outbound]) socket.on('error', () => undefined);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  assert.ok(typeof address === 'object' && address !== null);
  const cut = async (): Promise<void> => {
    for (const socket of sockets) {
      // What still comes in has nowhere to go; unread, it would keep the socket open for ever.
      socket.unpipe();
      socket.resume();
      socket.end();
    }
    await new Promise((resolve) => server.close(resolve));
  };
  return { port: address.port, cut };
}

async function drain(stream: NetFrameStream): Promise<number> {
  let bytes = 0;
  for await (const frame of stream.frames) bytes += frame.length;
  return bytes;
}
