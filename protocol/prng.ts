/**
 * The only randomness that peers share: xoshiro128** (Blackman and Vigna, "Scrambled linear
 * pseudorandom number generators", 2021), seeded by SHA-256. Integer arithmetic only, so that every
 * machine draws the same numbers.
 */
import { createHash } from 'node:crypto';

export class Prng {
  /** What the next numbers depend on: [4]. A kernel that draws them itself goes on from it. */
  readonly state: Uint32Array;

  /** `seed` and `label` name a stream: different labels of one seed are independent. */
  constructor(seed: Uint8Array, label: string) {
    const digest = createHash('sha256').update(label).update('\0').update(seed).digest();
    this.state = new Uint32Array(4);
    for (let i = 0; i < 4; i++) this.state[i] = digest.readUInt32LE(4 * i);
    // All-zero is the generator's one fixed point; SHA-256 reaches it with probability 2^-128.
    if (this.state.every((word) => word === 0)) this.state[0] = 1;
  }

  /** Uniform integer in [0, 2^32). */
  nextUint32(): number {
    const s = this.state;
    let [a, b, c, d] = [s[0] ?? 0, s[1] ?? 0, s[2] ?? 0, s[3] ?? 0];
    const result = Math.imul(rotateLeft(Math.imul(b, 5), 7), 9) >>> 0;
    const t = b << 9;
    c ^= a;
    d ^= b;
    b ^= c;
    a ^= d;
    c ^= t;
    d = rotateLeft(d, 11);
    s[0] = a;
    s[1] = b;
    s[2] = c;
    s[3] = d;
    return result;
  }

  /** Uniform in [0, 1): 32 random bits, exact in a double. */
  nextFloat(): number {
    return this.nextUint32() / 4294967296;
  }

  /** Uniform integer in [0, bound), 1 <= bound <= 2^32; rejection keeps it unbiased. */
  nextBelow(bound: number): number {
    const limit = 4294967296 - (4294967296 % bound);
    let value = this.nextUint32();
    while (value >= limit) value = this.nextUint32();
    return value % bound;
  }

  /** Fisher-Yates; returns the permutation of 0..length-1. */
  permutation(length: number): Uint32Array {
    const order = new Uint32Array(length);
    for (let i = 0; i < length; i++) order[i] = i;
    for (let i = length - 1; i > 0; i--) {
      const j = this.nextBelow(i + 1);
      const swap = order[i] ?? 0;
      order[i] = order[j] ?? 0;
      order[j] = swap;
    }
    return order;
  }
}

function rotateLeft(word: number, bits: number): number {
  return (word << bits) | (word >>> (32 - bits));
}
