/** What every Transport must do, whatever carries it: run on libp2p and on the simulator's network. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import type { Verdict } from '../../protocol/errors.js';
import { GOSSIP_BYTES_MAX, SYNC_FRAME_BYTES_MAX } from '../../protocol/limits.js';
import {
  MessageTooLargeError,
  type FrameStream,
  type StreamKind,
  type Transport,
  type TransportHandlers,
} from '../../node/interfaces.js';

/** A few transports of one run that are not started yet, and the time they live in. */
export interface TransportSwarm {
  members: readonly { peerId: string; transport: Transport }[];
  /** Connects every started member with every other. */
  connect(): Promise<void>;
  /** Resolves when `condition` holds; rejects, naming `what`, when it does not in good time. */
  until(what: string, condition: () => boolean): Promise<void>;
  /** Resolves as `work` does, letting (virtual) time pass for it; rejects when it takes too long. */
  run<T>(work: Promise<T>): Promise<T>;
  stop(): Promise<void>;
}

/** Handlers that write down what happens. */
export class Recorder implements TransportHandlers {
  readonly messages: { text: string; from: string }[] = [];
  readonly connects: string[] = [];
  readonly disconnects: string[] = [];
  readonly streams: { kind: StreamKind; stream: FrameStream; from: string }[] = [];
  verdict: Verdict = 'accept';

  onGossip(message: Uint8Array, from: string): Verdict {
    this.messages.push({ text: Buffer.from(message).toString(), from });
    return this.verdict;
  }

  async onStream(kind: StreamKind, stream: FrameStream, from: string): Promise<void> {
    this.streams.push({ kind, stream, from });
  }

  onConnect(peerId: string): void {
    this.connects.push(peerId);
  }

  isMember(): boolean {
    return true;
  }

  onDisconnect(peerId: string): void {
    this.disconnects.push(peerId);
  }
}

const text = (value: string): Uint8Array => new TextEncoder().encode(value);

/** Reads frames into `into` as text until the stream ends; rejects as the stream does. */
async function collect(stream: FrameStream, into: string[]): Promise<void> {
  for await (const frame of stream.frames) into.push(Buffer.from(frame).toString());
}

/** Registers the suite for the transports that `makeSwarm(count)` makes. */
export function transportCompliance(
  name: string,
  makeSwarm: (count: number) => Promise<TransportSwarm>,
): void {
  describe(`Transport: ${name}`, () => {
    let swarm: TransportSwarm;
    let recorders: Recorder[];

    const member = (i: number): { peerId: string; transport: Transport } => swarm.members[i]!;
    const peerIdsBut = (i: number): string[] =>
      swarm.members
        .filter((_, other) => other !== i)
        .map(({ peerId }) => peerId)
        .sort();

    const startAll = async (): Promise<void> => {
      for (const [i, { transport }] of swarm.members.entries()) {
        await swarm.run(transport.start(recorders[i]!));
      }
    };

    const connectAll = async (): Promise<void> => {
      await startAll();
      await swarm.connect();
      await swarm.until('everyone is connected to everyone', () =>
        recorders.every(({ connects }) => connects.length === swarm.members.length - 1),
      );
    };

    /** A stream from member 0 to member 1: both its ends. */
    const openPair = async (kind: StreamKind = 'sync'): Promise<[FrameStream, FrameStream]> => {
      const signal = new AbortController().signal;
      const near = await swarm.run(member(0).transport.open(kind, member(1).peerId, signal));
      // Some carriers open a stream only with its first bytes.
      await swarm.run(near.send(text('hello')));
      await swarm.until('the stream arrives', () => recorders[1]!.streams.length === 1);
      const { stream: far, from, kind: kindSeen } = recorders[1]!.streams[0]!;
      assert.deepEqual([from, kindSeen], [member(0).peerId, kind]);
      return [near, far];
    };

    beforeEach(async () => {
      swarm = await makeSwarm(3);
      recorders = swarm.members.map(() => new Recorder());
    });

    afterEach(async () => {
      await swarm.stop();
    });

    it('tells each member once of each other member, and lists it with an address', async () => {
      await connectAll();
      for (const [i, recorder] of recorders.entries()) {
        assert.deepEqual([...recorder.connects].sort(), peerIdsBut(i));
        const connections = member(i).transport.connections();
        assert.deepEqual(connections.map(({ peerId }) => peerId).sort(), peerIdsBut(i));
        assert.ok(connections.every(({ address }) => address.length > 0));
        assert.deepEqual(recorder.disconnects, []);
      }
    });

    it('hands a message to nobody while alone', async () => {
      await startAll();
      assert.equal(await swarm.run(member(0).transport.publish(text('into the void'))), 0);
      assert.deepEqual(member(0).transport.connections(), []);
    });

    it('carries a message to every other member, once, and not back to its sender', async () => {
      await connectAll();
      const handed = await swarm.run(member(0).transport.publish(text('news')));
      assert.ok(handed >= 1 && handed <= 2, `handed to ${handed}`);
      await swarm.until('the news is everywhere', () =>
        recorders.slice(1).every(({ messages }) => messages.length > 0),
      );
      await swarm.run(member(1).transport.publish(text('reply')));
      await swarm.until('the reply is everywhere', () =>
        [recorders[0]!, recorders[2]!].every(({ messages }) =>
          messages.some((message) => message.text === 'reply'),
        ),
      );
      const texts = recorders.map(({ messages }) => messages.map((message) => message.text).sort());
      assert.deepEqual(texts, [['reply'], ['news'], ['news', 'reply']]);
    });

    it('refuses to publish a message over the bound, with an error that says so', async () => {
      await connectAll();
      const large = new Uint8Array(GOSSIP_BYTES_MAX + 1);
      await assert.rejects(swarm.run(member(0).transport.publish(large)), MessageTooLargeError);
      const atBound = await swarm.run(member(0).transport.publish(large.subarray(1)));
      assert.ok(atBound >= 1);
      await swarm.until('the one at the bound arrives', () => recorders[1]!.messages.length === 1);
    });

    for (const kind of ['sync', 'blob'] as const)
      it(`carries frames of a ${kind} stream in order, both ways, up to the largest`, async () => {
        await connectAll();
        const [near, far] = await openPair(kind);
        const atFar: string[] = [];
        const atNear: string[] = [];
        const reading = Promise.all([collect(far, atFar), collect(near, atNear)]);
        const large = 'x'.repeat(SYNC_FRAME_BYTES_MAX);
        for (let i = 0; i < 20; i++) await swarm.run(near.send(text(`question ${i}`)));
        await swarm.run(near.send(text(large)));
        for (let i = 0; i < 20; i++) await swarm.run(far.send(text(`answer ${i}`)));
        await swarm.run(near.close());
        await swarm.run(far.close());
        await swarm.run(reading);
        const questions = Array.from({ length: 20 }, (_, i) => `question ${i}`);
        assert.deepEqual(atFar, ['hello', ...questions, large]);
        assert.deepEqual(
          atNear,
          Array.from({ length: 20 }, (_, i) => `answer ${i}`),
        );
      });

    it('goes on reading after its own side is closed', async () => {
      await connectAll();
      const [near, far] = await openPair();
      const atFar: string[] = [];
      const atNear: string[] = [];
      await swarm.run(near.close());
      await swarm.run(collect(far, atFar));
      assert.deepEqual(atFar, ['hello']);
      await swarm.run(far.send(text('late answer')));
      await swarm.run(far.close());
      await swarm.run(collect(near, atNear));
      assert.deepEqual(atNear, ['late answer']);
    });

    it('refuses a frame over the bound and sends nothing of it', async () => {
      await connectAll();
      const [near, far] = await openPair();
      await assert.rejects(swarm.run(near.send(new Uint8Array(SYNC_FRAME_BYTES_MAX + 1))));
      await swarm.run(near.close());
      const atFar: string[] = [];
      await swarm.run(collect(far, atFar));
      assert.deepEqual(atFar, ['hello']);
      far.abort(new RangeError('done'));
    });

    it('ends the reading with an error at both ends when one aborts', async () => {
      await connectAll();
      const [near, far] = await openPair();
      const reading = [near, far].map((stream) => swarm.run(collect(stream, [])));
      const outcomes = Promise.allSettled(reading);
      near.abort(new RangeError('no longer interested'));
      const statuses = (await outcomes).map(({ status }) => status);
      assert.deepEqual(statuses, ['rejected', 'rejected']);
    });

    it('rejects a stream to a stranger, and one whose signal is aborted', async () => {
      await connectAll();
      const stranger = '12D3KooWGzxzKZYveHXtpG6AsrUJBcWxHBFS2HsEoGTxrMLvKXtf';
      const signal = AbortSignal.timeout(5_000);
      await assert.rejects(swarm.run(member(0).transport.open('sync', stranger, signal)));
      const aborted = AbortSignal.abort(new RangeError('too late'));
      await assert.rejects(
        swarm.run(member(0).transport.open('sync', member(1).peerId, aborted)),
        RangeError,
      );
    });

    it('tells the others when a member leaves, and gossips on without it', async () => {
      await connectAll();
      await swarm.run(member(2).transport.stop());
      await swarm.until('the leaving is noticed', () =>
        recorders.slice(0, 2).every(({ disconnects }) => disconnects.length === 1),
      );
      const gone = member(2).peerId;
      for (const i of [0, 1]) {
        assert.deepEqual(recorders[i]!.disconnects, [gone]);
        const left = member(i)
          .transport.connections()
          .map(({ peerId }) => peerId);
        assert.deepEqual(
          left,
          peerIdsBut(i).filter((peerId) => peerId !== gone),
        );
      }
      await swarm.run(member(0).transport.publish(text('still here')));
      await swarm.until('the message arrives', () => recorders[1]!.messages.length === 1);
      assert.deepEqual(recorders[2]!.messages, []);
    });
  });
}
