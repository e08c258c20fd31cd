/** Vectors that another peer wrote. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { SyncProtocolError } from '../../../protocol/errors.js';
import { toBitmap } from '../../../protocol/bitmap.js';
import { HaveVector } from '../../../protocol/have.js';
import { publicKeyFromPeerId } from '../../../protocol/identity.js';
import { HAVE_BYTES_MAX } from '../../../protocol/limits.js';
import { testIdentity } from '../../support/runs.js';

const { peerId } = testIdentity(1);
const author = publicKeyFromPeerId(peerId);
const digest = new Uint8Array(32);

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
