/** The second part of bench/delivery.ts: 16 hosts in one process that publish one update after another. */
import { setMaxListeners } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { SystemClock } from '../node/clock.js';
import { parseAddress } from '../node/net/addresses.js';
import { GossipTransport } from '../node/net/gossip-transport.js';
import { createHost, type Host } from '../node/net/host.js';
import { createIdentity } from '../node/net/identity.js';
import { BlobServer } from '../node/peer/blob-server.js';
import { Fetcher } from '../node/peer/fetcher.js';
import { Replica } from '../node/peer/replica.js';
import { StoredBodies } from '../node/peer/stored-bodies.js';
import { UpdateFetcher } from '../node/peer/update-fetcher.js';
import { adapterSha256, initialAdapter } from '../protocol/adapter.js';
import { encodeAnnouncement, encodeUpdateMessage } from '../protocol/gossip.js';
import { UPDATE_INLINE_BYTES_MAX } from '../protocol/limits.js';
import type { Run } from '../protocol/manifest.js';
import { Prng } from '../protocol/prng.js';
import { UPDATE_OVERHEAD_BYTES_MAX } from '../protocol/update.js';
import { testIdentity, testRun, testUpdate } from '../test/support/runs.js';

const PEERS = 16;
const UPDATES = 7;
/** Outbound connections of each peer, as the dialler keeps them. */
const DIALS = 6;
const DEADLINE_MS = 30_000;
const clock = new SystemClock();
const ignore = (): void => undefined;
const silent = { debug: ignore, info: ignore, warn: ignore, error: ignore };

interface Member {
  host: Host;
  transport: GossipTransport;
  replica: Replica;
}

/** A run whose updates have `coordinates` coordinates in blocks of 64 at 1 bit. */
function runOf(coordinates: number): Run {
  return testRun((manifest) => {
    const features = coordinates / 4;
    const modules = [{ name: 'layers.0.up_proj', inFeatures: features, outFeatures: features }];
    const adapter = { ...manifest.adapter, modules };
    return {
      ...manifest,
      adapter: { ...adapter, initialSha256: adapterSha256(initialAdapter(adapter)) },
    };
  });
}

async function makeMember(run: Run, index: number, signal: AbortSignal): Promise<Member> {
  const host = await createHost({
    identity: await createIdentity(),
    listen: ['/ip4/127.0.0.1/tcp/0'],
    dht: 'client',
  });
  const transport = new GossipTransport(host, run.id, silent);
  const bodies = new StoredBodies(() => new Uint8Array());
  const replica: Replica = new Replica({
    run,
    epochNow: () => run.manifest.schedule.epochsMax,
    handlers: {
      onRecord: ignore,
      onAnnounced: (header, from) => updateFetcher.onAnnounced(header, from),
      onProof: ignore,
    },
    bodies,
  });
  const random = new Prng(new Uint8Array(32), `member ${index}`);
  const fetcher = new Fetcher({ transport, clock, runId: run.id, random, onLie: ignore }, signal);
  const updateFetcher = new UpdateFetcher({
    ...{ transport, replica, fetcher },
    isSyncing: () => false,
    onFailed: () => console.error(`member ${index} could not fetch an update`),
  });
  const find = (root: string) => updateFetcher.source(root);
  const server = new BlobServer({ clock, runId: run.id, find }, signal);
  await transport.start({
    onGossip: (message, from) => replica.onGossip(message, from),
    onStream: (_kind, stream, from) => server.serve(stream, from),
    onConnect: ignore,
    isMember: () => true,
    onDisconnect: ignore,
  });
  return { host, transport, replica };
}

async function until(condition: () => boolean): Promise<void> {
  const endMs = performance.now() + DEADLINE_MS;
  while (!condition()) {
    if (performance.now() > endMs) throw new RangeError(`not in ${DEADLINE_MS} ms`);
    await sleep(1);
  }
}

async function connectAll(members: readonly Member[]): Promise<void> {
  const random = new Prng(new Uint8Array(32), 'dials');
  for (const { host } of members) {
    for (let i = 0; i < DIALS; i++) {
      const other = members[random.nextBelow(members.length)];
      const address = other?.host.addresses()[0];
      if (other?.host === host || address === undefined) continue;
      await host.libp2p.dial(parseAddress(address));
    }
  }
  await until(() => members.every(({ transport }) => transport.connections().length >= DIALS / 2));
  // Two heartbeats: the mesh has its degree then.
  await sleep(3_000);
}

/** Bytes that left all hosts and the author's, as gossip and blobs. */
function bytesOut(members: readonly Member[]): { all: number; author: number } {
  const each = members.map(({ host }) => {
    const { gossip, blob } = host.traffic().bytesOut;
    return gossip + blob;
  });
  return { all: each.reduce((sum, bytes) => sum + bytes, 0), author: each[0] ?? 0 };
}

async function measure(coordinates: number): Promise<void> {
  const run = runOf(coordinates);
  const stop = new AbortController();
  setMaxListeners(0, stop.signal);
  const members = await Promise.all(
    Array.from({ length: PEERS }, (_, i) => makeMember(run, i, stop.signal)),
  );
  await connectAll(members);
  const [author] = members;
  if (author === undefined) throw new RangeError('no member');
  const updates = Array.from({ length: UPDATES }, (_, epoch) =>
    testUpdate(run, testIdentity(0), epoch),
  );
  const payload = updates[0] ? updates[0].scales.length + updates[0].codes.length : NaN;
  const isInline = payload + UPDATE_OVERHEAD_BYTES_MAX <= UPDATE_INLINE_BYTES_MAX;
  const before = bytesOut(members);
  const times: number[] = [];
  for (const [i, update] of updates.entries()) {
    author.replica.addOwn(update);
    const startMs = performance.now();
    await author.transport.publish(
      isInline ? encodeUpdateMessage(update) : encodeAnnouncement(update),
    );
    await until(() => members.every(({ replica }) => replica.log.size === i + 1));
    times.push(performance.now() - startMs);
    await sleep(500);
  }
  const after = bytesOut(members);
  times.sort((a, b) => a - b);
  const copies = (after.all - before.all) / (payload * UPDATES * (PEERS - 1));
  const uploads = (after.author - before.author) / (payload * UPDATES);
  const [middle = NaN, last = NaN] = [times[UPDATES >> 1], times.at(-1)];
  console.log(
    `${isInline ? 'inline   ' : 'announced'} ${payload} bytes, ${PEERS} hosts in one process, ${UPDATES} updates: ` +
      `last peer after ${middle.toFixed(0)} ms (median; most ${last.toFixed(0)}), ` +
      `${copies.toFixed(2)} copies for each receiver, ${uploads.toFixed(1)} uploaded by the author`,
  );
  stop.abort(new Error('measured'));
  for (const { transport } of members) await transport.stop();
  for (const { host } of members) await host.stop();
}

export async function measureSwarm(): Promise<void> {
  // 64,000 and 381,250 bytes: the largest inline update, and SmolLM2-135M with r = 8 on all linear layers.
  await measure(409_600);
  await measure(2_440_000);
}
