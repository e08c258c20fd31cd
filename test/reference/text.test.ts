/** The embedded base writes and measures what it does in Transformers (values: make_text_reference.py). */
import assert from 'node:assert/strict';
import { before, describe, it, type TestContext } from 'node:test';
import { EMBEDDED_MODEL_DIRECTORY } from '../../node/version.js';
import { textReference } from '../unit/model/fixtures.js';
import { compareText, LOSS_BOUND, type TextComparison } from './text.js';

describe('the embedded base agrees with Transformers', () => {
  let compared: TextComparison;
  before(async () => {
    const [data, file] = ['notes.jsonl', 'tiny-base.json'].map((name) => textReference(name));
    compared = await compareText(EMBEDDED_MODEL_DIRECTORY, data!, file!);
  });

  it('in 64 greedy tokens after each of five prompts', () => {
    assert.deepEqual(
      compared.prompts.map(({ sameIds, written, same }) => ({ sameIds, written, same })),
      Array.from({ length: 5 }, () => ({ sameIds: true, written: 64, same: 64 })),
    );
  });

  it('in the loss of a file, which counts the same tokens', (t: TestContext) => {
    assert.equal(compared.tokens.actual, compared.tokens.expected);
    const difference = Math.abs(compared.loss.actual - compared.loss.expected);
    t.diagnostic(`differs by ${difference.toExponential(1)}`);
    assert.ok(difference <= LOSS_BOUND, `${difference} is more than ${LOSS_BOUND}`);
  });
});
