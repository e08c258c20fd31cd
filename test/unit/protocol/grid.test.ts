import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  GRID,
  isSumOfSteps,
  roundToSteps,
  STEP_MAX,
  subtractSteps,
} from '../../../protocol/grid.js';
import { EPOCHS_MAX } from '../../../protocol/limits.js';

/** Bits of float64 values, so that 0 and -0 differ. */
function bits(values: Float64Array): BigUint64Array {
  return new BigUint64Array(Float64Array.from(values).buffer);
}

function rounded(values: readonly number[], factor = 1): Float64Array {
  const out = Float64Array.from(values);
  roundToSteps(out, factor);
  return out;
}

describe('roundToSteps()', () => {
  it('rounds to integers, ties to even, and leaves no -0', () => {
    const values = [0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 0.49999999999999994, -0.3, -0, 7, -7];
    const expected = [0, 2, 2, 0, -2, -2, 0, 0, 0, 7, -7];
    assert.deepEqual(bits(rounded(values)), bits(Float64Array.from(expected)));
  });

  it('clamps at +-2^35, and rounds just below', () => {
    const values = [STEP_MAX - 0.25, STEP_MAX, STEP_MAX + 1, 1e300, -1e300, -STEP_MAX - 0.5];
    const expected = [STEP_MAX, STEP_MAX, STEP_MAX, STEP_MAX, -STEP_MAX, -STEP_MAX];
    assert.deepEqual([...rounded(values)], expected);
    assert.deepEqual([...rounded([STEP_MAX - 0.75, 0.5 - STEP_MAX])], [STEP_MAX - 1, -STEP_MAX]);
  });

  it('is the nearest integer for any value', () => {
    fc.assert(
      fc.property(fc.double({ min: -(2 ** 35), max: 2 ** 35, noNaN: true }), (value) => {
        const [steps = NaN] = rounded([value]);
        assert.ok(Number.isInteger(steps) && Math.abs(steps - value) <= 0.5);
        if (Math.abs(steps - value) === 0.5) assert.equal(Math.abs(steps % 2), 0);
      }),
    );
  });
});

describe('sums of steps', () => {
  it('stay exact for as many epochs as a run can have', () => {
    assert.ok((EPOCHS_MAX + 2) * STEP_MAX <= 2 ** 53);
  });

  it('are whole, at most as large as their epochs can make them, and never -0', () => {
    const sumOf = (value: number): Float64Array => Float64Array.of(3, value, -5);
    for (const value of [0, 1, 2 * STEP_MAX, -2 * STEP_MAX])
      assert.ok(isSumOfSteps(sumOf(value), 2), `${value}`);
    for (const value of [-0, 0.5, NaN, -Infinity, 2 * STEP_MAX + 1])
      assert.ok(!isSumOfSteps(sumOf(value), 2), `${value}`);
  });
});

describe('subtractSteps()', () => {
  it('keeps the bits of what nothing moved: -0, the least denormal and the largest value too', () => {
    const initial = Float32Array.of(-0, 0, 1.401298464324817e-45, -1.2e-40, 3.4028234663852886e38);
    const out = new Float32Array(initial.length);
    subtractSteps(initial, new Float64Array(initial.length), out);
    assert.deepEqual(new Uint32Array(out.buffer), new Uint32Array(initial.buffer));
  });

  it('rounds to float32 once', () => {
    fc.assert(
      fc.property(
        fc.float({ min: -1, max: 1, noNaN: true }),
        fc.integer({ min: -(2 ** 45), max: 2 ** 45 }),
        (initial, steps) => {
          const out = new Float32Array(1);
          subtractSteps(Float32Array.of(initial), Float64Array.of(steps), out);
          assert.equal(out[0], Math.fround(initial - steps / GRID));
        },
      ),
    );
  });
});
