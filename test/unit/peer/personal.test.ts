import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Clock, Trainer } from '../../../node/interfaces.js';
import { PERSONAL_SHARE_MAX, PersonalMeter } from '../../../node/peer/personal.js';

const never = new AbortController().signal;

/** A trainer whose evaluations take `evaluationMs`, and a meter on it. */
function meter(
  evaluationMs: number,
  loss: number | null = 3,
): {
  personal: PersonalMeter;
  evaluated: number[];
  clock: { nowMs: number };
} {
  const clock = { nowMs: 1000 };
  const evaluated: number[] = [];
  const trainer: Pick<Trainer, 'evaluate'> = {
    evaluate: async (theta) => {
      clock.nowMs += evaluationMs;
      evaluated.push(theta[0] ?? NaN);
      return loss;
    },
  };
  const now: Pick<Clock, 'now'> = { now: () => clock.nowMs };
  return { personal: new PersonalMeter(trainer, now), evaluated, clock };
}

describe('PersonalMeter', () => {
  it('takes at most its share of the time that training took, each adapter once', async () => {
    const { personal, evaluated } = meter(300);
    for (let epoch = 1; epoch <= 30; epoch++) {
      personal.note({ theta: Float32Array.of(epoch), epoch, seconds: 2 });
      for (let i = 0; i < 3; i++) await personal.measure(300, 1e9, never);
      assert.ok(300 * evaluated.length <= PERSONAL_SHARE_MAX * 2000 * epoch);
    }
    // 300 ms are 3 % of 10 s, which are five epochs.
    assert.deepEqual(evaluated, [5, 10, 15, 20, 25, 30]);
    assert.deepEqual(personal.newest, { epoch: 30, loss: 3 });
  });

  it('begins nothing that would end after the slot, and counts what it took, not what was predicted', async () => {
    const { personal, evaluated, clock } = meter(400);
    personal.note({ theta: Float32Array.of(1), epoch: 0, seconds: 15 });
    await personal.measure(200, clock.nowMs + 199, never);
    assert.deepEqual(evaluated, []);
    await personal.measure(200, clock.nowMs + 200, never);
    assert.deepEqual(evaluated, [1]);
    personal.note({ theta: Float32Array.of(2), epoch: 1, seconds: 1 });
    // 400 + 200 of 480 ms: not now, but after the run.
    await personal.measure(200, 1e9, never);
    assert.deepEqual(evaluated, [1]);
    await personal.measure(200, Infinity, never);
    await personal.measure(200, Infinity, never);
    assert.deepEqual(evaluated, [1, 2]);
    assert.equal(personal.newest?.epoch, 1);
  });

  it('has no loss before the first, and none where it is not finite', async () => {
    const { personal } = meter(1, NaN);
    await personal.measure(1, Infinity, never);
    assert.equal(personal.newest, null);
    personal.note({ theta: Float32Array.of(1), epoch: 0, seconds: 1 });
    await personal.measure(1, Infinity, never);
    assert.equal(personal.newest, null);
  });
});
