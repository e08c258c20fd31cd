/** Bounds on streams: served by the peer's own servers and fetchers, under virtual time. */
import type { FrameStream, Logger, Transport } from '../../../node/interfaces.js';
import { AntiEntropy } from '../../../node/peer/anti-entropy.js';
import { BlobServer } from '../../../node/peer/blob-server.js';
import { Fetcher } from '../../../node/peer/fetcher.js';
import type { BlobSource } from '../../../protocol/blob.js';
import * as limits from '../../../protocol/limits.js';
import { Prng } from '../../../protocol/prng.js';
import * as wire from '../../../protocol/wire/messages.js';
import { VirtualClock, VirtualTime } from '../../../node/sim/clock.js';
import { testReplica } from '../../support/replicas.js';
import { testRun } from '../../support/runs.js';
import { testSealing } from '../../support/sealings.js';
import type { LimitCase, LimitName } from './limit-case.js';

const run = testRun();
const ROOT = 'ab'.repeat(32);
const CHUNK = new Uint8Array(limits.BLOB_CHUNK_BYTES);
const ignore = (): void => undefined;
const logger: Logger = { debug: ignore, info: ignore, warn: ignore, error: ignore };
const random = (): Prng => new Prng(new Uint8Array(32), 'limits');

/** A stream whose remote says what it is given to say, and then nothing. */
class FakeStream implements FrameStream {
  readonly sent: Uint8Array[] = [];
  error: Error | null = null;
  readonly #said: Uint8Array[];
  #wake: () => void = ignore;

  constructor(...said: Uint8Array[]) {
    this.#said = said;
  }

  get isOpen(): boolean {
    return this.error === null;
  }

  async send(frame: Uint8Array): Promise<void> {
    this.sent.push(frame);
  }

  async close(): Promise<void> {
    await Promise.resolve();
  }

  abort(error: Error): void {
    this.error ??= error;
    this.#wake();
  }

  get frames(): AsyncIterable<Uint8Array> {
    return this.#read();
  }

  async *#read(): AsyncGenerator<Uint8Array> {
    yield* this.#said;
    if (this.error === null) await new Promise<void>((resolve) => (this.#wake = resolve));
    throw this.error ?? new RangeError('the stream ended');
  }
}

/** One peer's servers and fetcher, whose transport opens what `open` gives. */
class World {
  readonly time = new VirtualTime(0);
  readonly clock = new VirtualClock(this.time);
  readonly stop = new AbortController();
  readonly opened: FakeStream[] = [];
  /** What is read first on a stream that the peer opened. */
  answer: Uint8Array[] = [];

  get transport(): Transport {
    return {
      start: () => Promise.resolve(),
      stop: () => Promise.resolve(),
      publish: () => Promise.resolve(0),
      connections: () => [],
      open: () => {
        const stream = new FakeStream(...this.answer);
        this.opened.push(stream);
        return Promise.resolve(stream);
      },
    };
  }

  /** What serves sync streams: a call for each that `from` opens, which returns the stream. */
  syncServer(): (from: string) => FakeStream {
    const { replica } = testReplica(run, () => 0);
    const { transport, clock, stop } = this;
    const shared = { transport, clock, logger, replica, random: random() };
    const sealing = testSealing({ replica, transport, clock });
    const parts = { ...shared, sealing, isElsewhere: () => false, onFailure: ignore };
    const server = new AntiEntropy(parts, stop.signal);
    return (from) => {
      const stream = new FakeStream();
      server.serve(stream, from).catch(ignore);
      return stream;
    };
  }

  /** What serves blob streams, of updates or of the base model, and the bytes that it gave. */
  blobServer(kind: 'update' | 'model' = 'update'): {
    open: (from: string, ...said: Uint8Array[]) => FakeStream;
    bytes: () => number;
  } {
    const source: BlobSource = {
      ...{ hashes: null, chunkCount: 4096, held: 4096 },
      has: () => true,
      chunk: () => CHUNK,
      onMore: () => ignore,
    };
    const parts = {
      clock: this.clock,
      runId: run.id,
      find: () => (kind === 'update' ? source : undefined),
      model: { find: () => Promise.resolve(source) },
    };
    const server = new BlobServer(parts, this.stop.signal);
    const open = (from: string, ...said: Uint8Array[]): FakeStream => {
      const stream = new FakeStream(...said);
      server.serve(stream, from).catch(ignore);
      return stream;
    };
    return { open, bytes: () => server.bytes };
  }

  fetcher(): Fetcher {
    const { transport, clock, stop } = this;
    const shared = { transport, clock, runId: run.id, onLie: ignore, random: random() };
    return new Fetcher(shared, stop.signal);
  }

  async pass(ms: number): Promise<void> {
    await this.time.advanceTo(this.time.nowMs + ms);
  }

  /** `result`, once all that was begun has been given up. */
  async end<T>(result: T): Promise<T> {
    this.stop.abort(new RangeError('the case is over'));
    await this.pass(1000);
    return result;
  }
}

const areOpen = (streams: readonly FakeStream[]): boolean => streams.every(({ isOpen }) => isOpen);
const times = <T>(count: number, make: (i: number) => T): T[] =>
  Array.from({ length: count }, (_, i) => make(i));

const openFrame = wire.BlobFrame.encode({
  open: { runId: Buffer.from(run.id, 'hex'), root: Buffer.from(ROOT, 'hex') },
});
const wantFrame = (index: number): Uint8Array => wire.BlobFrame.encode({ want: { index } });

/** Whether `count` of them, each opened after the last was dropped, are served; `pauseMs` and more after a burst. */
async function opensInTurn(
  world: World,
  open: (from: string) => FakeStream,
  counts: readonly number[],
): Promise<boolean> {
  let areServed = true;
  for (const [i, count] of counts.entries()) {
    if (i > 0) await world.pass(1000);
    for (let j = 0; j < count; j++) {
      const stream = open('a');
      areServed &&= stream.isOpen;
      stream.abort(new RangeError('dropped by the remote'));
      await world.pass(0);
    }
  }
  return world.end(areServed);
}

/** Bytes that one asker is given at once, and within the second after it. */
async function bytesGiven(kind: 'update' | 'model'): Promise<{ atOnce: number; inSecond: number }> {
  const world = new World();
  const { open, bytes } = world.blobServer(kind);
  open('a', openFrame, ...times(1000, wantFrame));
  // Each chunk is a turn of the event loop.
  await world.pass(0);
  for (let before = -1; before !== bytes();) {
    before = bytes();
    await world.pass(0);
  }
  const atOnce = bytes();
  await world.pass(1000);
  return world.end({ atOnce, inSecond: bytes() - atOnce });
}

/** Blobs of these sizes that are being fetched at a time. */
async function fetchedAtOnce(sizes: readonly number[]): Promise<number> {
  const world = new World();
  const fetcher = world.fetcher();
  for (const [i, size] of sizes.entries()) {
    void fetcher.fetch({ root: i.toString(16).padStart(64, '0'), size }, { donors: ['a'] });
  }
  await world.pass(10);
  const count = world.opened.length;
  await world.end(null);
  await fetcher.ended();
  return count;
}

const STREAM_CASES = {
  SYNC_TIMEOUT_MS: {
    takes: async (value) => {
      const world = new World();
      const stream = world.syncServer()('a');
      await world.pass(value - 1);
      return world.end(stream.isOpen);
    },
  },
  SYNC_SESSIONS_MAX: {
    takes: async (value) => {
      const world = new World();
      const open = world.syncServer();
      const streams = times(value, (i) => open(`peer ${i}`));
      return world.end(areOpen(streams));
    },
  },
  SYNC_SESSIONS_PER_PEER_MAX: {
    takes: async (value) => {
      const world = new World();
      const open = world.syncServer();
      const streams = times(value, () => open('a'));
      return world.end(areOpen(streams));
    },
  },
  SYNC_OPENS_BURST: {
    takes: async (value) => {
      const world = new World();
      return opensInTurn(world, world.syncServer(), [value]);
    },
  },
  SYNC_OPENS_PER_SECOND: {
    takes: async (value) => {
      const world = new World();
      return opensInTurn(world, world.syncServer(), [limits.SYNC_OPENS_BURST, value]);
    },
  },
  BLOB_TIMEOUT_MS: {
    takes: async (value) => {
      const world = new World();
      const stream = world.blobServer().open('a');
      await world.pass(value - 1);
      return world.end(stream.isOpen);
    },
  },
  BLOB_STREAMS_MAX: {
    takes: async (value) => {
      const world = new World();
      const { open } = world.blobServer();
      const streams = times(value, (i) => open(`peer ${i % 10}`));
      return world.end(areOpen(streams));
    },
  },
  BLOB_STREAMS_PER_PEER_MAX: {
    takes: async (value) => {
      const world = new World();
      const { open } = world.blobServer();
      const streams = times(value, () => open('a'));
      return world.end(areOpen(streams));
    },
  },
  BLOB_OPENS_BURST: {
    takes: async (value) => {
      const world = new World();
      return opensInTurn(world, world.blobServer().open, [value]);
    },
  },
  BLOB_OPENS_PER_SECOND: {
    takes: async (value) => {
      const world = new World();
      return opensInTurn(world, world.blobServer().open, [limits.BLOB_OPENS_BURST, value]);
    },
  },
} satisfies Partial<Record<LimitName, LimitCase>>;

export const PEER_CASES = {
  ...STREAM_CASES,
  BLOB_BURST_BYTES: {
    // Whole chunks; the last that fits is the last that is given at once.
    step: limits.BLOB_CHUNK_BYTES,
    takes: async (value) => {
      const { atOnce } = await bytesGiven('update');
      return atOnce > value - limits.BLOB_CHUNK_BYTES;
    },
  },
  BLOB_BYTES_PER_SECOND: {
    step: 2 * limits.BLOB_CHUNK_BYTES,
    takes: async (value) => {
      const { inSecond } = await bytesGiven('update');
      return inSecond >= value;
    },
  },
  MODEL_BURST_BYTES: {
    step: limits.BLOB_CHUNK_BYTES,
    takes: async (value) => {
      const { atOnce } = await bytesGiven('model');
      return atOnce > value - limits.BLOB_CHUNK_BYTES;
    },
  },
  MODEL_BYTES_PER_SECOND: {
    step: 2 * limits.BLOB_CHUNK_BYTES,
    takes: async (value) => {
      const { inSecond } = await bytesGiven('model');
      return inSecond >= value;
    },
  },
  BLOB_WINDOW_CHUNKS: {
    takes: async (value) => {
      const world = new World();
      const hashes = new Uint8Array(32 * 8);
      const held = Uint8Array.of(0xff);
      const root = Buffer.from(await crypto.subtle.digest('SHA-256', hashes)).toString('hex');
      world.answer = [wire.BlobFrame.encode({ offer: { hashes, held } })];
      const fetcher = world.fetcher();
      void fetcher.fetch({ root, size: 8 * limits.BLOB_CHUNK_BYTES }, { donors: ['a'] });
      await world.pass(100);
      const frames = (world.opened[0]?.sent ?? []).map((frame) => wire.BlobFrame.decode(frame));
      const wishes = frames.filter(({ want }) => want !== undefined);
      await world.end(null);
      await fetcher.ended();
      return wishes.length >= value;
    },
  },
  BLOBS_MAX: {
    takes: async (value) => (await fetchedAtOnce(times(value, () => 1))) === value,
  },
  BLOBS_BYTES_MAX: {
    takes: async (value) => (await fetchedAtOnce([limits.BLOBS_BYTES_MAX / 2, value / 2])) === 2,
    step: 2,
  },
  BLOBS_WAITING_MAX: {
    takes: async (value) => {
      const world = new World();
      const fetcher = world.fetcher();
      let refused = 0;
      const all = times(limits.BLOBS_MAX + value, (i) =>
        fetcher.fetch({ root: i.toString(16).padStart(64, '0'), size: 1 }, { donors: ['a'] }),
      );
      for (const each of all) void each.then(() => refused++);
      await world.pass(10);
      const areAllWaiting = refused === 0;
      await world.end(null);
      await fetcher.ended();
      return areAllWaiting;
    },
  },
} satisfies Partial<Record<LimitName, LimitCase>>;
