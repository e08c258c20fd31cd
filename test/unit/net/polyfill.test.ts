import '../../../node/net/polyfill.js';
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

interface Resolvers {
  promise: Promise<number>;
  resolve: (value: number) => void;
  reject: (reason: Error) => void;
}

describe('Promise.withResolvers', () => {
  it('hands out a promise with the functions that settle it, on every version of Node.js', async () => {
    // Looked up by name: the compiler's library is that of Node.js 20, which has none.
    const withResolvers: unknown = Reflect.get(Promise, 'withResolvers');
    assert.ok(typeof withResolvers === 'function');
    const make = (): Resolvers => Reflect.apply(withResolvers, Promise, []) as Resolvers;
    const kept = make();
    kept.resolve(7);
    kept.resolve(8);
    assert.equal(await kept.promise, 7);
    const broken = make();
    broken.reject(new RangeError('no'));
    await assert.rejects(broken.promise, RangeError);
    assert.ok(!Object.keys(Promise).includes('withResolvers'), 'as invisible as the real one');
  });
});
