/** The shared generator against its definition, and against outputs that others publish. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { Prng } from '../../../protocol/prng.js';

const MASK = 0xffffffffn;

/** xoshiro128** in unbounded integers, as Blackman and Vigna define it. */
function* xoshiro(state: readonly bigint[]): Generator<number> {
  let [s0 = 0n, s1 = 0n, s2 = 0n, s3 = 0n] = state;
  const rotl = (x: bigint, k: bigint): bigint => ((x << k) | (x >> (32n - k))) & MASK;
  for (;;) {
    yield Number((rotl((s1 * 5n) & MASK, 7n) * 9n) & MASK);
    const t = (s1 << 9n) & MASK;
    s2 ^= s0;
    s3 ^= s1;
    s1 ^= s2;
    s0 ^= s3;
    s2 ^= t;
    s3 = rotl(s3, 11n);
  }
}

function take(generator: Generator<number>, count: number): number[] {
  return Array.from({ length: count }, () => Number(generator.next().value));
}

/** The four words that name a stream: the first 16 bytes of SHA-256(label, 0, seed), little-endian. */
function stateOf(seed: Uint8Array, label: string): bigint[] {
  const input = Buffer.concat([Buffer.from(label, 'utf8'), Buffer.of(0), seed]);
  const digest = createHash('sha256').update(input).digest();
  return [0, 4, 8, 12].map((at) => BigInt(digest.readUInt32LE(at)));
}

const seeds = fc.uint8Array({ minLength: 32, maxLength: 32 });

describe('the definition of xoshiro128**', () => {
  it('gives the published outputs for the state 1, 2, 3, 4', () => {
    assert.deepEqual(
      take(xoshiro([1n, 2n, 3n, 4n]), 10),
      [
        11520, 0, 5927040, 70819200, 2031721883, 1637235492, 1287239034, 3734860849, 3729100597,
        4258142804,
      ],
    );
  });
});

describe('Prng', () => {
  it('draws what the definition draws from the hashed label and seed', () => {
    fc.assert(
      fc.property(seeds, fc.string({ unit: 'binary' }), (seed, label) => {
        const random = new Prng(seed, label);
        const drawn = Array.from({ length: 50 }, () => random.nextUint32());
        assert.deepEqual(drawn, take(xoshiro(stateOf(seed, label)), 50));
      }),
    );
  });

  it('draws other numbers for another label and for another seed', () => {
    const first = (seed: Uint8Array, label: string): number => new Prng(seed, label).nextUint32();
    const zero = new Uint8Array(32);
    const one = Uint8Array.from(zero, (_, i) => (i === 31 ? 1 : 0));
    assert.notEqual(first(zero, 'slice/0'), first(zero, 'slice/1'));
    assert.notEqual(first(zero, 'slice/0'), first(one, 'slice/0'));
  });

  it('keeps label and seed apart: moving a byte from one to the other changes the stream', () => {
    const a = new Prng(Uint8Array.of(0x62, 1), 'a');
    const b = new Prng(Uint8Array.of(1), 'ab');
    assert.notEqual(a.nextUint32(), b.nextUint32());
  });

  it('divides by 2^32 for a float', () => {
    const [floats, words] = [new Prng(new Uint8Array(32), 'f'), new Prng(new Uint8Array(32), 'f')];
    for (let i = 0; i < 1000; i++) {
      const value = floats.nextFloat();
      assert.equal(value * 2 ** 32, words.nextUint32());
      assert.ok(value >= 0 && value < 1);
    }
  });

  it('draws below a bound by rejection: values that would be favoured are drawn again', () => {
    // Of 2^32 values those from 3 x 2^30 on are rejected; without that, small results come twice as often.
    const bound = 3 * 2 ** 30;
    const random = new Prng(new Uint8Array(32), 'rejection');
    const words = xoshiro(stateOf(new Uint8Array(32), 'rejection'));
    const accepted = take(words, 4000).filter((word) => word < bound);
    assert.ok(accepted.length < 3500, 'some words are rejected');
    for (const word of accepted) assert.equal(random.nextBelow(bound), word);
  });

  it('draws each value below a small bound about equally often', () => {
    const counts = new Array<number>(7).fill(0);
    const random = new Prng(new Uint8Array(32), 'uniform');
    for (let i = 0; i < 70_000; i++) counts[random.nextBelow(7)]! += 1;
    // Six sigma of a binomial of 70,000 draws with p = 1/7 are 555.
    for (const count of counts) assert.ok(Math.abs(count - 10_000) < 555, counts.join(' '));
  });

  it('takes 1 and 2^32 as bounds', () => {
    const random = new Prng(new Uint8Array(32), 'b');
    const word = new Prng(new Uint8Array(32), 'b').nextUint32();
    assert.equal(random.nextBelow(2 ** 32), word);
    assert.equal(random.nextBelow(1), 0);
  });

  it('permutes by Fisher-Yates from the end', () => {
    fc.assert(
      fc.property(seeds, fc.integer({ min: 0, max: 60 }), (seed, length) => {
        const random = new Prng(seed, 'p');
        const order = Array.from({ length }, (_, i) => i);
        for (let i = length - 1; i > 0; i--) {
          const j = random.nextBelow(i + 1);
          [order[i], order[j]] = [order[j]!, order[i]!];
        }
        assert.deepEqual([...new Prng(seed, 'p').permutation(length)], order);
        assert.deepEqual(
          [...order].sort((a, b) => a - b),
          [...order.keys()],
        );
      }),
    );
  });

  it('reaches all six orders of three about equally often', () => {
    const counts = new Map<string, number>();
    const random = new Prng(new Uint8Array(32), 'orders');
    for (let i = 0; i < 6000; i++) {
      const order = random.permutation(3).join('');
      counts.set(order, (counts.get(order) ?? 0) + 1);
    }
    assert.equal(counts.size, 6);
    // Six sigma of a binomial of 6,000 draws with p = 1/6 are 173.
    for (const [order, count] of counts)
      assert.ok(Math.abs(count - 1000) < 173, `${order}: ${count}`);
  });
});
