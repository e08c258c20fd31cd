/** Bitmaps that another peer wrote. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { fromBitmap, toBitmap } from '../../../protocol/bitmap.js';

describe('a bitmap', () => {
  it('gives the numbers of its bits within the range, and no others', () => {
    const bit = fc.nat({ max: 400 });
    const inputs = [fc.uniqueArray(bit), bit, fc.nat({ max: 100_000 })] as const;
    fc.assert(
      fc.property(...inputs, (numbers, start, end) => {
        const sorted = numbers.sort((a, b) => a - b);
        const expected = sorted.filter((n) => n >= start && n < end);
        assert.deepEqual(fromBitmap(toBitmap(sorted), start, end), expected);
      }),
    );
  });

  it('of nothing has no byte, and none without a bit at its end', () => {
    assert.equal(toBitmap([]).length, 0);
    fc.assert(
      fc.property(fc.uniqueArray(fc.nat({ max: 4000 }), { minLength: 1 }), (numbers) => {
        const bitmap = toBitmap(numbers.sort((a, b) => a - b));
        assert.notEqual(bitmap.at(-1), 0);
        assert.deepEqual(fromBitmap(bitmap), numbers);
      }),
    );
  });

  it('costs nothing outside of the range, and a byte without bits one step', () => {
    let reads = 0;
    const count = {
      get: (bytes: Uint8Array, key: string): unknown => {
        if (/^\d+$/.test(key)) reads += 1;
        return Reflect.get(bytes, key, bytes);
      },
    };
    const full = new Proxy(new Uint8Array(12_500).fill(255), count);
    assert.deepEqual(fromBitmap(full, 3, 6), [3, 4, 5]);
    assert.equal(reads, 3);
    const empty = new Proxy(new Uint8Array(12_500), count);
    assert.deepEqual(fromBitmap(empty, 0, 100_000), []);
    assert.equal(reads, 3 + 12_500);
  });
});
