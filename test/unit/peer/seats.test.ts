import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { SEAT_MS_MIN, Seats } from '../../../node/peer/seats.js';
import { VirtualClock, VirtualTime } from '../../../node/sim/clock.js';

const nothing = (): void => undefined;

class World {
  readonly time = new VirtualTime(0);
  readonly seats = new Seats(new VirtualClock(this.time), 2);
  readonly lost: string[] = [];
  readonly #losers = new Map<string, () => void>();

  take(peerId: string): boolean {
    const onLost = (): void => void this.lost.push(peerId);
    const isTaken = this.seats.take(peerId, onLost);
    if (isTaken) this.#losers.set(peerId, onLost);
    return isTaken;
  }

  release(peerId: string): void {
    this.seats.release(peerId, this.#losers.get(peerId) ?? nothing);
  }

  pass(ms: number): Promise<void> {
    return this.time.advanceTo(this.time.nowMs + ms);
  }
}

describe('Seats', () => {
  it('has as many as it says, one for each peer', () => {
    const { seats } = new World();
    assert.deepEqual(
      ['a', 'a', 'b', 'c'].map((id) => seats.take(id, nothing)),
      [true, false, true, false],
    );
  });

  it('leaves a place to its holder for a while, then gives the place of who had most to who had least', async () => {
    const world = new World();
    world.take('a');
    await world.pass(1000);
    world.take('b');
    await world.pass(SEAT_MS_MIN - 1000);
    assert.ok(!world.take('c'), 'a has had no more than c would have');
    await world.pass(1);
    assert.ok(world.take('c'));
    assert.deepEqual([world.lost, world.seats.taken], [['a'], 2]);
  });

  it('lets two that hold places all the time keep a third out for seconds only', async () => {
    const world = new World();
    let servedMs = 0;
    for (let second = 0; second < 600; second++) {
      // The hostile come first each time, and never leave.
      world.take('a');
      world.take('b');
      const isServed = world.take('c');
      await world.pass(1000);
      if (!isServed) continue;
      servedMs += 1000;
      world.release('c');
    }
    assert.ok(servedMs > 60_000, `${servedMs} ms`);
  });

  it('does not give a place away that was lost and is released late', async () => {
    const world = new World();
    world.take('a');
    world.take('b');
    await world.pass(SEAT_MS_MIN + 1000);
    world.take('c');
    const [loser = ''] = world.lost;
    world.release(loser);
    assert.equal(world.seats.taken, 2);
  });
});
