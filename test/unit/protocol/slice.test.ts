import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { maxUpdateBytes, gather, scatterAdd, Slicer } from '../../../protocol/slice.js';
import { quantisedBytes } from '../../../protocol/quantise.js';
import { adapterSize, testRun } from '../../support/runs.js';

/** NS slices of 8-coordinate blocks from epoch 0, one slice of 2 bits from epoch 9. */
function slicedRun(slices: number): ReturnType<typeof testRun> {
  return testRun((manifest) => ({
    ...manifest,
    compression: {
      blockSize: 8,
      beta: 0.5,
      phases: [
        { fromEpoch: 0, slices, bits: 1 },
        { fromEpoch: 9, slices: 1, bits: 2 },
      ],
    },
  }));
}

describe('Slicer', () => {
  it('sends each coordinate exactly once in NS epochs', () => {
    for (const slices of [1, 2, 3, 7]) {
      const run = slicedRun(slices);
      const slicer = new Slicer(run);
      const counts = new Float64Array(adapterSize(run));
      for (let epoch = 0; epoch < slices; epoch++) {
        const slice = slicer.slice(epoch);
        scatterAdd(counts, slice, new Float64Array(slice.coordinates).fill(1), 1);
      }
      assert.ok(
        counts.every((count) => count === 1),
        `${slices} slices`,
      );
    }
  });

  it('draws a new permutation for each cycle, the same for every peer and in any order of asking', () => {
    const run = slicedRun(3);
    const forwards = new Slicer(run);
    const backwards = new Slicer(run);
    const epochs = [0, 1, 2, 3, 4, 5];
    const blocks = epochs.map((epoch) => [...forwards.slice(epoch).blocks]);
    const again = epochs.toReversed().map((epoch) => [...backwards.slice(epoch).blocks]);
    assert.deepEqual(again.toReversed(), blocks);
    assert.notDeepEqual(blocks[3], blocks[0]);
    assert.notDeepEqual(blocks[1], blocks[0]);
  });

  it('follows the table of phases', () => {
    const slicer = new Slicer(slicedRun(2));
    assert.equal(slicer.slice(8).bits, 1);
    assert.equal(slicer.slice(9).bits, 2);
    assert.equal(slicer.slice(9).coordinates, 266);
    assert.equal(slicer.slice(0).coordinates + slicer.slice(1).coordinates, 266);
  });

  it('counts the short last block', () => {
    const slice = new Slicer(testRun()).slice(0);
    assert.equal(slice.blocks.length, 5);
    assert.equal(slice.coordinates, 266);
  });
});

describe('gather() and scatterAdd()', () => {
  it('touch only the slice', () => {
    const slicer = new Slicer(slicedRun(2));
    const vector = Float64Array.from({ length: 266 }, (_, i) => i + 1);
    const slice = slicer.slice(0);
    const changed = vector.slice();
    scatterAdd(changed, slice, gather(vector, slice), -1);
    const inSlice = new Set(
      [...slice.blocks].flatMap((b) => [...Array(8).keys()].map((i) => 8 * b + i)),
    );
    for (const [i, value] of changed.entries()) {
      assert.equal(value, inSlice.has(i) ? 0 : i + 1);
    }
  });
});

describe('maxUpdateBytes()', () => {
  it('bounds the update of every epoch', () => {
    for (const slices of [1, 2, 3, 7]) {
      const run = slicedRun(slices);
      const slicer = new Slicer(run);
      for (let epoch = 0; epoch < 40; epoch++) {
        const { scales, codes } = quantisedBytes(slicer.slice(epoch));
        assert.ok(scales + codes <= maxUpdateBytes(run));
      }
    }
  });
});
