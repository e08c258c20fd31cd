import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { IGNORED_TARGET } from '../../../node/model/token-batch.js';
import { placesFor, trainedRows } from '../../../node/model/trained-rows.js';

const _ = IGNORED_TARGET;

describe('trainedRows', () => {
  const targets = Int32Array.of(_, 7, _, _, 8, 9, _, 4);

  it('names the trained tokens, in as many runs as it takes', () => {
    assert.deepEqual(trainedRows({ targets }, 4), [
      { rows: Int32Array.of(1, 4, 5, 7), targets: Int32Array.of(7, 8, 9, 4), count: 4 },
    ]);
    assert.deepEqual(trainedRows({ targets }, 3), [
      { rows: Int32Array.of(1, 4, 5), targets: Int32Array.of(7, 8, 9), count: 3 },
      { rows: Int32Array.of(7, 0, 0), targets: Int32Array.of(4, _, _), count: 1 },
    ]);
  });

  it('is one run for a batch in which nothing is trained', () => {
    assert.deepEqual(trainedRows({ targets: Int32Array.of(_, _) }, 1), [
      { rows: Int32Array.of(0), targets: Int32Array.of(_), count: 0 },
    ]);
  });
});

describe('placesFor', () => {
  it('leaves some room beyond the most that was seen, and is not worth it where most is trained', () => {
    assert.equal(placesFor(1024, [100, 290, 17]), 320);
    assert.equal(placesFor(1024, []), 32);
    assert.equal(placesFor(1024, [700]), null);
    assert.equal(placesFor(16, [1]), null);
  });
});
