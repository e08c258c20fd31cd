import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { fromHalf, toHalf } from '../../../protocol/half.js';
import { Prng } from '../../../protocol/prng.js';
import {
  addSquares,
  dequantise,
  hasFiniteScales,
  quantise,
  quantisedBytes,
  SCALE_FACTOR,
} from '../../../protocol/quantise.js';
import { norm } from '../../../protocol/residual.js';
import { rotate, rotateBack } from '../../../protocol/rotation.js';
import { rowFormat } from '../../support/row-format.js';

const vectors = fc
  .array(fc.double({ min: -1e4, max: 1e4, noNaN: true }), { minLength: 1, maxLength: 600 })
  .map((values) => Float64Array.from(values));

function normal(length: number, seed = 1): Float64Array {
  const random = new Prng(Uint8Array.of(seed), 'normal');
  return Float64Array.from(
    { length },
    () =>
      Math.sqrt(-2 * Math.log(1 - random.nextFloat())) * Math.cos(2 * Math.PI * random.nextFloat()),
  );
}

describe('rotate()', () => {
  it('keeps lengths, and is undone by rotateBack()', () => {
    const { signs } = rowFormat(1024);
    const values = normal(1024);
    const rotated = values.slice();
    rotate(rotated, signs);
    assert.ok(Math.abs(norm(rotated) / norm(values) - 1) < 1e-12);
    rotateBack(rotated, signs);
    for (const [i, value] of rotated.entries()) assert.ok(Math.abs(value - values[i]!) < 1e-12);
  });

  it('spreads one coordinate evenly over its block, and over no other', () => {
    const { signs } = rowFormat(512);
    const values = new Float64Array(512);
    values[300] = 16;
    rotate(values, signs);
    assert.ok(values.subarray(0, 256).every((value) => value === 0));
    assert.ok(values.subarray(256).every((value) => Math.abs(value) === 1));
  });
});

describe('quantise()', () => {
  it('spends 34 bytes on each block, the last one included', () => {
    for (const [coordinates, blocks] of [
      [1, 1],
      [256, 1],
      [257, 2],
      [5_000, 20],
    ] as const) {
      const format = rowFormat(coordinates);
      const { scales, codes } = quantise(normal(coordinates), format);
      assert.deepEqual([scales.length, codes.length], [2 * blocks, 32 * blocks]);
      assert.deepEqual(quantisedBytes(format), { scales: 2 * blocks, codes: 32 * blocks });
    }
  });

  it('says of each rotated block the signs, and 1.4 times the mean magnitude', () => {
    const format = rowFormat(512);
    const values = normal(512);
    const rotated = values.slice();
    rotate(rotated, format.signs);
    const { scales, codes } = quantise(values, format);
    for (const block of [0, 1]) {
      const part = rotated.subarray(256 * block, 256 * block + 256);
      const mean = part.reduce((sum, value) => sum + Math.abs(value), 0) / 256;
      const half = scales[2 * block]! | (scales[2 * block + 1]! << 8);
      assert.equal(fromHalf(half), fromHalf(toHalf(SCALE_FACTOR * mean)));
      for (const [i, value] of part.entries()) {
        const bit = (codes[32 * block + (i >> 3)]! >> (i & 7)) & 1;
        assert.equal(bit, value < 0 ? 1 : 0);
      }
    }
  });

  it('leaves less than two thirds of the length of any large enough vector', () => {
    for (const seed of [1, 2, 3]) {
      const values = normal(4096, seed);
      for (let i = 0; i < values.length; i += 100) values[i]! *= 20;
      const format = rowFormat(4096);
      const read = dequantise(quantise(values, format), format);
      const left = norm(values.map((value, i) => value - read[i]!)) / norm(values);
      assert.ok(left > 0.5 && left < 0.7, `${left}`);
    }
  });

  it('shortens every vector: what is left is below what there was', () => {
    fc.assert(
      fc.property(vectors, (values) => {
        const format = rowFormat(values.length);
        const before = norm(values);
        const read = dequantise(quantise(values, format), format);
        const left = norm(values.map((value, i) => value - read[i]!));
        // Below binary16's least step a scale may be off by half of one.
        assert.ok(left <= before * (1 + 1e-9) + 1e-6, `${left} of ${before}`);
      }),
    );
  });

  it('has the length that receivers compute from scales alone', () => {
    const format = rowFormat(1024);
    const row = quantise(normal(1024), format);
    const read = dequantise(row, format);
    const squares = read.reduce((sum, value) => sum + value * value, 0);
    assert.ok(Math.abs(addSquares(row, 0, 4, 0) / squares - 1) < 1e-12);
  });

  it('is read exactly: whole multiples of a sixteenth of the scale', () => {
    const format = rowFormat(256);
    const row = quantise(normal(256), format);
    const scale = fromHalf(row.scales[0]! | (row.scales[1]! << 8));
    const read = dequantise(row, format);
    assert.ok(read.every((value) => Number.isInteger((16 * value) / scale)));
  });

  it('gives zeros for zeros, and survives the smallest and largest numbers', () => {
    const format = rowFormat(300);
    const zeros = dequantise(quantise(new Float64Array(300), format), format);
    assert.ok(zeros.every((value) => value === 0));
    for (const size of [1e-300, 1e-8, 1e9]) {
      const quantised = quantise(new Float64Array(300).fill(size), format);
      assert.ok(hasFiniteScales(quantised, format), `${size}`);
    }
  });

  it('refuses numbers that are not finite', () => {
    for (const value of [NaN, Infinity, -Infinity])
      assert.throws(() => quantise(Float64Array.of(1, value, 2), rowFormat(3)), RangeError);
  });
});

describe('hasFiniteScales()', () => {
  it('refuses negative, infinite, NaN and missing scales', () => {
    const format = rowFormat(300);
    const good = quantise(normal(300), format);
    assert.ok(hasFiniteScales(good, format));
    for (const half of [0x8000, 0x8001, 0xbc00, 0x7c00, 0x7e00, 0xfc00]) {
      const scales = good.scales.slice();
      scales[2] = half & 0xff;
      scales[3] = half >>> 8;
      assert.equal(hasFiniteScales({ ...good, scales }, format), false, half.toString(16));
    }
    const scales = good.scales.slice(0, 2);
    assert.equal(hasFiniteScales({ ...good, scales }, format), false, 'a scale too few');
  });
});
