/** The policy of every list that anybody may ask to be on, as properties. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { originOf } from '../../../node/net/origin.js';
import {
  DRAW_PERIOD_MS,
  lotsAt,
  ORIGIN_SHARE,
  sample,
  SAMPLE_ORIGIN_SHARE,
  secretFrom,
  surplus,
  TRUSTED_SHARE,
  type Place,
} from '../../../node/net/places.js';
import { Prng } from '../../../protocol/prng.js';

const ABSENT_MS = 1_000;
const NOW_MS = 100_000;
const lots = lotsAt('secret', NOW_MS);

function dice(seed: string): () => number {
  const prng = new Prng(new Uint8Array(32), seed);
  return () => prng.nextFloat();
}

const place = (origin: string, sinceMs: number, aliveMs = NOW_MS, cost = 1): Place => ({
  ...{ origin, cost, sinceMs, aliveMs },
});

const anyPlace = fc.record({
  origin: fc.integer({ min: 0, max: 12 }).map((i) => `network ${i}`),
  cost: fc.integer({ min: 1, max: 4 }),
  sinceMs: fc.integer({ min: 0, max: NOW_MS }),
  aliveMs: fc.integer({ min: NOW_MS - 2 * ABSENT_MS, max: NOW_MS }),
});
const anyPlaces = fc.array(anyPlace, { maxLength: 120 });
const anyRoom = fc
  .integer({ min: 8, max: 64 })
  .map((capacity) => ({ capacity, absentMs: ABSENT_MS }));

const costOf = (places: readonly Place[]): number => places.reduce((sum, p) => sum + p.cost, 0);

describe('surplus()', () => {
  it('leaves what fits, and takes nothing when all do', () => {
    fc.assert(
      fc.property(anyPlaces, anyRoom, (places, room) => {
        const evicted = new Set(surplus(places, room, NOW_MS, lots));
        const kept = places.filter((each) => !evicted.has(each));
        assert.ok(costOf(kept) <= room.capacity, 'it fits');
        if (costOf(places) <= room.capacity) assert.equal(evicted.size, 0);
        assert.ok([...evicted].every((each) => places.includes(each)));
      }),
    );
  });

  it('takes nobody who is there while somebody is listed who is gone', () => {
    fc.assert(
      fc.property(anyPlaces, anyRoom, (places, room) => {
        const evicted = new Set(surplus(places, room, NOW_MS, lots));
        const isGone = ({ aliveMs }: Place): boolean => NOW_MS - aliveMs > ABSENT_MS;
        if ([...evicted].every(isGone)) return;
        assert.ok(places.filter(isGone).every((each) => evicted.has(each)));
      }),
    );
  });

  it('takes none of the oldest, whatever comes later, from wherever and however often', () => {
    const flood = fc.array(
      fc.record({
        origin: fc.oneof(
          fc.integer({ min: 0, max: 400 }).map((i) => `network ${i}`),
          fc.integer().map((i) => `key ${i}`),
        ),
        cost: fc.constant(1),
        sinceMs: fc.integer({ min: 1_000, max: NOW_MS }),
        aliveMs: fc.constant(NOW_MS),
      }),
      { maxLength: 300 },
    );
    fc.assert(
      fc.property(flood, fc.integer({ min: 1, max: 48 }), (later, count) => {
        // No more of each network than what one is trusted with.
        const old = Array.from({ length: count }, (_, i) => place(`network ${i % 8}`, i));
        const evicted = surplus(
          [...later, ...old],
          { capacity: 64, absentMs: ABSENT_MS },
          NOW_MS,
          lots,
        );
        const trusted = old.filter((_, i) => i < TRUSTED_SHARE * 64 && i < 8 * ORIGIN_SHARE * 64);
        assert.deepEqual(
          trusted.filter((each) => evicted.includes(each)),
          [],
        );
      }),
    );
  });

  it('has the youngest of the origin with most make room for one from elsewhere', () => {
    fc.assert(
      fc.property(fc.integer({ min: 9, max: 200 }), (count) => {
        const crowd = Array.from({ length: count }, (_, i) => place('network a', i));
        const others = Array.from({ length: 20 }, (_, i) => place(`network ${i}`, NOW_MS));
        const room = { capacity: 28, absentMs: ABSENT_MS };
        const evicted = surplus([...crowd, ...others], room, NOW_MS, lots);
        assert.deepEqual(evicted, crowd.slice(8).reverse());
      }),
    );
  });

  it('draws lots among origins with as many places, for a period, in which asking again changes nothing', () => {
    const old = Array.from({ length: 64 }, (_, i) => place(`network ${i}`, i));
    const room = { capacity: 64, absentMs: ABSENT_MS };
    const outcome = (period: number): boolean[] =>
      Array.from({ length: 5 }, (_, i) => {
        const nowMs = period * DRAW_PERIOD_MS + i;
        const newcomer = place('network late', nowMs, nowMs);
        const places = [...old.map((each) => ({ ...each, aliveMs: nowMs })), newcomer];
        return !surplus(places, room, nowMs, lotsAt('secret', nowMs)).includes(newcomer);
      });
    const outcomes = Array.from({ length: 100 }, (_, period) => outcome(period));
    for (const each of outcomes) assert.equal(new Set(each).size, 1);
    // One of 17 loses: the newcomer and the 16 places that are not for the oldest.
    const won = outcomes.filter(([first]) => first).length;
    assert.ok(won > 80 && won < 100, `${won} of 100`);
  });
});

describe('sample()', () => {
  it('has what the budget allows, each once, and of no origin more than its share', () => {
    fc.assert(
      fc.property(
        anyPlaces,
        fc.integer({ min: 4, max: 64 }),
        fc.string(),
        (places, budget, seed) => {
          const chosen = sample(places, budget, { absentMs: ABSENT_MS }, NOW_MS, dice(seed));
          assert.equal(new Set(chosen).size, chosen.length);
          assert.ok(chosen.every((each) => places.includes(each)));
          assert.ok(costOf(chosen) <= budget);
          for (const origin of new Set(chosen.map((each) => each.origin))) {
            const own = chosen.filter((each) => each.origin === origin);
            const most = Math.max(SAMPLE_ORIGIN_SHARE * budget, ...own.map(({ cost }) => cost));
            assert.ok(costOf(own) <= most, `${costOf(own)} of ${budget}`);
          }
          assert.deepEqual(
            sample(places, budget, { absentMs: ABSENT_MS }, NOW_MS, dice(seed)),
            chosen,
          );
        },
      ),
    );
  });

  it('mixes the long-standing with the new, and names those that are gone only for want of others', () => {
    const old = Array.from({ length: 8 }, (_, i) => place(`key old ${i}`, i));
    const young = Array.from({ length: 200 }, (_, i) => place(`key young ${i}`, NOW_MS - 1));
    const gone = Array.from({ length: 50 }, (_, i) => place(`key gone ${i}`, 0, 0));
    const random = dice('mix');
    const room = { absentMs: ABSENT_MS };
    const named = new Set<Place>();
    let oldest = 0;
    for (let i = 0; i < 200; i++) {
      const chosen = sample([...young, ...gone, ...old], 32, room, NOW_MS, random);
      assert.equal(chosen.length, 32);
      oldest += chosen.filter((each) => old.includes(each)).length;
      for (const each of chosen) named.add(each);
    }
    assert.ok(oldest / 200 > 4, `${oldest / 200} of the 8 oldest, on average`);
    assert.ok(young.filter((each) => named.has(each)).length > 190, 'every newcomer some time');
    assert.ok(!gone.some((each) => named.has(each)));
    const left = sample([...gone, ...old], 32, room, NOW_MS, random);
    assert.equal(left.filter((each) => gone.includes(each)).length, 24);
  });
});

describe('lots', () => {
  it('are the same within a period, others in the next and with another secret', () => {
    const [a, b] = [secretFrom(dice('a')), secretFrom(dice('b'))];
    assert.equal(lotsAt(a, 1)('x'), lotsAt(a, DRAW_PERIOD_MS - 1)('x'));
    assert.notEqual(lotsAt(a, 0)('x'), lotsAt(a, DRAW_PERIOD_MS)('x'));
    assert.notEqual(lotsAt(a, 0)('x'), lotsAt(b, 0)('x'));
  });
});

describe('originOf()', () => {
  const relay = '12D3KooWEFxLhV4MLZLyaMNUUcf5HKfNp2s8aKSCMymHtpHJ7KJJ';

  it('is the public network that a connection comes from, whatever the key', () => {
    assert.equal(originOf('a', '/ip4/45.33.7.9/tcp/1'), 'network 45.33.7');
    assert.equal(originOf('b', '/ip4/45.33.7.200/tcp/9/p2p/b'), 'network 45.33.7');
    assert.equal(originOf('a', '/ip6/2a01:4f8:1:2::9/tcp/1'), 'network 2a01:4f8:1');
    for (const host of ['::ffff:45.33.7.9', '64:ff9b::2d21:709', '2002:2d21:709::1'])
      assert.equal(originOf('a', `/ip6/${host}/tcp/1`), 'network 45.33.7', host);
  });

  it('is the key where addresses say nothing: on one machine and in a private network', () => {
    for (const from of ['/ip4/127.0.0.1/tcp/1', '/ip4/10.1.2.3/tcp/1', '/ip6/::1/tcp/1', ''])
      assert.equal(originOf('a', from), 'key a', from);
  });

  it('is the relay for all that come through one', () => {
    const through = (ip: string): string => `/ip4/${ip}/tcp/1/p2p/${relay}/p2p-circuit`;
    assert.equal(originOf('a', through('45.33.7.9')), 'relay 45.33.7');
    assert.equal(originOf('b', `${through('127.0.0.1')}/p2p/b`), `relay ${relay}`);
  });
});
