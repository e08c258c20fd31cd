/** What every executor must reach on the reference cases. */
import assert from 'node:assert/strict';
import { before, describe, it, type TestContext } from 'node:test';
import type { Executor } from '../../node/engine/executor.js';
import { ortExecutor } from '../../node/engine/ort.js';
import { l2Norm } from '../../node/train/optimiser.js';
import { REFERENCE_CASES, referenceCase, type ReferenceCaseName } from '../unit/model/fixtures.js';
import { BOUNDS, compareWithReference, MEASURES, openCase, type Differences } from './compare.js';

/** Every case, or those named, agrees with PyTorch + Transformers + PEFT (values made by make_fixtures.py). */
export function referenceAgreement(
  name: string,
  open: () => Promise<Executor>,
  cases: readonly ReferenceCaseName[] = REFERENCE_CASES,
): void {
  for (const family of cases) {
    describe(`${family} on ${name} agrees with PyTorch and PEFT`, () => {
      let differences: Differences;
      before(async () => {
        differences = await compareWithReference(referenceCase(family), await open());
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
}

/** Relative to the norm of a whole gradient: float32 sums in another order differ by about 1e-6. */
const TRAIN_STEP_BOUND = 1e-5;

/** One train step (loss and gradients) is the same as ONNX Runtime's, closer than either is to PyTorch. */
export function trainStepAgreement(name: string, open: () => Promise<Executor>): void {
  it(`${name} and ONNX Runtime agree on a train step`, async () => {
    const executors = [ortExecutor({ threads: 1 }), await open()];
    const [onnx, other] = await Promise.all(
      executors.map(async (executor) => {
        const opened = await openCase(referenceCase('llama-gqa-tied'), executor);
        try {
          return await opened.model.gradient(opened.batch, opened.theta);
        } finally {
          await opened.model.dispose();
          await opened.reader.dispose();
        }
      }),
    );
    const distance = l2Norm(onnx!.gradient.map((g, i) => g - other!.gradient[i]!));
    const norm = l2Norm(onnx!.gradient);
    assert.ok(norm > 0.01, 'gradients of zeros would prove nothing');
    assert.ok(Math.abs(onnx!.loss - other!.loss) <= TRAIN_STEP_BOUND * onnx!.loss);
    assert.ok(distance <= TRAIN_STEP_BOUND * norm, `${distance} is more than a part of ${norm}`);
  });
}
