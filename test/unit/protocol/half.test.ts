/** binary16 against its definition (IEEE 754-2019, 3.4) and against a search in the table of all values. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { fromHalf, HALF_MAX, toHalf } from '../../../protocol/half.js';

/** The patterns of finite values that are not negative: 0 to 0x7bff, in ascending order of value. */
const FINITE = 0x7c00;

/** The value of a pattern by the definition: (-1)^S 2^(E - 15) (1 + T / 1024), 2^-14 (T / 1024) for E = 0. */
function defined(pattern: number): number {
  const sign = pattern >= 0x8000 ? -1 : 1;
  const exponent = Math.floor(pattern / 1024) % 32;
  const fraction = (pattern % 1024) / 1024;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN;
  return exponent === 0 ? sign * 2 ** -14 * fraction : sign * 2 ** (exponent - 15) * (1 + fraction);
}

/** The largest pattern whose value is not above `value`, 0 <= value < HALF_MAX. */
function below(value: number): number {
  let [low, high] = [0, FINITE - 1];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (defined(middle) <= value) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** Nearest, ties to even, by comparing distances; they are exact here, as neighbours differ by little. */
function nearest(value: number): number {
  if (value >= HALF_MAX) return FINITE - 1;
  const low = below(value);
  const [down, up] = [value - defined(low), defined(low + 1) - value];
  if (down === up) return low % 2 === 0 ? low : low + 1;
  return down < up ? low : low + 1;
}

/** The double next above or below a positive one. */
function step(value: number, direction: 1n | -1n): number {
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, value);
  view.setBigInt64(0, view.getBigInt64(0) + direction);
  return view.getFloat64(0);
}

const magnitude = fc.oneof(
  fc.double({ min: 0, max: 1e-3, noNaN: true }),
  fc.double({ min: 0, max: 2 * HALF_MAX, noNaN: true }),
);

describe('fromHalf()', () => {
  it('gives all 65,536 patterns the value of the definition', () => {
    for (let pattern = 0; pattern < 0x10000; pattern++) {
      assert.ok(Object.is(fromHalf(pattern), defined(pattern)), `pattern ${pattern.toString(16)}`);
    }
  });
});

describe('toHalf()', () => {
  it('gives back every finite pattern', () => {
    for (let pattern = 0; pattern < FINITE; pattern++) {
      assert.equal(toHalf(fromHalf(pattern)), pattern);
    }
  });

  it('rounds each tie to even, and what lies next to a tie to the nearest', () => {
    for (let low = 0; low < FINITE - 1; low++) {
      const tie = (defined(low) + defined(low + 1)) / 2;
      assert.equal(toHalf(tie), low % 2 === 0 ? low : low + 1, `the tie above ${low}`);
      assert.equal(toHalf(step(tie, 1n)), low + 1, `just above the tie above ${low}`);
      assert.equal(toHalf(step(tie, -1n)), low, `just below the tie above ${low}`);
    }
  });

  it('agrees with a search in the table of all values', () => {
    fc.assert(
      fc.property(magnitude, (value) => {
        assert.equal(toHalf(value), nearest(value));
      }),
      { numRuns: 2000 },
    );
  });

  it('never gives infinity', () => {
    for (const value of [65503.9, HALF_MAX, 65519, 65520, 1e300, Infinity]) {
      assert.equal(toHalf(value), 0x7bff);
    }
  });
});
