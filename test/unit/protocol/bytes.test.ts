/** Hashes and hexadecimal text. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { bytesEqual, fromHex, sha256, toHex } from '../../../protocol/bytes.js';

const text = (value: string): Uint8Array => new TextEncoder().encode(value);

describe('sha256()', () => {
  it('is that of FIPS 180-4, over the concatenation of its parts', () => {
    const abc = 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad';
    assert.equal(toHex(sha256(text('abc'))), abc);
    assert.equal(toHex(sha256(text('a'), text(''), text('bc'))), abc);
    const empty = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';
    assert.equal(toHex(sha256()), empty);
  });
});

describe('toHex() and fromHex()', () => {
  it('are inverse for all bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array(), (bytes) => {
        assert.deepEqual(fromHex(toHex(bytes)), bytes);
      }),
    );
  });

  it('reads a view where it begins, not where its buffer does', () => {
    assert.equal(toHex(Uint8Array.of(1, 2, 0xab, 0x0c, 5).subarray(2, 4)), 'ab0c');
  });
});

describe('bytesEqual()', () => {
  it('tells a difference in any byte, and in length', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1 }), fc.nat(), (bytes, at) => {
        assert.ok(bytesEqual(bytes, bytes.slice()));
        assert.ok(!bytesEqual(bytes, bytes.subarray(1)));
        const other = bytes.slice();
        other[at % bytes.length]! ^= 1;
        assert.ok(!bytesEqual(bytes, other));
      }),
    );
  });
});
