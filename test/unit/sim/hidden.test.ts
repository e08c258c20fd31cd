/** Rows that hide among honest ones: as far as their rule lets them, and no farther. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Spying, type HonestRows } from '../../../node/sim/accomplice.js';
import { againstMean, drift, fixedDirection, minMax, minSum } from '../../../node/sim/hidden.js';
import { Prng } from '../../../protocol/prng.js';

const SIZE = 40;

function honestRows(count: number): HonestRows {
  const random = new Prng(new Uint8Array(32), `rows/${count}`);
  const spying = new Spying();
  for (let i = 0; i < count; i++)
    spying.record(
      3,
      Float64Array.from({ length: SIZE }, () => 1 + random.nextFloat()),
    );
  assert.equal(spying.honest(2), null);
  return spying.honest(3) ?? assert.fail();
}

function squared(a: ArrayLike<number>, b: ArrayLike<number>): number {
  return Array.from(a).reduce((sum, value, i) => sum + (value - (b[i] ?? 0)) ** 2, 0);
}

describe('rows that hide among honest ones', () => {
  const honest = honestRows(6);
  const { rows } = honest;
  const directions = [againstMean(honest), fixedDirection(SIZE)];

  it('min-max is as far from one honest row as two of those are from each other, and from none farther', () => {
    const spread = Math.max(...rows.flatMap((a) => rows.map((b) => squared(a, b))));
    for (const direction of directions) {
      const farthest = Math.max(...rows.map((row) => squared(minMax(honest, direction), row)));
      assert.ok(Math.abs(farthest / spread - 1) < 1e-9, `${farthest} of ${spread}`);
    }
  });

  it('min-sum is as far from all honest rows together as the outermost of those is', () => {
    const sumTo = (row: ArrayLike<number>): number =>
      rows.reduce((sum, other) => sum + squared(row, other), 0);
    const largest = Math.max(...rows.map(sumTo));
    for (const direction of directions) {
      const sum = sumTo(minSum(honest, direction));
      // The rows are rounded to float32, their mean is not.
      assert.ok(Math.abs(sum / largest - 1) < 1e-5, `${sum} of ${largest}`);
    }
  });

  it('goes against the mean, and along one direction in every epoch', () => {
    const dot = (a: Float64Array, b: Float64Array): number =>
      a.reduce((sum, value, i) => sum + value * (b[i] ?? 0), 0);
    assert.ok(dot(againstMean(honest), honest.mean) < 0);
    assert.deepEqual(fixedDirection(SIZE), fixedDirection(SIZE));
    const long = drift(honest);
    assert.ok(rows.every((row) => squared(row, []) < squared(long, [])));
  });

  it('sends the one honest row where there is no spread to hide in', () => {
    const lone = honestRows(1);
    assert.deepEqual([...minMax(lone, fixedDirection(SIZE))], [...lone.mean]);
    assert.ok(squared(minSum(lone, fixedDirection(SIZE)), lone.mean) < 1e-9);
  });
});
