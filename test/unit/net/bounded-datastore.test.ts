import assert from 'node:assert/strict';
import { beforeEach, describe, it } from 'node:test';
import { MemoryDatastore } from 'datastore-core';
import { BoundedDatastore } from '../../../node/net/bounded-datastore.js';

type Key = Parameters<MemoryDatastore['put']>[0];

describe('BoundedDatastore', () => {
  let store: BoundedDatastore;
  beforeEach(() => {
    store = new BoundedDatastore({ '/dht': 3, '/peers': 2 });
  });
  const key = (name: string): Key => {
    const parts: Pick<Key, 'toString'> = { toString: () => name };
    return parts as Key;
  };
  const put = (name: string): unknown => store.put(key(name), Uint8Array.of(1));
  const held = (names: readonly string[]): string[] =>
    names.filter((name) => store.has(key(name)) === true);

  it('forgets the entry that was renewed longest ago when one more comes', () => {
    for (const name of ['/dht/a', '/dht/b', '/dht/c', '/dht/a', '/dht/d']) put(name);
    assert.deepEqual(held(['/dht/a', '/dht/b', '/dht/c', '/dht/d']), [
      '/dht/a',
      '/dht/c',
      '/dht/d',
    ]);
    assert.equal(store.sizeOf('/dht'), 3);
  });

  it('holds a flood at its bound, and leaves what libp2p itself keeps alone', () => {
    put('/pins/a');
    for (let i = 0; i < 10_000; i++) put(`/dht/provider/${i}`);
    assert.equal(store.sizeOf('/dht'), 3);
    put('/dhtx/b');
    assert.deepEqual(held(['/pins/a', '/dhtx/b', '/dht/provider/9999']).length, 3);
  });

  it('counts an entry that was deleted no more', () => {
    for (const name of ['/dht/a', '/dht/b', '/dht/c']) put(name);
    void store.delete(key('/dht/c'));
    put('/dht/d');
    assert.deepEqual(held(['/dht/a', '/dht/b', '/dht/d']), ['/dht/a', '/dht/b', '/dht/d']);
  });

  it('bounds each prefix by itself, and spares what is in use while anything else is left', () => {
    store.isSpared = (name) => name === '/peers/self';
    for (const name of ['/dht/a', '/peers/self', '/peers/b', '/peers/c']) put(name);
    assert.deepEqual(held(['/dht/a', '/peers/self', '/peers/b', '/peers/c']), [
      '/dht/a',
      '/peers/self',
      '/peers/c',
    ]);
    store.isSpared = () => true;
    put('/peers/d');
    assert.equal(store.sizeOf('/peers'), 2);
  });

  it('refuses an entry that is too large', () => {
    assert.throws(() => store.put(key('/dht/a'), new Uint8Array(16_385)), RangeError);
    assert.equal(store.sizeOf('/dht'), 0);
  });
});
