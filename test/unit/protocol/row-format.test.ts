import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { bodyBytes, RowFormats, updateBytes } from '../../../protocol/row-format.js';
import { testRun } from '../../support/runs.js';

describe('RowFormats', () => {
  it('draws other signs in each epoch, the same for every peer and in any order of asking', () => {
    const run = testRun();
    const [forwards, backwards] = [new RowFormats(run), new RowFormats(run)];
    const epochs = [0, 1, 2, 3];
    const signs = epochs.map((epoch) => [...forwards.at(epoch).signs]);
    const again = epochs.toReversed().map((epoch) => [...backwards.at(epoch).signs]);
    assert.deepEqual(again.toReversed(), signs);
    assert.equal(new Set(signs.map((one) => one.join())).size, epochs.length);
    assert.ok(signs.flat().every((sign) => sign === 1 || sign === -1));
    const others = testRun((manifest) => ({ ...manifest, name: 'another' }));
    assert.notDeepEqual([...new RowFormats(others).at(0).signs], signs[0]);
  });

  it('counts the short last block', () => {
    const { coordinates, blocks } = new RowFormats(testRun()).at(0);
    assert.deepEqual([coordinates, blocks], [266, 2]);
  });
});

describe('updateBytes()', () => {
  it('is what every update takes', () => {
    const run = testRun();
    for (const epoch of [0, 39]) {
      const { scales, codes } = bodyBytes(new RowFormats(run).at(epoch));
      assert.equal(updateBytes(run), scales + codes);
    }
  });
});
