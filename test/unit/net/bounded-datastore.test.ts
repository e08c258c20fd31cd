import assert from 'node:assert/strict';
import { beforeEach, describe, it } from 'node:test';
import { MemoryDatastore } from 'datastore-core';
import { BoundedDatastore, ENTRY_ABSENT_MS } from '../../../node/net/bounded-datastore.js';

type Key = Parameters<MemoryDatastore['put']>[0];

describe('BoundedDatastore', () => {
  let store: BoundedDatastore;
  let nowMs: number;
  beforeEach(() => {
    nowMs = 1_000_000;
    store = new BoundedDatastore({ '/dht': 3, '/peers': 2 }, () => nowMs);
  });
  const key = (name: string): Key => {
    const parts: Pick<Key, 'toString'> = { toString: () => name };
    return parts as Key;
  };
  const put = (name: string): unknown => store.put(key(name), Uint8Array.of(1));
  const held = (names: readonly string[]): string[] =>
    names.filter((name) => store.has(key(name)) === true);

  it('forgets the entry that nobody renewed when one more comes', () => {
    for (const name of ['/dht/a', '/dht/b', '/dht/c']) put(name);
    nowMs += ENTRY_ABSENT_MS + 1;
    for (const name of ['/dht/a', '/dht/c', '/dht/d']) put(name);
    assert.deepEqual(held(['/dht/a', '/dht/b', '/dht/c', '/dht/d']), [
      '/dht/a',
      '/dht/c',
      '/dht/d',
    ]);
    assert.equal(store.sizeOf('/dht'), 3);
  });

  it('keeps what was there before a flood, from one network, from many, and from nowhere', () => {
    const floods: ((i: number) => string | null)[] = [
      () => 'network 45.33.7',
      (i) => `network 45.33.${i}`,
      (i) => `key ${i}`,
      () => null,
    ];
    for (const originOf of floods) {
      const large = new BoundedDatastore({ '/dht': 256 }, () => nowMs);
      const entry = (name: string): unknown => large.put(key(name), Uint8Array.of(1));
      large.originOf = (name) => `network ${name}`;
      for (let i = 0; i < 100; i++, nowMs++) entry(`/dht/honest/${i}`);
      let count = 0;
      large.originOf = () => originOf(count);
      for (; count < 2_000; count++, nowMs++) entry(`/dht/hostile/${count}`);
      assert.ok(large.sizeOf('/dht') <= 256);
      for (let i = 0; i < 100; i++) assert.ok(large.has(key(`/dht/honest/${i}`)), `entry ${i}`);
      large.originOf = () => 'network 60.1.2';
      entry('/dht/late');
      assert.ok(large.has(key('/dht/late')), 'a newcomer');
    }
  });

  it('holds a flood at its bound, and leaves what libp2p itself keeps alone', () => {
    put('/pins/a');
    for (let i = 0; i < 10_000; i++) put(`/dht/provider/${i}`);
    assert.equal(store.sizeOf('/dht'), 3);
    put('/dhtx/b');
    assert.deepEqual(held(['/pins/a', '/dhtx/b']).length, 2);
  });

  it('counts an entry that was deleted no more', () => {
    for (const name of ['/dht/a', '/dht/b', '/dht/c']) put(name);
    void store.delete(key('/dht/c'));
    put('/dht/d');
    assert.deepEqual(held(['/dht/a', '/dht/b', '/dht/d']), ['/dht/a', '/dht/b', '/dht/d']);
  });

  it('bounds each prefix by itself, and spares what is in use while anything else is left', () => {
    store.isSpared = (name) => name === '/peers/self';
    for (const name of ['/dht/a', '/peers/b', '/peers/self', '/peers/c']) put(name);
    assert.deepEqual(held(['/dht/a', '/peers/self']), ['/dht/a', '/peers/self']);
    assert.equal(store.sizeOf('/peers'), 2);
    store.isSpared = () => true;
    put('/peers/d');
    assert.equal(store.sizeOf('/peers'), 2);
  });

  it('refuses an entry that is too large', () => {
    assert.throws(() => store.put(key('/dht/a'), new Uint8Array(16_385)), RangeError);
    assert.equal(store.sizeOf('/dht'), 0);
  });
});
