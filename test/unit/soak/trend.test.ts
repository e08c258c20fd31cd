import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Prng } from '../../../protocol/prng.js';
import { trendOf, type Trend } from '../../soak/trend.js';

const POINTS = 60;

/** Trend of a line of this slope with noise, each value of which keeps `memory` of the one before. */
function noisy(seed: number, slope: number, memory = 0): Trend {
  const random = new Prng(Uint8Array.of(seed), 'trend');
  let noise = 0;
  return trendOf(
    Array.from({ length: POINTS }, (_, i) => {
      noise = memory * noise + 2 * random.nextFloat() - 1;
      return { x: i / POINTS, y: 100 + (slope * i) / POINTS + noise };
    }),
  );
}

/** In how many of 200 such lines the true slope is within the uncertainty. */
function hits(slope: number, memory: number): number {
  const trends = Array.from({ length: 200 }, (_, seed) => noisy(seed, slope, memory));
  return trends.filter((trend) => Math.abs(trend.slope - slope) <= trend.uncertainty).length;
}

describe('a trend', () => {
  it('is exact for a straight line', () => {
    const points = Array.from({ length: POINTS }, (_, i) => ({ x: i, y: 3 - 2 * i }));
    const { slope, uncertainty } = trendOf(points);
    assert.ok(Math.abs(slope + 2) < 1e-9 && uncertainty < 1e-9);
  });

  it('is flat for a constant', () => {
    assert.deepEqual(trendOf(Array.from({ length: POINTS }, (_, x) => ({ x, y: 7 }))), {
      slope: 0,
      uncertainty: 0,
    });
  });

  it('holds the true slope within its uncertainty, as often as it says', () => {
    assert.ok(hits(0, 0) >= 180, `${hits(0, 0)} of 200`);
    assert.ok(hits(5, 0) >= 180, `${hits(5, 0)} of 200`);
  });

  it('is less sure of neighbours that resemble each other', () => {
    assert.ok(noisy(1, 0, 0.7).uncertainty > 1.5 * noisy(1, 0).uncertainty);
    assert.ok(hits(0, 0.7) >= 165, `${hits(0, 0.7)} of 200`);
  });

  it('tells a leak from noise', () => {
    const { slope, uncertainty } = noisy(3, 10);
    assert.ok(slope - uncertainty > 5);
  });

  it('refuses a handful of points', () => {
    assert.throws(() => trendOf([{ x: 0, y: 0 }]), RangeError);
  });
});
