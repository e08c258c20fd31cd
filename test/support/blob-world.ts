/** Members that serve blobs, and those that break, stall and lie, over a simulated network under virtual time. */
import assert from 'node:assert/strict';
import type { FrameStream, ModelSource } from '../../node/interfaces.js';
import { BlobServer } from '../../node/peer/blob-server.js';
import { Fetcher, type FetcherComponents } from '../../node/peer/fetcher.js';
import { VirtualClock, VirtualTime } from '../../node/sim/clock.js';
import { NO_FAULTS, SimNetwork } from '../../node/sim/network.js';
import { BlobGiver, encodeBlobChunk, type BlobSource } from '../../protocol/blob.js';
import { Prng } from '../../protocol/prng.js';
import { blobOf } from './blobs.js';
import { testIdentity } from './runs.js';

export const RUN_ID = 'ab'.repeat(32);
const nothing = (): void => undefined;

export type Serve = (stream: FrameStream, from: string) => Promise<void>;

export class World {
  readonly time = new VirtualTime(0);
  readonly network = new SimNetwork(this.time, new Prng(new Uint8Array(32), 'test'), NO_FAULTS);
  readonly clock = new VirtualClock(this.time);
  readonly stop = new AbortController();
  readonly lies: string[] = [];

  id(index: number): string {
    return testIdentity(index, 'node').peerId;
  }

  async member(index: number, serve: Serve): Promise<string> {
    await this.network.transport(this.id(index)).start({
      onGossip: () => 'ignore',
      onStream: (_kind, stream, from) => serve(stream, from),
      onConnect: nothing,
      isMember: () => true,
      onDisconnect: nothing,
    });
    return this.id(index);
  }

  /** A member that serves what `find` finds as any peer does. */
  async server(
    index: number,
    find: (root: string) => BlobSource | undefined,
    model: ModelSource | null = null,
  ): Promise<BlobServer> {
    const parts = { clock: this.clock, runId: RUN_ID, find, model };
    const server = new BlobServer(parts, this.stop.signal);
    await this.member(index, (stream, from) => server.serve(stream, from));
    return server;
  }

  async fetcher(index = 0, serve: Serve = async () => undefined): Promise<Fetcher> {
    return new Fetcher(await this.parts(index, serve), this.stop.signal);
  }

  /** What member number `index` fetches with. */
  async parts(index = 0, serve: Serve = async () => undefined): Promise<FetcherComponents> {
    await this.member(index, serve);
    return {
      transport: this.network.online(this.id(index))!,
      clock: this.clock,
      runId: RUN_ID,
      random: new Prng(new Uint8Array(32), `fetcher ${index}`),
      onLie: (peerId) => this.lies.push(peerId),
    };
  }

  async pass(ms: number): Promise<void> {
    await this.time.advanceTo(this.time.nowMs + ms);
  }

  /** The result of `work`, letting time pass, and how much passed. */
  async run<T>(work: Promise<T>, patienceMs = 300_000): Promise<{ value: T; tookMs: number }> {
    const startMs = this.time.nowMs;
    const state = { isSettled: false };
    void work.catch(nothing).finally(() => (state.isSettled = true));
    while (!state.isSettled) {
      assert.ok(this.time.nowMs < startMs + patienceMs, 'it takes too long');
      await this.pass(50);
    }
    return { value: await work, tookMs: this.time.nowMs - startMs };
  }

  async end(): Promise<void> {
    this.stop.abort(new Error('the test is over'));
    await this.pass(1000);
  }
}

/** A donor that offers `bytes` and then answers each request as `answer` says. */
export function donor(
  bytes: Uint8Array,
  answer: (stream: FrameStream, index: number, chunk: Uint8Array) => Promise<void>,
): Serve {
  return async (stream) => {
    const giver = new BlobGiver(blobOf(bytes).source);
    let isOpen = false;
    for await (const frame of stream.frames) {
      if (!isOpen) await stream.send(giver.offer()!);
      else {
        const given = giver.receive(frame);
        await answer(stream, given.index, given.bytes);
      }
      isOpen = true;
    }
  };
}

/** A donor that does as it should `count` times and then as `after` does. */
export function turning(
  bytes: Uint8Array,
  count: number,
  after: (stream: FrameStream, index: number, chunk: Uint8Array) => Promise<void>,
): Serve {
  let given = 0;
  return donor(bytes, async (stream, index, chunk) => {
    if (given++ < count) await stream.send(encodeBlobChunk(index, chunk));
    else await after(stream, index, chunk);
  });
}

export const breaks = async (stream: FrameStream): Promise<void> =>
  stream.abort(new RangeError('broken'));
export const stalls = async (): Promise<void> => undefined;
export const lies = async (stream: FrameStream, index: number, chunk: Uint8Array): Promise<void> =>
  stream.send(
    encodeBlobChunk(
      index,
      chunk.map((byte) => byte ^ 1),
    ),
  );
