/** The bounds of protocol/limits.ts that libp2p streams enforce: at the bound taken, just beyond it refused. */
import assert from 'node:assert/strict';
import { after, before, describe, it, mock } from 'node:test';
import { setImmediate as macrotask } from 'node:timers/promises';
import type { FrameStream } from '../../node/interfaces.js';
import { GossipIntake, PIECE_BYTES } from '../../node/net/gossip-intake.js';
import { GossipTransport } from '../../node/net/gossip-transport.js';
import type { Host } from '../../node/net/host.js';
import { askRuns, serveIntroductions } from '../../node/net/introduce.js';
import { serveReach } from '../../node/net/reach.js';
import { RunRegistry } from '../../node/net/run-registry.js';
import { REACH_PROTOCOL_ID } from '../../protocol/ids.js';
import * as limits from '../../protocol/limits.js';
import { ReachRequest } from '../../protocol/wire/messages.js';
import { Recorder } from '../compliance/transport.js';
import { VirtualClock, VirtualTime } from '../../node/sim/clock.js';
import { testRun } from '../support/runs.js';
import type { LimitCase, OVER_SOCKETS } from '../unit/limits/limit-case.js';
import { dial, makeQuietHost, silent, until } from './harness.js';

const GOSSIP_TOPIC = '/test/limits';
const BYTES_PROTOCOL_ID = '/test/bytes';
const CHUNK = 256 * 1024;
const signal = (): AbortSignal => AbortSignal.timeout(60_000);

let server: Host;
let client: Host;
before(async () => {
  [server, client] = await Promise.all([makeQuietHost(), makeQuietHost()]);
  await dial(client, server);
});
after(() => Promise.all([server.stop(), client.stop()]));

/** Messages of one sender that are handled at once, and within `ms` after that, of many. */
async function messagesHandled(ms: number): Promise<number[]> {
  const time = new VirtualTime(0);
  const intake = new GossipIntake(new VirtualClock(time));
  const gossip = await client.startGossip(GOSSIP_TOPIC, () => true);
  let handled = 0;
  gossip.handleReceivedRpc = async () => {
    handled++;
    await Promise.resolve();
  };
  intake.attach(gossip);
  const rpc = { subscriptions: [], messages: [{ topic: GOSSIP_TOPIC }] };
  const stop = Promise.allSettled(
    Array.from({ length: limits.GOSSIP_MESSAGES_BURST + 300 }, () =>
      gossip.handleReceivedRpc(server.libp2p.peerId, rpc),
    ),
  );
  await time.advanceTo(0);
  const counts = [handled];
  await time.advanceTo(ms);
  counts.push(handled - (counts[0] ?? 0));
  intake.stop();
  await time.advanceTo(1e6);
  await stop;
  await client.stopGossip();
  return counts;
}

/** Bytes of one sender that are read at once, and within `ms` after that, of many. */
async function bytesRead(ms: number): Promise<number[]> {
  const time = new VirtualTime(0);
  const intake = new GossipIntake(new VirtualClock(time));
  let read = 0;
  await intake
    .slowing(server.libp2p.services.parts.registrar)
    .handle(BYTES_PROTOCOL_ID, (stream) => {
      const reading = async (): Promise<void> => {
        for await (const chunk of stream) read += chunk.byteLength;
      };
      void reading().catch(() => undefined);
    });
  const stream = await client.openStream(server.libp2p.peerId, BYTES_PROTOCOL_ID, signal());
  const sending = async (): Promise<void> => {
    const chunk = new Uint8Array(CHUNK);
    for (let sent = 0; sent < 2 * limits.GOSSIP_BURST_BYTES; sent += CHUNK) {
      if (!stream.send(chunk)) await stream.onDrain();
    }
  };
  void sending().catch(() => undefined);
  const settled = async (): Promise<number> => {
    for (let quiet = 0; quiet < 50;) {
      const before = read;
      await new Promise((resolve) => setTimeout(resolve, 5));
      quiet = before === read ? quiet + 1 : 0;
    }
    return read;
  };
  await until('the burst is read', () => read > limits.GOSSIP_BURST_BYTES - 2 * PIECE_BYTES);
  const atOnce = await settled();
  await time.advanceTo(ms);
  // A chunk at a time is waited for, each for its own time.
  let later = await settled();
  for (let last = -1; last !== later; later = await settled()) {
    last = later;
    await time.advanceTo(ms);
  }
  intake.stop();
  stream.abort(new RangeError('enough'));
  await server.libp2p.unhandle(BYTES_PROTOCOL_ID);
  return [atOnce, later - atOnce];
}

/** Lets `work` run while the clock stands still, but for ticks. */
async function atStandstill<T>(work: () => Promise<T>): Promise<T> {
  mock.timers.enable({ apis: ['Date'], now: Date.now() });
  try {
    return await work();
  } finally {
    mock.timers.reset();
  }
}

/** Of so many introductions, one after the other with the clock standing still but for `passMs` before each. */
const introductions = (passMs: readonly number[]): Promise<boolean[]> =>
  atStandstill(async () => {
    const registry = new RunRegistry({ own: testRun() });
    const self = { peerId: server.peerId, addresses: ['/ip4/127.0.0.1/tcp/9'] };
    const stop = await serveIntroductions(
      server,
      { registry, self: () => self, door: null },
      silent,
    );
    const address = server.addresses()[0] ?? '';
    const answered: boolean[] = [];
    for (const ms of passMs) {
      mock.timers.tick(ms);
      const runs = await askRuns(client, address, signal()).catch(() => []);
      answered.push(runs.length > 0);
    }
    await stop();
    return answered;
  });

/** The same for reach checks of `ports` ports; true for those that were taken up. */
const reachChecks = (passMs: readonly number[], ports = 1): Promise<boolean[]> =>
  atStandstill(async () => {
    const stop = await serveReach(server, silent);
    const taken: boolean[] = [];
    for (const ms of passMs) {
      mock.timers.tick(ms);
      const stream = await client.openStream(server.libp2p.peerId, REACH_PROTOCOL_ID, signal());
      const request = ReachRequest.encode({ ports: Array.from({ length: ports }, () => 1) });
      let answer = 0;
      stream.addEventListener('message', ({ data }) => (answer += data.byteLength));
      try {
        stream.send(Uint8Array.of(request.length));
        stream.send(request);
      } catch {
        // It is refused already.
      }
      await endOf(() => answer > 0 || stream.status !== 'open');
      taken.push(answer > 0);
      stream.abort(new RangeError('done'));
    }
    await stop();
    return taken;
  });

/** Waits without the clock, which stands still; libp2p's own timers go on. */
async function endOf(condition: () => boolean): Promise<void> {
  for (let i = 0; !condition(); i++) {
    assert.ok(i < 4_000, 'no answer');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

const zeros = (count: number): number[] => Array.from({ length: count }, () => 0);
const areAll = (answers: readonly boolean[]): boolean => answers.every((each) => each);

const CASES: Record<(typeof OVER_SOCKETS)[number], LimitCase> = {
  SYNC_FRAME_BYTES_MAX: {
    takes: async (value) => {
      const transports = [server, client].map(
        (host) => new GossipTransport(host, '5a'.repeat(32), silent),
      );
      const recorder = new Recorder();
      await transports[0]?.start(recorder);
      await transports[1]?.start(new Recorder());
      // Another stream has no such bound: what the receiver does with too long a frame is the question.
      const raw = await client.openStream(server.libp2p.peerId, '/murmurate/blob/1.0.0', signal());
      const prefix = [(value & 0x7f) | 0x80, ((value >> 7) & 0x7f) | 0x80, value >> 14];
      raw.send(Uint8Array.from(prefix));
      raw.send(new Uint8Array(value));
      await until('the stream arrives', () => recorder.streams.length > 0);
      const stream: FrameStream | undefined = recorder.streams[0]?.stream;
      const first = await stream?.frames[Symbol.asyncIterator]()
        .next()
        .catch(() => null);
      for (const transport of transports) await transport.stop();
      return first?.done === false && first.value.length === value;
    },
  },
  GOSSIP_MESSAGES_BURST: {
    takes: async (value) => ((await messagesHandled(0))[0] ?? 0) >= value,
  },
  GOSSIP_MESSAGES_PER_SECOND: {
    takes: async (value) => ((await messagesHandled(1000))[1] ?? 0) >= value,
  },
  GOSSIP_BURST_BYTES: {
    step: 2 * PIECE_BYTES,
    takes: async (value) => ((await bytesRead(0))[0] ?? 0) > value - PIECE_BYTES,
  },
  GOSSIP_BYTES_PER_SECOND: {
    step: 2 * PIECE_BYTES,
    takes: async (value) => ((await bytesRead(1000))[1] ?? 0) > value - PIECE_BYTES,
  },
  INTRODUCTIONS_BURST: { takes: async (value) => areAll(await introductions(zeros(value))) },
  INTRODUCTIONS_PER_SECOND: {
    takes: async (value) => {
      const passMs = [...zeros(limits.INTRODUCTIONS_BURST), 1000, ...zeros(value - 1)];
      return areAll(await introductions(passMs));
    },
  },
  REACH_CHECKS_BURST: { takes: async (value) => areAll(await reachChecks(zeros(value))) },
  REACH_CHECKS_PER_MINUTE: {
    takes: async (value) => {
      const passMs = [...zeros(limits.REACH_CHECKS_BURST), 60_000, ...zeros(value - 1)];
      return areAll(await reachChecks(passMs));
    },
  },
  REACH_PORTS_MAX: { takes: async (value) => areAll(await reachChecks([0], value)) },
};

describe('every limit over sockets', () => {
  for (const [name, { takes, step = 1 }] of Object.entries(CASES)) {
    it(`${name} holds at its value and not beyond`, async () => {
      const value = limits[name as keyof typeof CASES];
      assert.equal(await takes(value), true, `${value} is taken`);
      await macrotask();
      assert.equal(await takes(value + step), false, `${value + step} is refused`);
    });
  }
});
