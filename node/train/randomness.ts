/**
 * The randomness of private training, all of it from the system's cryptographic generator: whoever could foresee it
 * could take the noise off again. It is never seeded, stored or sent.
 */
import { randomFillSync, randomInt } from 'node:crypto';

/** What private training draws. */
export interface Randomness {
  /** Each of 0 to `count` - 1 with probability `rate` (above 0, at most 1), independently: ascending. */
  sample(count: number, rate: number): number[];
  /** A whole number from 0 to below `count` (1 to 2^48), each as likely. */
  below(count: number): number;
  /** Adds an independent draw from N(0, deviation^2) to each of `values`. */
  addGaussians(values: Float64Array, deviation: number): void;
}

/** Random words drawn at once. */
const WORDS = 1 << 14;
/** Normal numbers of which each draw is the sum. */
const SUMMANDS = 4;

/** 32 random bits at a time. */
class Words {
  readonly #words = new Uint32Array(WORDS);
  #next = WORDS;

  take(): number {
    if (this.#next === WORDS) {
      randomFillSync(this.#words);
      this.#next = 0;
    }
    return this.#words[this.#next++]!;
  }

  /** In (-1, 1), in steps of 2^-51, never 0. */
  signed(): number {
    const [high, low] = [this.take() >>> 6, this.take() >>> 6];
    return (2 * (high * 2 ** 26 + low) + 1) * 2 ** -52 - 1;
  }
}

/** The one that trains; tests have others. */
export const cryptographic: Randomness = {
  sample(count, rate) {
    const words = new Words();
    const drawn: number[] = [];
    // Rounded down: never more often than the accountant reckons.
    const bound = Math.floor(rate * 2 ** 32);
    for (let i = 0; i < count; i++) if (words.take() < bound) drawn.push(i);
    return drawn;
  },

  below: (count) => randomInt(count),

  /**
   * Marsaglia's polar method, four draws summed and halved: with one, the low bits of a floating-point number tell
   * more of what it was added to than a real Gaussian would (Mironov, CCS 2012; the sum: Holohan and Braghin,
   * 2107.10138).
   */
  addGaussians(values, deviation) {
    const words = new Words();
    const scale = deviation / Math.sqrt(SUMMANDS);
    for (let i = 0; i < values.length; i += 2) {
      let [one, other] = [0, 0];
      for (let k = 0; k < SUMMANDS;) {
        const [x, y] = [words.signed(), words.signed()];
        const square = x * x + y * y;
        if (square >= 1) continue;
        const factor = Math.sqrt((-2 * Math.log(square)) / square);
        one += factor * x;
        other += factor * y;
        k++;
      }
      values[i]! += scale * one;
      if (i + 1 < values.length) values[i + 1]! += scale * other;
    }
  },
};
