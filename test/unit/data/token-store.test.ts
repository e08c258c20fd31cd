import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';
import { TokenStore } from '../../../node/data/token-store.js';

describe('TokenStore', () => {
  it('gives back every token and flag, of whatever vocabulary', () => {
    const token = fc.oneof(fc.nat(65_535), fc.integer({ min: 65_536, max: 2 ** 24 - 1 }));
    const example = fc.array(fc.tuple(token, fc.constantFrom<0 | 1>(0, 1)), { maxLength: 30 });
    fc.assert(
      fc.property(fc.array(example, { maxLength: 20 }), (examples) => {
        const store = new TokenStore();
        for (const one of examples) {
          assert.ok(
            store.append(
              one.map(([id]) => id),
              one.map(([, flag]) => flag),
            ),
          );
        }
        assert.equal(store.examples, examples.length);
        for (const [e, one] of examples.entries()) {
          assert.equal(store.lengthOf(e), one.length);
          const found = one.map((_, i) => [store.token(e, i), store.isTrained(e, i) ? 1 : 0]);
          assert.deepEqual(found, one);
          const half = one.length >> 1;
          const flags = one.slice(half).reduce<number>((sum, [, flag]) => sum + flag, 0);
          assert.equal(store.trainedIn(e, half, one.length), flags);
        }
      }),
    );
  });

  it('keeps the texts of an example apart', () => {
    const store = new TokenStore();
    store.append([1, 2, 3, 4, 5], [0, 1, 0, 1, 1], [0, 2]);
    store.append([6], [1]);
    assert.deepEqual([store.examples, store.texts, store.size], [2, 3, 6]);
    assert.deepEqual(
      [store.textsOf(0), store.textsOf(1)],
      [
        [0, 2],
        [2, 3],
      ],
    );
    assert.deepEqual([store.lengthOf(0), store.lengthOf(1), store.lengthOf(2)], [2, 3, 1]);
    assert.deepEqual([store.token(1, 0), store.isTrained(1, 0), store.token(2, 0)], [3, false, 6]);
  });

  it('takes 2.2 bytes a token, and 3.2 of a large vocabulary', () => {
    const count = 1 << 22;
    for (const [id, most] of [
      [65_535, 2.2],
      [65_536, 3.2],
    ] as const) {
      const before = process.memoryUsage().arrayBuffers;
      const store = new TokenStore();
      const tokens = Array<number>(1 << 10).fill(id);
      const trained = Array<1>(1 << 10).fill(1);
      while (store.size < count) store.append(tokens, trained);
      const bytes = process.memoryUsage().arrayBuffers - before;
      // What was there before may be given back meanwhile, so that this is a bound from above alone.
      assert.ok(bytes <= most * count, `${bytes / count} bytes a token`);
      assert.equal(store.token(4095, 1023), id);
    }
  });
});
