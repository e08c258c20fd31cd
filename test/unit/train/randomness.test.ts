import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { cryptographic } from '../../../node/train/randomness.js';

/** Bounds at six standard errors: a sound generator misses one of them once in 10^8 runs. */
const ERRORS = 6;

function near(actual: number, expected: number, standardError: number, what: string): void {
  const isNear = Math.abs(actual - expected) <= ERRORS * standardError;
  assert.ok(isNear, `${what} is ${actual}, not ${expected} +- ${ERRORS * standardError}`);
}

describe('the randomness of private training', () => {
  it('is Gaussian: mean, variance, kurtosis, tails, and no tie between neighbours', () => {
    const n = 200_001;
    const values = new Float64Array(n).fill(3);
    cryptographic.addGaussians(values, 0.5);
    const unit = values.map((value) => (value - 3) / 0.5);
    const mean = (of: (value: number, i: number) => number): number =>
      unit.reduce((sum, value, i) => sum + of(value, i), 0) / n;
    near(
      mean((x) => x),
      0,
      1 / Math.sqrt(n),
      'mean',
    );
    near(
      mean((x) => x * x),
      1,
      Math.sqrt(2 / n),
      'variance',
    );
    near(
      mean((x) => x ** 4),
      3,
      Math.sqrt(96 / n),
      'fourth moment',
    );
    near(
      mean((x) => (Math.abs(x) > 2 ? 1 : 0)),
      0.0455003,
      Math.sqrt(0.0434 / n),
      'share beyond 2',
    );
    near(
      mean((x) => (Math.abs(x) > 3 ? 1 : 0)),
      0.0026998,
      Math.sqrt(0.0027 / n),
      'share beyond 3',
    );
    near(
      mean((x, i) => x * (unit[i + 1] ?? 0)),
      0,
      1 / Math.sqrt(n),
      'covariance of neighbours',
    );
  });

  it('never repeats itself', () => {
    const [one, other] = [new Float64Array(3), new Float64Array(3)];
    cryptographic.addGaussians(one, 1);
    cryptographic.addGaussians(other, 1);
    assert.notDeepEqual(one, other);
  });

  it('draws each record by itself: the size of a step is binomial, and pairs come as often as chance has it', () => {
    const [count, rate, rounds] = [50, 0.2, 4000];
    const together = { first: 0, both: 0, sizes: 0, squares: 0 };
    for (let i = 0; i < rounds; i++) {
      const drawn = cryptographic.sample(count, rate);
      assert.ok(
        drawn.every((index, at) => index >= 0 && index < count && index > (drawn[at - 1] ?? -1)),
      );
      together.sizes += drawn.length;
      together.squares += (drawn.length - count * rate) ** 2;
      if (drawn.includes(0)) together.first++;
      if (drawn.includes(0) && drawn.includes(1)) together.both++;
    }
    const variance = count * rate * (1 - rate);
    near(together.sizes / rounds, count * rate, Math.sqrt(variance / rounds), 'mean size');
    near(
      together.squares / rounds,
      variance,
      variance * Math.sqrt(2 / rounds),
      'variance of the size',
    );
    near(together.first / rounds, rate, Math.sqrt((rate * (1 - rate)) / rounds), 'rate of one');
    near(together.both / rounds, rate ** 2, Math.sqrt(rate ** 2 / rounds), 'rate of a pair');
  });

  it('draws all records at rate 1', () => {
    assert.deepEqual(cryptographic.sample(4, 1), [0, 1, 2, 3]);
  });

  it('takes each choice as often', () => {
    const counts = [0, 0, 0];
    for (let i = 0; i < 3000; i++) counts[cryptographic.below(3)]!++;
    for (const count of counts) near(count / 3000, 1 / 3, Math.sqrt(2 / 9 / 3000), 'share');
  });
});
