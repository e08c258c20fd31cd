/** Every family agrees with PyTorch + Transformers + PEFT (values made by make_fixtures.py). */
import assert from 'node:assert/strict';
import { before, describe, it, type TestContext } from 'node:test';
import { REFERENCE_CASES, referenceCase } from '../unit/model/fixtures.js';
import { BOUNDS, compareWithReference, MEASURES, type Differences } from './compare.js';

for (const name of REFERENCE_CASES) {
  describe(`${name} agrees with PyTorch and PEFT`, () => {
    let differences: Differences;
    before(async () => {
      differences = await compareWithReference(referenceCase(name));
    });

    for (const measure of MEASURES) {
      it(`in the ${measure}`, (t: TestContext) => {
        const difference = differences[measure];
        t.diagnostic(`largest difference ${difference.toExponential(1)}`);
        assert.ok(difference <= BOUNDS[measure], `${difference} is more than ${BOUNDS[measure]}`);
      });
    }
  });
}
