import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { bestEpoch, tableReport, type Entry } from '../../../node/cli/history.js';
import { restoreRun } from '../../../node/stored-run.js';
import { storeWith } from '../../support/replicas.js';
import { adapterSize, testRun } from '../../support/runs.js';

const run = testRun();
const whole = await restoreRun(run, storeWith([]));
const sum = new Float64Array(adapterSize(run));
const cut = { ...whole, dropped: { epoch: 6, sum, updates: 17 } };

function entry(epoch: number, heldOutLoss: number | null, authors: string[] | null = null): Entry {
  return { epoch, heldOutLoss, authors, sha256: `${epoch}a`.repeat(32), updates: 3 * epoch };
}

describe('the best epoch', () => {
  it('is the one with the lowest loss, the first of equals, and none where nothing was measured', () => {
    const entries = [entry(4, 3.5), entry(5, 3.25), entry(6, null), entry(8, 3.25), entry(9, 3.75)];
    assert.equal(bestEpoch(entries), 5);
    assert.equal(bestEpoch([entry(3, null)]), null);
    assert.equal(bestEpoch([]), null);
  });
});

describe('the table of past adapters', () => {
  it('shows what was measured, what is gone and why, and how to take the best home', () => {
    const entries = [entry(5, 3.5), entry(6, 3.125, ['a', 'b']), entry(7, null, ['a'])];
    const text = tableReport({ stored: cut, base: 4.25, entries, isMeasured: true });
    for (const line of [
      /base .* 0 .* - .* 4\.250/,
      /5 .* 5a5a5a5a5a5a .* 15 .* - .* 3\.500/,
      /6 .* 18 .* 2 .* 3\.125/,
      /7 .* 21 .* 1 .* - /,
      /^epochs 0 to 4 are gone: .* does not keep the updates before epoch 6: .* --log-disk/m,
      /^best here: epoch 6; murmurate export --epoch 6 ADAPTER_DIR/m,
    ]) {
      assert.match(text, line);
    }
  });

  it('has no column and no advice for what was not measured, and nothing gone where all is kept', () => {
    const entries = [entry(0, null, ['a'])];
    const text = tableReport({ stored: whole, base: null, entries, isMeasured: false });
    assert.doesNotMatch(text, /held-out|best|gone/);
    assert.match(text, /0 .* 0a0a0a0a0a0a .* 0 .* 1 /);
  });
});
