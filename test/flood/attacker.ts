/**
 * A process that does a peer harm, as fast as it can, until it is killed: `attacker.js flood ADDRESS` sends garbage
 * and validly signed announcements by gossip and opens sync, blob and introduction streams without end;
 * `attacker.js mute ADDRESS` opens streams, asks for much and never reads.
 */
import '../../node/net/polyfill.js';
import { randomBytes } from 'node:crypto';
import { setImmediate as macrotask, setTimeout as delay } from 'node:timers/promises';
import { parseAddress, peerIdOf } from '../../node/net/addresses.js';
import { createHost, type Host } from '../../node/net/host.js';
import { createIdentity } from '../../node/net/identity.js';
import { askRuns } from '../../node/net/introduce.js';
import { encodeWant } from '../../protocol/have.js';
import { encodeAnnouncement } from '../../protocol/gossip.js';
import {
  BLOB_PROTOCOL_ID,
  INTRODUCE_PROTOCOL_ID,
  SYNC_PROTOCOL_ID,
  updateTopic,
} from '../../protocol/ids.js';
import type { Run } from '../../protocol/manifest.js';
import { createUpdate } from '../../protocol/update.js';
import * as wire from '../../protocol/wire/messages.js';
import { testIdentity } from '../support/runs.js';

const [mode = '', address = ''] = process.argv.slice(2);
const GOSSIP_PROTOCOL_ID = '/meshsub/1.2.0';

/** Bytes of one garbage RPC, and what comes before it: its length as a varint. */
const GARBAGE = randomBytes(1 << 20);
const GARBAGE_PREFIX = Uint8Array.of(0x80, 0x80, 0x40);

/** Streams that are opened at a time, of each kind. */
const PARALLEL = 4;

/** Streams that are held without being read. */
const MUTE_STREAMS = 60;

type Attack = (host: Host, run: Run) => Promise<unknown>;

/** A frame of less than 2^14 bytes with its length. */
function framed(frame: Uint8Array): Uint8Array {
  const length = Uint8Array.of((frame.length & 0x7f) | 0x80, frame.length >> 7);
  return Buffer.concat([length, frame]);
}

async function open(host: Host, protocol: string): ReturnType<Host['openStream']> {
  return host.openStream(parseAddress(address), protocol, AbortSignal.timeout(10_000));
}

/** RPCs that are none. */
const garbage: Attack = async (host) => {
  const stream = await open(host, GOSSIP_PROTOCOL_ID);
  while (stream.status === 'open') {
    stream.send(GARBAGE_PREFIX);
    if (!stream.send(GARBAGE)) await stream.onDrain();
    await macrotask();
  }
};

let signed = 0;
/** Announcements of updates that nobody has, each by an author of its own: nothing is wrong with them. */
const announcements: Attack = async (host, run) => {
  const gossip = await host.startGossip(updateTopic(run.id), () => true);
  gossip.subscribe(updateTopic(run.id));
  for (;;) {
    signed++;
    const author = testIdentity(signed, `flood ${process.pid}`);
    const body = { scales: randomBytes(32), codes: new Uint8Array() };
    const fields = { epoch: 0, baseEpoch: 0, steps: 1, logDigest: new Uint8Array(32) };
    const update = createUpdate(run, author, { ...fields, ...body });
    await gossip.publish(updateTopic(run.id), encodeAnnouncement(update)).catch(() => undefined);
    if (signed % 32 === 0) await macrotask();
  }
};

/** Opens, says `first` and goes away. */
const opens =
  (protocol: string, first: (run: Run) => Uint8Array): Attack =>
  async (host, run) => {
    const stream = await open(host, protocol);
    stream.send(framed(first(run)));
    await macrotask();
    stream.abort(new RangeError('never mind'));
  };

/** The digest of a log that nobody has: the other side says what it holds. */
const hello = (run: Run): Uint8Array =>
  wire.SyncFrame.encode({
    have: {
      ...{
        runId: Buffer.from(run.id, 'hex'),
        clockMs: Date.now(),
        authors: [],
        evicted: [],
        last: false,
      },
      ...{
        logDigest: randomBytes(32),
        admissionsDigest: new Uint8Array(),
        sealsDigest: new Uint8Array(),
      },
    },
  });
const blobOpen = (run: Run): Uint8Array =>
  wire.BlobFrame.encode({ open: { runId: Buffer.from(run.id, 'hex'), root: randomBytes(32) } });
const introduction = (): Uint8Array =>
  wire.IntroduceRequest.encode({
    runId: new Uint8Array(),
    manifest: new Uint8Array(),
    addresses: [],
  });

/** Begins again whatever ends. */
async function forEver(attack: Attack, host: Host, run: Run): Promise<void> {
  for (;;) {
    await attack(host, run).catch(() => delay(5));
    await macrotask();
  }
}

function flood(host: Host, run: Run): void {
  const inTurn = [
    opens(SYNC_PROTOCOL_ID, hello),
    opens(BLOB_PROTOCOL_ID, blobOpen),
    opens(INTRODUCE_PROTOCOL_ID, introduction),
  ];
  void forEver(announcements, host, run);
  for (const attack of inTurn) for (let i = 0; i < PARALLEL; i++) void forEver(attack, host, run);
}

/** Holds streams on which it has asked for all there is, and reads none. */
async function mute(host: Host, run: Run): Promise<void> {
  const held = new Set<Awaited<ReturnType<typeof open>>>();
  for (let i = 0; ; i++) {
    for (const stream of held) if (stream.status !== 'open') held.delete(stream);
    if (held.size >= MUTE_STREAMS) {
      await delay(100);
      continue;
    }
    const kinds: [string, Uint8Array[]][] = [
      [SYNC_PROTOCOL_ID, [hello(run), ...encodeWant(new Map())]],
      [BLOB_PROTOCOL_ID, [blobOpen(run)]],
      [INTRODUCE_PROTOCOL_ID, [introduction()]],
      [GOSSIP_PROTOCOL_ID, []],
    ];
    const [protocol, frames] = kinds[i % kinds.length] ?? ['', []];
    const stream = await open(host, protocol).catch(() => null);
    if (stream?.status !== 'open') await delay(20);
    else {
      stream.pause();
      for (const frame of frames) stream.send(framed(frame));
      held.add(stream);
    }
  }
}

async function newHost(): Promise<Host> {
  return createHost({ identity: await createIdentity(), listen: [], dht: 'client' });
}

const host = await newHost();
const [known] = await askRuns(host, address, AbortSignal.timeout(30_000));
if (known === undefined || peerIdOf(parseAddress(address)) === null) {
  throw new RangeError(`no run at ${address}`);
}
// Garbage has a connection of its own: what it does to its gossip would end the rest of it.
const second = mode === 'mute' ? host : await newHost();
if (mode === 'flood') await open(second, INTRODUCE_PROTOCOL_ID);
// Whoever started it waits for this.
process.stdout.write('begun\n');
if (mode === 'mute') await mute(host, known.run);
void forEver(garbage, second, known.run);
flood(host, known.run);
