/** Who hears whom in the simulated network: cuts that are not transitive, links silent one way, two processes of one key. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { FrameStream, TransportHandlers } from '../../../node/interfaces.js';
import { VirtualTime } from '../../../node/sim/clock.js';
import { NO_FAULTS, SimNetwork, type SimTransport } from '../../../node/sim/network.js';
import { Prng } from '../../../protocol/prng.js';

class Listener implements TransportHandlers {
  readonly heard: string[] = [];
  readonly streams: FrameStream[] = [];
  connected = 0;

  onGossip(message: Uint8Array, from: string): 'ignore' {
    this.heard.push(`${from}:${message[0]}`);
    return 'ignore';
  }

  async onStream(_kind: string, stream: FrameStream): Promise<void> {
    this.streams.push(stream);
  }

  onConnect(): void {
    this.connected += 1;
  }

  onDisconnect(): void {
    this.connected -= 1;
  }

  isMember(): boolean {
    return true;
  }
}

interface Net {
  network: SimNetwork;
  time: VirtualTime;
  listeners: Listener[];
  transports: SimTransport[];
  pass: (delayMs?: number) => Promise<void>;
}

async function net(ids: readonly string[]): Promise<Net> {
  const time = new VirtualTime(0);
  const network = new SimNetwork(time, new Prng(new Uint8Array(32), 'cuts'), NO_FAULTS);
  const listeners = ids.map(() => new Listener());
  const transports = ids.map((id) => network.transport(id));
  for (const [i, transport] of transports.entries()) await transport.start(listeners[i]!);
  const pass = (delayMs = 100): Promise<void> => time.advanceTo(time.nowMs + delayMs);
  await pass();
  return { network, time, listeners, transports, pass };
}

describe('the simulated network', () => {
  it('cuts one link and leaves both ends a third peer', async () => {
    const { network, listeners, transports, pass } = await net(['a', 'b', 'c']);
    network.cut([['a', 'b']], true);
    await transports[0]!.publish(Uint8Array.of(1));
    await pass();
    assert.deepEqual(
      listeners.map(({ heard, connected }) => [heard.length, connected]),
      [
        [0, 1],
        [0, 1],
        [1, 2],
      ],
    );
    network.heal();
    await pass();
    await transports[0]!.publish(Uint8Array.of(2));
    await pass();
    assert.deepEqual(listeners[1]!.heard, ['a:2']);
  });

  it('loses gossip in one direction alone, and holds up streams until both hear again', async () => {
    const { network, listeners, transports, pass } = await net(['a', 'b']);
    const opening = transports[0]!.open('sync', 'b', new AbortController().signal);
    await pass();
    const stream = await opening;
    network.cuts.silence('a', 'b');
    await transports[0]!.publish(Uint8Array.of(1));
    await transports[1]!.publish(Uint8Array.of(2));
    await stream.send(Uint8Array.of(3));
    const frames = listeners[1]!.streams[0]!.frames[Symbol.asyncIterator]();
    let received: number | undefined;
    void frames.next().then(({ value }) => (received = (value as Uint8Array)[0]));
    await pass();
    assert.deepEqual([listeners[0]!.heard, listeners[1]!.heard], [['b:2'], []]);
    assert.equal(received, undefined);
    network.cuts.hear('a', 'b');
    await pass();
    assert.equal(received, 3);
    assert.deepEqual(listeners[1]!.heard, [], 'gossip is not told again');
  });

  it('opens nothing over a line that one end does not hear', async () => {
    const { network, transports, pass } = await net(['a', 'b']);
    network.cuts.silence('b', 'a');
    const deadline = new AbortController();
    const opening = transports[0]!.open('sync', 'b', deadline.signal);
    await pass();
    deadline.abort(new Error('too long'));
    await assert.rejects(opening, /too long/);
  });

  it('lets two processes with one key talk to the others at once, and goes on when one ends', async () => {
    const { listeners, transports, pass } = await net(['a', 'b', 'b']);
    await transports[0]!.publish(Uint8Array.of(1));
    await pass();
    assert.deepEqual(
      listeners.map(({ heard }) => heard.length),
      [0, 1, 1],
    );
    transports[2]!.kill();
    await transports[0]!.publish(Uint8Array.of(2));
    await pass();
    assert.deepEqual(
      listeners.map(({ heard }) => heard.length),
      [0, 2, 1],
    );
    assert.equal(listeners[0]!.connected, 1);
  });
});
