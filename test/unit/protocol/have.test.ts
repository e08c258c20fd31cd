/** Bitmaps and vectors that another peer wrote. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { describe, it } from 'node:test';
import { SyncProtocolError } from '../../../protocol/errors.js';
import { fromBitmap, toBitmap } from '../../../protocol/bitmap.js';
import { HaveVector } from '../../../protocol/have.js';
import { publicKeyFromPeerId } from '../../../protocol/identity.js';
import { HAVE_BYTES_MAX } from '../../../protocol/limits.js';
import { testIdentity } from '../../support/runs.js';

const { peerId } = testIdentity(1);
const author = publicKeyFromPeerId(peerId);
const digest = new Uint8Array(32);

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

describe('a vector', () => {
  it('knows the epochs of each author, one by one and in a range', () => {
    const vector = new HaveVector();
    vector.add([{ author, epochs: toBitmap([1, 2, 17]), digest }], [], 50);
    assert.deepEqual(vector.epochsOf(peerId, 2, 17), [2, 17]);
    assert.deepEqual(vector.epochsOf(peerId, 3, 16), []);
    assert.deepEqual(vector.epochsOf(testIdentity(2).peerId, 0, 17), []);
    assert.deepEqual(
      [0, 1, 2, 17, 18, 99_999].map((epoch) => vector.has(peerId, epoch)),
      [false, true, true, true, false, false],
    );
  });

  it('counts the bytes that came, whatever is in them, and wants a digest of its length', () => {
    const vector = new HaveVector();
    vector.add([], [], HAVE_BYTES_MAX);
    assert.throws(() => vector.add([], [], 1), SyncProtocolError);
    const none = { author, epochs: new Uint8Array(), digest: new Uint8Array() };
    assert.throws(() => new HaveVector().add([none], [], 40), /without its digest/);
  });
});
