/**
 * How fast and at what cost updates are delivered, over real hosts on loopback:   npm run bench:delivery
 * 1. a blob of 64 MiB between two processes, against plain TCP and bare frames of the same 256 KiB;
 * 2. an inline and an announced update among 16 hosts in one process: bytes on the wire, copies, times.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer, type AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { SystemClock } from '../node/clock.js';
import type { TransportHandlers } from '../node/interfaces.js';
import { parseAddress } from '../node/net/addresses.js';
import { GossipTransport } from '../node/net/gossip-transport.js';
import { createHost, type Host } from '../node/net/host.js';
import { createIdentity } from '../node/net/identity.js';
import { BlobServer } from '../node/peer/blob-server.js';
import { Fetcher } from '../node/peer/fetcher.js';
import { BLOB_CHUNK_BYTES } from '../protocol/limits.js';
import { Prng } from '../protocol/prng.js';
import { blobOf, pattern } from '../test/support/blobs.js';
import { measureSwarm } from './delivery-swarm.js';

const RUN_ID = '6d'.repeat(32);
const SIZE = 64 * 1024 * 1024;
const ROUNDS = 5;
const MB = 1e6;
const clock = new SystemClock();
const never = new AbortController().signal;
const ignore = (): void => undefined;
const silent = { debug: ignore, info: ignore, warn: ignore, error: ignore };

/** What the serving process tells the measuring one. */
interface Addresses {
  tcpPort: number;
  multiaddr: string;
}

async function makeMember(
  onStream: TransportHandlers['onStream'],
): Promise<{ host: Host; transport: GossipTransport }> {
  const host = await createHost({
    identity: await createIdentity(),
    listen: ['/ip4/127.0.0.1/tcp/0'],
    dht: 'client',
  });
  const transport = new GossipTransport(host, RUN_ID, silent);
  await transport.start({
    onGossip: () => 'ignore',
    onStream,
    onConnect: ignore,
    isMember: () => true,
    onDisconnect: ignore,
  });
  return { host, transport };
}

/** The other process: serves the same bytes over TCP and as a blob until it is killed. */
async function serve(): Promise<void> {
  const bytes = pattern(SIZE);
  const { source } = blobOf(bytes);
  const server = createServer((socket) => {
    const send = (start: number): void => {
      if (start >= SIZE) socket.end();
      else
        socket.write(bytes.subarray(start, start + BLOB_CHUNK_BYTES), () =>
          send(start + BLOB_CHUNK_BYTES),
        );
    };
    socket.on('error', ignore);
    send(0);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { host } = await makeMember(async (kind, stream, from) => {
    // A new server for each stream, so that no round waits for what an earlier one used up.
    const blobs = new BlobServer({ clock, runId: RUN_ID, find: () => source }, never);
    if (kind === 'blob') return blobs.serve(stream, from);
    for (let i = 0; i < source.chunkCount; i++) await stream.send(source.chunk(i));
    return stream.close();
  });
  const { port: tcpPort } = server.address() as AddressInfo;
  const addresses: Addresses = { tcpPort, multiaddr: host.addresses()[0] ?? '' };
  process.send?.(addresses);
}

/** Seconds to read all that `port` sends. */
async function readTcp(port: number): Promise<number> {
  const startMs = performance.now();
  const socket = connect(port, '127.0.0.1');
  let bytes = 0;
  for await (const chunk of socket) bytes += (chunk as Buffer).length;
  if (bytes !== SIZE) throw new RangeError(`${bytes} bytes came`);
  return (performance.now() - startMs) / 1000;
}

/** Seconds to read the same bytes as frames of one stream: what encryption and multiplexing leave. */
async function readFrames(transport: GossipTransport, peerId: string): Promise<number> {
  const startMs = performance.now();
  const stream = await transport.open('sync', peerId, never);
  await stream.close();
  let bytes = 0;
  for await (const frame of stream.frames) bytes += frame.length;
  if (bytes !== SIZE) throw new RangeError(`${bytes} bytes came`);
  return (performance.now() - startMs) / 1000;
}

async function measureStream(): Promise<void> {
  const child = fork(fileURLToPath(import.meta.url), ['serve']);
  try {
    const [{ tcpPort, multiaddr }] = (await once(child, 'message')) as [Addresses];
    const { host, transport } = await makeMember(async (_kind, stream) => stream.close());
    const { remotePeer } = await host.libp2p.dial(parseAddress(multiaddr));
    const { name } = blobOf(pattern(SIZE));
    const random = new Prng(new Uint8Array(32), 'bench');
    const [tcp, frames, blob]: [number[], number[], number[]] = [[], [], []];
    for (let round = 0; round < ROUNDS; round++) {
      tcp.push(await readTcp(tcpPort));
      frames.push(await readFrames(transport, remotePeer.toString()));
      const fetcher = new Fetcher(
        { transport, clock, runId: RUN_ID, random, onLie: ignore },
        never,
      );
      const startMs = performance.now();
      const bytes = await fetcher.fetch(name, { donors: [remotePeer.toString()] });
      if (bytes === null) throw new RangeError('the blob did not come');
      blob.push((performance.now() - startMs) / 1000);
    }
    const [tcpSpeed = NaN, frameSpeed = NaN, blobSpeed = NaN] = [tcp, frames, blob].map(
      (seconds) => SIZE / MB / median(seconds),
    );
    console.log(
      `64 MiB, two processes, median of ${ROUNDS}: plain TCP ${tcpSpeed.toFixed(0)} MB/s, ` +
        `frames ${frameSpeed.toFixed(0)} MB/s, blob ${blobSpeed.toFixed(0)} MB/s; ` +
        `blob to TCP ${(blobSpeed / tcpSpeed).toFixed(2)}, blob to frames ${(blobSpeed / frameSpeed).toFixed(2)}`,
    );
    await transport.stop();
    await host.stop();
  } finally {
    child.kill();
  }
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? NaN;
}

if (process.argv[2] === 'serve') await serve();
else {
  await measureStream();
  if (process.argv[2] !== 'stream') await measureSwarm();
}
