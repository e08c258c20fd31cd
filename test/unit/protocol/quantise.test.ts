import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { fromHalf } from '../../../protocol/half.js';
import { Prng } from '../../../protocol/prng.js';
import { dequantise, isWellFormed, quantise, quantisedBytes } from '../../../protocol/quantise.js';
import type { Slice } from '../../../protocol/slice.js';

const BITS = [1, 2, 4] as const;

/** A slice of `count` coordinates from the start of a vector. */
function sliceOf(count: number, bits: Slice['bits'], blockSize = 64): Slice {
  const blocks = Uint32Array.from({ length: Math.ceil(count / blockSize) }, (_, i) => i);
  return { blocks, blockSize, bits, coordinates: count };
}

const random = (): Prng => new Prng(new Uint8Array(32), 'test');

const vectors = fc
  .array(fc.double({ min: -1e4, max: 1e4, noNaN: true }), { minLength: 1, maxLength: 200 })
  .map((values) => Float64Array.from(values));

describe('quantise()', () => {
  it('spends exactly the bytes of the formula, and writes only well-formed codes', () => {
    fc.assert(
      fc.property(vectors, fc.constantFrom(...BITS), (values, bits) => {
        const slice = sliceOf(values.length, bits);
        const quantised = quantise(values, slice, random());
        const blocks = Math.ceil(values.length / 64);
        assert.equal(quantised.scales.length, 2 * blocks);
        assert.equal(quantised.codes.length, Math.ceil((values.length * bits) / 8));
        assert.deepEqual(quantisedBytes(slice), {
          scales: quantised.scales.length,
          codes: quantised.codes.length,
        });
        assert.ok(isWellFormed(quantised, slice));
      }),
    );
  });

  it('with 1 bit keeps the sign and says the mean magnitude of each block', () => {
    const values = Float64Array.of(3, -1, 0.5, -0.5, 2, -2, 1, -2, 10);
    const slice = sliceOf(9, 1, 8);
    const read = dequantise(quantise(values, slice, random()), slice);
    assert.deepEqual([...read], [1.5, -1.5, 1.5, -1.5, 1.5, -1.5, 1.5, -1.5, 10]);
  });

  it('with 2 bits splits at the mean magnitude', () => {
    const values = Float64Array.of(3, -1, 0.5, -0.5, 2, -2, 1, -2);
    const slice = sliceOf(8, 2, 8);
    const read = dequantise(quantise(values, slice, random()), slice);
    assert.deepEqual([...read], [2.25, -0.75, 0.75, -0.75, 2.25, -2.25, 0.75, -2.25]);
  });

  it('with 4 bits is never off by more than one scale', () => {
    fc.assert(
      fc.property(vectors, (values) => {
        const slice = sliceOf(values.length, 4);
        const quantised = quantise(values, slice, random());
        const read = dequantise(quantised, slice);
        for (const [i, value] of values.entries()) {
          const block = i >> 6;
          const scale = fromHalf(
            quantised.scales[2 * block]! | (quantised.scales[2 * block + 1]! << 8),
          );
          assert.ok(Math.abs(read[i]! - value) <= scale + 1e-12, `${value} read as ${read[i]}`);
        }
      }),
    );
  });

  it('with 4 bits is unbiased: the mean error of n draws is within 4 sigma / sqrt n', () => {
    const n = 4000;
    const stream = random();
    const values = Float64Array.of(7, -6.7, 3.3, 0.05, -0.9);
    const slice = sliceOf(values.length, 4, 8);
    const sums = new Float64Array(values.length);
    const squares = new Float64Array(values.length);
    for (let i = 0; i < n; i++) {
      const read = dequantise(quantise(values, slice, stream), slice);
      for (let j = 0; j < values.length; j++) {
        const error = read[j]! - values[j]!;
        sums[j]! += error;
        squares[j]! += error * error;
      }
    }
    for (let j = 0; j < values.length; j++) {
      const sigma = Math.sqrt(squares[j]! / n);
      assert.ok(Math.abs(sums[j]! / n) <= (4 * sigma) / Math.sqrt(n) + 1e-12, `coordinate ${j}`);
    }
  });

  it('gives zeros for zeros, and survives the smallest and largest numbers', () => {
    for (const bits of BITS) {
      const slice = sliceOf(70, bits);
      const zeros = dequantise(quantise(new Float64Array(70), slice, random()), slice);
      assert.ok(zeros.every((value) => value === 0));
      for (const size of [1e-300, 1e-8, 1e9]) {
        const quantised = quantise(new Float64Array(70).fill(size), slice, random());
        assert.ok(isWellFormed(quantised, slice), `${size} with ${bits} bits`);
      }
    }
  });

  it('refuses numbers that are not finite', () => {
    for (const value of [NaN, Infinity, -Infinity]) {
      const slice = sliceOf(3, 1);
      assert.throws(() => quantise(Float64Array.of(1, value, 2), slice, random()), RangeError);
    }
  });
});

describe('isWellFormed()', () => {
  const slice = sliceOf(9, 4, 8);
  const good = quantise(Float64Array.of(1, 2, 3, 4, 5, 6, 7, 8, 9), slice, random());

  it('refuses negative, infinite and NaN scales', () => {
    for (const half of [0x8001, 0xbc00, 0x7c00, 0x7e00, 0xfc00]) {
      const scales = good.scales.slice();
      scales[2] = half & 0xff;
      scales[3] = half >>> 8;
      assert.equal(isWellFormed({ ...good, scales }, slice), false, half.toString(16));
    }
  });

  it('refuses the unused 4-bit code and set padding bits', () => {
    const codes = good.codes.slice();
    codes[1] = 0x5f;
    assert.equal(isWellFormed({ ...good, codes }, slice), false, 'low nibble 15');
    codes[1] = 0xf5;
    assert.equal(isWellFormed({ ...good, codes }, slice), false, 'high nibble 15');
    codes.set(good.codes);
    codes[4] = (codes[4] ?? 0) | 0x10;
    assert.equal(isWellFormed({ ...good, codes }, slice), false, 'padding');
  });
});
