import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ortExecutor } from '../../../node/engine/ort.js';
import { hasQuickSums } from '../../../node/engine/overflow-trial.js';
import { openTfjsExecutor } from '../../../node/engine/tfjs/open.js';
import { narrowCpu } from './narrow-cpu.js';

describe('hasQuickSums()', () => {
  it('is false where sums are cut at 16 bits, and where there are no products of integers', async () => {
    assert.equal(await hasQuickSums(narrowCpu()), false);
    assert.equal(await hasQuickSums(await openTfjsExecutor()), false);
  });

  it('is the same at every trial on this CPU, for one thread and for two', async () => {
    const [one, two] = [ortExecutor({ threads: 1 }), ortExecutor({ threads: 2 })];
    assert.equal(await hasQuickSums(one), await hasQuickSums(two));
  });
});
