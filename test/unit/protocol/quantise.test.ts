import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { fromHalf, toHalf } from '../../../protocol/half.js';
import { CODECS } from '../../../protocol/manifest.js';
import { Prng } from '../../../protocol/prng.js';
import {
  addRow,
  addSquares,
  dequantise,
  emptyBody,
  hasFiniteScales,
  quantise,
  wholeBlocks,
} from '../../../protocol/quantise.js';
import { norm } from '../../../protocol/residual.js';
import { rotate, rotateBack } from '../../../protocol/rotation.js';
import { bodyBytes, codeOf } from '../../../protocol/row-format.js';
import { rowFormat } from '../../support/row-format.js';

const SAVERS = ['rec20', 'rec10'] as const;

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

/** `values` filled up to whole blocks, and rotated. */
function rotatedOf(values: Float64Array, signs: Float64Array): Float64Array {
  const whole = new Float64Array(wholeBlocks(values.length));
  whole.set(values);
  rotate(whole, signs);
  return whole;
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

for (const codec of CODECS)
  describe(`quantise() with ${codec}`, () => {
    it('shortens every vector: what is left is below what there was', () => {
      fc.assert(
        fc.property(vectors, (values) => {
          const format = rowFormat(values.length, 0, codec);
          const before = norm(values);
          const read = dequantise(quantise(values, format), format);
          const left = norm(values.map((value, i) => value - read[i]!));
          // Below binary16's least step a scale may be off by half of one.
          assert.ok(left <= before * (1 + 1e-9) + 1e-6, `${left} of ${before}`);
        }),
      );
    });

    it('has the length that receivers compute without rotating back', () => {
      for (const coordinates of [1024, 4096, 9728]) {
        const format = rowFormat(coordinates, 0, codec);
        const row = quantise(normal(coordinates), format);
        const squares = dequantise(row, format).reduce((sum, value) => sum + value * value, 0);
        const sum = addSquares(row, format, 0, format.blocks, 0);
        assert.ok(Math.abs(sum / squares - 1) < 1e-12);
        const parts = [0, 16, 32, 48].filter((block) => block < format.blocks);
        const inParts = parts.reduce(
          (all, block) => addSquares(row, format, block, Math.min(block + 16, format.blocks), all),
          0,
        );
        assert.equal(inParts, sum);
      }
    });

    it('is read exactly: whole multiples of a sixteenth of the scale', () => {
      const format = rowFormat(256, 0, codec);
      const row = quantise(normal(256), format);
      const scale = fromHalf(row.scales[0]! | (row.scales[1]! << 8));
      const read = dequantise(row, format);
      assert.ok(read.every((value) => Number.isInteger((16 * value) / scale)));
    });

    it('reads a tile by itself as it reads the whole row', () => {
      const format = rowFormat(9_000, 0, codec);
      const row = quantise(normal(9_000), format);
      const whole = dequantise(row, format);
      for (const start of [0, 4096, 8192]) {
        const tile = new Float64Array(Math.min(4096, 9_000 - start));
        dequantise(row, format, tile, start / 256);
        assert.deepEqual(tile, whole.subarray(start, start + tile.length));
      }
    });

    it('gives zeros for zeros, and survives the smallest and largest numbers', () => {
      const format = rowFormat(300, 0, codec);
      const zeros = dequantise(quantise(new Float64Array(300), format), format);
      assert.ok(zeros.every((value) => value === 0));
      for (const size of [1e-300, 1e-8, 1e9]) {
        const quantised = quantise(new Float64Array(300).fill(size), format);
        assert.ok(hasFiniteScales(quantised, format), `${size}`);
      }
    });

    it('refuses numbers that are not finite', () => {
      for (const value of [NaN, Infinity, -Infinity])
        assert.throws(
          () => quantise(Float64Array.of(1, value, 2), rowFormat(3, 0, codec)),
          RangeError,
        );
    });
  });

describe('quantise() with rot1', () => {
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
      assert.deepEqual(bodyBytes(format), { scales: 2 * blocks, codes: 32 * blocks });
    }
  });

  it('says of each rotated block the signs, and 1.4 times the mean magnitude', () => {
    const format = rowFormat(512);
    const values = normal(512);
    const rotated = rotatedOf(values, format.signs);
    const { scales, codes } = quantise(values, format);
    for (const block of [0, 1]) {
      const part = rotated.subarray(256 * block, 256 * block + 256);
      const mean = part.reduce((sum, value) => sum + Math.abs(value), 0) / 256;
      const half = scales[2 * block]! | (scales[2 * block + 1]! << 8);
      assert.equal(fromHalf(half), fromHalf(toHalf(1.4 * mean)));
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
});

for (const codec of SAVERS)
  describe(`quantise() with ${codec}`, () => {
    const { codeBytes, factor } = codeOf(codec);

    it('spends the same bytes on each block, and two on each tile', () => {
      for (const [coordinates, blocks, tiles] of [
        [1, 1, 1],
        [257, 2, 1],
        [4096, 16, 1],
        [4097, 17, 2],
      ] as const) {
        const { scales, codes } = quantise(normal(coordinates), rowFormat(coordinates, 0, codec));
        assert.deepEqual([scales.length, codes.length], [2 * tiles, codeBytes * blocks]);
      }
    });

    it('keeps the largest rotated values of each tile, as many as fit', () => {
      const format = rowFormat(5_000, 0, codec);
      const values = normal(5_000);
      const rotated = rotatedOf(values, format.signs);
      const row = quantise(values, format);
      const read = new Float64Array(rotated.length);
      addRow(row, format, 1, read, 0);
      for (const [tile, end] of [4096, 5_120].entries()) {
        const start = 4096 * tile;
        const [kept, left]: number[][] = [[], []];
        for (let i = start; i < end; i++) {
          if (read[i] !== 0) assert.equal(Math.sign(read[i]!), Math.sign(rotated[i]!));
          (read[i] === 0 ? left : kept)!.push(Math.abs(rotated[i]!));
        }
        assert.ok(Math.min(...kept!) > Math.max(...left!));
        // Ideal codes would hold 0.1127 or 0.0457 of the coordinates.
        const share = kept!.length / (end - start);
        const ideal = codec === 'rec20' ? 0.1127 : 0.0457;
        assert.ok(share > 0.96 * ideal && share < 1.04 * ideal, `${share}`);
        const mean = kept!.reduce((sum, value) => sum + value, 0) / kept!.length;
        const half = row.scales[2 * tile]! | (row.scales[2 * tile + 1]! << 8);
        assert.ok(Math.abs(fromHalf(half) / (factor * mean) - 1) < 2 ** -10);
      }
    });

    it('keeps the first of equal values, as many as fit', () => {
      const format = rowFormat(512, 0, codec);
      const values = new Float64Array(512);
      [values[0], values[256]] = [16, 16];
      const read = new Float64Array(512);
      addRow(quantise(values, format), format, 1, read, 0);
      const count = read.findIndex((value) => value === 0);
      // A gap of 0 and a sign: 1 + 2 + 1 bits with divisor 6, 1 + 3 + 1 with 15.
      assert.equal(count, Math.floor((8 * 2 * codeBytes) / (codec === 'rec20' ? 4 : 5)));
      assert.ok(read.subarray(count).every((value) => value === 0));
    });

    it('leaves a fixed share of a vector, with large coordinates or without', () => {
      for (const seed of [1, 2, 3]) {
        const values = normal(8192, seed);
        for (let i = 0; i < values.length; i += 100) values[i]! *= 20;
        const format = rowFormat(8192, 0, codec);
        const read = dequantise(quantise(values, format), format);
        const left = norm(values.map((value, i) => value - read[i]!)) / norm(values);
        assert.ok(codec === 'rec20' ? left < 0.82 : left < 0.93, `${left}`);
      }
    });

    it('reads any bytes: finite values, and at most one for each coordinate', () => {
      fc.assert(
        fc.property(
          fc.constantFrom(100, 4096, 4500),
          fc.infiniteStream(fc.oneof(fc.nat(255), fc.constantFrom(0, 0xff))),
          (coordinates, bytes) => {
            const format = rowFormat(coordinates, 0, codec);
            const row = emptyBody(format);
            for (let i = 0; i < row.codes.length; i++) row.codes[i] = bytes.next().value as number;
            row.scales.fill(0x7b);
            const read = new Float64Array(wholeBlocks(coordinates));
            addRow(row, format, 1, read, 0);
            const scale = fromHalf(0x7b7b);
            assert.ok(read.every((value) => value === 0 || Math.abs(value) === scale));
            const count = read.reduce((sum, value) => sum + (value === 0 ? 0 : 1), 0);
            const squares = addSquares(row, format, 0, format.blocks, 0);
            assert.ok(Math.abs(squares - count * scale * scale) <= 1e-12 * squares);
          },
        ),
      );
    });

    it('writes what it reads: no bytes hold more', () => {
      fc.assert(
        fc.property(fc.array(fc.constantFrom(-3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2)), (few) => {
          // As many as fit for certain, in the rotated domain.
          const format = rowFormat(4096, 0, codec);
          const rotated = new Float64Array(4096);
          for (const [i, value] of few.entries()) rotated[(i * 37) % 4096] = value;
          const values = rotated.slice();
          rotateBack(values, format.signs);
          const read = new Float64Array(4096);
          addRow(quantise(values, format), format, 1, read, 0);
          for (const [i, value] of rotated.entries())
            assert.equal(Math.sign(read[i]!), Math.sign(value));
        }),
      );
    });
  });

describe('hasFiniteScales()', () => {
  it('refuses negative, infinite, NaN and missing scales', () => {
    for (const codec of CODECS) {
      const coordinates = codec === 'rot1' ? 300 : 5_000;
      const format = rowFormat(coordinates, 0, codec);
      const good = quantise(normal(coordinates), format);
      assert.ok(hasFiniteScales(good, format));
      for (const half of [0x8000, 0x8001, 0xbc00, 0x7c00, 0x7e00, 0xfc00]) {
        const scales = good.scales.slice();
        scales[2] = half & 0xff;
        scales[3] = half >>> 8;
        assert.equal(hasFiniteScales({ ...good, scales }, format), false, half.toString(16));
      }
      const scales = good.scales.slice(0, 2);
      assert.equal(hasFiniteScales({ ...good, scales }, format), false, 'a scale too few');
    }
  });
});
