import assert from 'node:assert/strict';
import { setImmediate as macrotask } from 'node:timers/promises';
import { describe, it } from 'node:test';
import { VirtualClock, VirtualTime } from '../../../node/sim/clock.js';

describe('virtual time', () => {
  it('stands still while real work is under way, also when that fails', async () => {
    const time = new VirtualTime(0);
    const clock = new VirtualClock(time);
    const seen: string[] = [];
    const work = async (name: string): Promise<void> => {
      for (let i = 0; i < 20; i++) await macrotask();
      seen.push(`${name} at ${time.nowMs}`);
      if (name === 'fails') throw new RangeError(name);
    };
    const first = clock.sleep(10).then(() => time.hold(work('works')));
    const second = clock.sleep(20).then(() => time.hold(work('fails')));
    time.after(15, () => seen.push('between'));
    const failed = assert.rejects(second, RangeError);
    await time.advanceTo(30);
    await Promise.all([first, failed]);
    assert.deepEqual(seen, ['works at 10', 'between', 'fails at 20']);
  });
});
