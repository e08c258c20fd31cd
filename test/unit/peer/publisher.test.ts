import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Connection, Transport } from '../../../node/interfaces.js';
import { Publisher } from '../../../node/peer/publisher.js';
import { VirtualClock, VirtualTime } from '../../../node/sim/clock.js';

const nothing = (): void => undefined;
const logger = { debug: nothing, info: nothing, warn: nothing, error: nothing };
const MEMBER: Connection = {
  peerId: 'somebody',
  address: '/memory/somebody',
  direction: 'inbound',
  latencyMs: null,
};

/** A publisher over a transport that hands messages to `recipients` of `members`. */
function setUp() {
  const time = new VirtualTime(0);
  const world = { recipients: 0, members: 1, throws: false, sent: [] as string[] };
  const transport: Transport = {
    start: async () => undefined,
    stop: async () => undefined,
    open: async () => assert.fail('no stream is opened'),
    connections: () => Array.from({ length: world.members }, () => MEMBER),
    publish: async (message) => {
      world.sent.push(Buffer.from(message).toString());
      if (world.throws) throw new RangeError('not today');
      return world.recipients;
    },
  };
  const stop = new AbortController();
  const clock = new VirtualClock(time);
  const publisher = new Publisher({ transport, clock, logger }, stop.signal);
  const pass = (ms: number): Promise<void> => time.advanceTo(time.nowMs + ms);
  return { world, publisher, pass, stop };
}

const text = (value: string): Uint8Array => new TextEncoder().encode(value);

describe('Publisher', () => {
  it('publishes once what somebody takes', async () => {
    const { world, publisher, pass } = setUp();
    assert.equal(publisher.lastRecipients, null);
    world.recipients = 3;
    await publisher.publish(text('one'));
    await pass(60_000);
    publisher.onConnect();
    await pass(60_000);
    assert.deepEqual(world.sent, ['one']);
    assert.equal(publisher.lastRecipients, 3);
    assert.equal(publisher.published, 1);
  });

  it('publishes again what reached nobody or failed, and says so when that lasts', async () => {
    for (const throws of [false, true]) {
      const { world, publisher, pass } = setUp();
      world.throws = throws;
      await publisher.publish(text('one'));
      await pass(2_500);
      assert.equal(publisher.isUnheard, false);
      await pass(2_500);
      assert.equal(publisher.isUnheard, true);
      assert.equal(publisher.lastRecipients, 0);
      [world.throws, world.recipients] = [false, 1];
      await pass(1_500);
      assert.equal(publisher.isUnheard, false);
      const { length } = world.sent;
      await pass(60_000);
      assert.equal(world.sent.length, length, 'it stops when somebody has it');
      assert.equal(publisher.published, 1, 'counted once, however often it was tried');
    }
  });

  it('waits for a member while it is alone, and then tells the newest only', async () => {
    const { world, publisher, pass } = setUp();
    world.members = 0;
    await publisher.publish(text('one'));
    await pass(60_000);
    await publisher.publish(text('two'));
    await pass(60_000);
    assert.deepEqual(world.sent, ['one', 'two']);
    assert.equal(publisher.isUnheard, false);
    [world.members, world.recipients] = [1, 1];
    publisher.onConnect();
    await pass(2_000);
    assert.deepEqual(world.sent, ['one', 'two', 'two']);
  });

  it('gives up after a while, and at once when the peer stops', async () => {
    const { world, publisher, pass, stop } = setUp();
    await publisher.publish(text('one'));
    await pass(600_000);
    assert.ok(world.sent.length > 30 && world.sent.length < 100);
    await publisher.publish(text('two'));
    stop.abort(new Error('stopping'));
    const { length } = world.sent;
    await pass(60_000);
    assert.equal(world.sent.length, length);
  });
});
