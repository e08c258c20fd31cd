import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { epsilonOf, stepsWithin } from '../../../node/train/accountant.js';
import { PACKAGE_DIRECTORY } from '../../../node/version.js';

const DELTA = 1e-5;

describe('epsilonOf', () => {
  // Made beforehand by another program.
  for (const [sampleRate, noise, steps, epsilon] of [
    [0.01, 1, 1000, 2.107753],
    [0.01, 0.8, 2000, 4.926211],
    [0.05, 1.5, 500, 4.170318],
    [1, 5, 100, 10.801691],
  ] as const) {
    it(`is ${epsilon} after ${steps} steps of rate ${sampleRate} with noise ${noise}`, () => {
      assert.equal(epsilonOf([{ sampleRate, noise, steps }], DELTA).toFixed(6), `${epsilon}`);
    });
  }

  it('is what the example of docs/PRIVACY.md prints', async () => {
    const page = await readFile(path.join(PACKAGE_DIRECTORY, 'docs/PRIVACY.md'), 'utf8');
    const [, batch = '', noise = '', records = '', steps = ''] =
      /--dp-batch (\d+)\n[^`]*?noise ([\d.]+) .* (\d+) records .* lasts (\d+) steps/.exec(page) ??
      [];
    const setting = { sampleRate: Number(batch) / Number(records), noise: Number(noise) };
    assert.equal(stepsWithin([], setting, { epsilon: 8, delta: DELTA }), Number(steps));
  });

  it('is 0 before the first step', () => {
    assert.equal(epsilonOf([], DELTA), 0);
    assert.equal(epsilonOf([{ sampleRate: 0.5, noise: 1, steps: 0 }], DELTA), 0);
  });

  it('rises with steps and rate, and falls with noise and delta', () => {
    const setting = fc.record({
      sampleRate: fc.double({ min: 1e-4, max: 0.5, noNaN: true }),
      noise: fc.double({ min: 0.3, max: 20, noNaN: true }),
      steps: fc.integer({ min: 1, max: 5000 }),
    });
    fc.assert(
      fc.property(setting, (one) => {
        const epsilon = epsilonOf([one], DELTA);
        assert.ok(Number.isFinite(epsilon) && epsilon >= 0);
        assert.ok(epsilonOf([{ ...one, steps: 2 * one.steps }], DELTA) >= epsilon);
        assert.ok(epsilonOf([{ ...one, sampleRate: 2 * one.sampleRate }], DELTA) >= epsilon);
        assert.ok(epsilonOf([{ ...one, noise: 1.5 * one.noise }], DELTA) <= epsilon);
        assert.ok(epsilonOf([one], 10 * DELTA) <= epsilon);
      }),
      { numRuns: 50 },
    );
  });

  it('counts steps of one setting the same in one piece and in several', () => {
    const one = { sampleRate: 0.02, noise: 0.9 };
    const whole = epsilonOf([{ ...one, steps: 700 }], DELTA);
    const parts = [200, 500].map((steps) => ({ ...one, steps }));
    assert.ok(Math.abs(epsilonOf(parts, DELTA) - whole) < 1e-9);
    const other = { sampleRate: 0.1, noise: 2, steps: 50 };
    assert.ok(epsilonOf([...parts, other], DELTA) > whole);
  });
});

describe('stepsWithin', () => {
  it('is the last step that the budget allows, after what was taken with any setting', () => {
    const next = { sampleRate: 0.05, noise: 1.1 };
    for (const taken of [[], [{ sampleRate: 0.2, noise: 3, steps: 40 }]]) {
      const budget = { epsilon: 3, delta: DELTA };
      const steps = stepsWithin(taken, next, budget);
      assert.ok(steps > 10);
      assert.ok(epsilonOf([...taken, { ...next, steps }], DELTA) <= 3);
      assert.ok(epsilonOf([...taken, { ...next, steps: steps + 1 }], DELTA) > 3);
    }
  });

  it('is 0 where the budget is spent or too small for one step', () => {
    const next = { sampleRate: 0.5, noise: 0.5 };
    assert.equal(stepsWithin([], next, { epsilon: 0.1, delta: DELTA }), 0);
    const taken = [{ ...next, steps: 1000 }];
    assert.equal(stepsWithin(taken, next, { epsilon: 8, delta: DELTA }), 0);
  });
});
