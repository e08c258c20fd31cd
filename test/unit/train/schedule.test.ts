import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { learningRateAt, runProgress } from '../../../node/train/schedule.js';

const settings = { learningRate: 0.004, warmupFraction: 0.2, finalFraction: 0.1 };

function assertRate(progress: number, expected: number): void {
  const rate = learningRateAt(settings, progress);
  assert.ok(Math.abs(rate - expected) < 1e-12, `at ${progress}: ${rate}, expected ${expected}`);
}

describe('learningRateAt', () => {
  it('rises linearly to the peak over the warm-up', () => {
    assertRate(0.05, 0.001);
    assertRate(0.15, 0.003);
    assertRate(0.2, 0.004);
  });

  it('falls along half a cosine to the final share of the peak', () => {
    assertRate(0.4, 0.004 * (0.1 + 0.9 * ((1 + Math.SQRT1_2) / 2)));
    assertRate(0.6, 0.004 * 0.55);
    assertRate(0.8, 0.004 * (0.1 + 0.9 * ((1 - Math.SQRT1_2) / 2)));
    assertRate(1, 0.0004);
  });

  it('stays at the final share after the end', () => assertRate(1.3, 0.0004));

  it('starts at the peak without a warm-up, and only rises when the warm-up is the whole run', () => {
    assert.equal(learningRateAt({ ...settings, warmupFraction: 0 }, 0), 0.004);
    const rising = { ...settings, warmupFraction: 1 };
    assert.equal(learningRateAt(rising, 0.25), 0.001);
    assert.equal(learningRateAt(rising, 1), 0.004);
  });

  it('never leaves 0 to the peak', () => {
    const share = fc.double({ min: 0, max: 1, noNaN: true });
    fc.assert(
      fc.property(share, share, share, (warmupFraction, finalFraction, progress) => {
        const rate = learningRateAt({ learningRate: 3, warmupFraction, finalFraction }, progress);
        assert.ok(rate >= 0 && rate <= 3 * (1 + 1e-12));
      }),
    );
  });
});

describe('runProgress', () => {
  const run = { epochsMax: 20, stepsRef: 8 };

  it('moves with the first step and ends at 1 with the last', () => {
    assert.equal(runProgress(run, 0, 0), 1 / 160);
    assert.equal(runProgress(run, 19, 7), 1);
  });

  it('follows the epoch: steps left out earlier do not hold a late joiner back', () => {
    assert.equal(runProgress(run, 10, 3), 84 / 160);
  });
});
