import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { Prng } from '../../../protocol/prng.js';
import { dequantise } from '../../../protocol/quantise.js';
import { accumulate, norm, takeSlice } from '../../../protocol/residual.js';
import { scatterAdd, Slicer } from '../../../protocol/slice.js';
import { testRun } from '../../support/runs.js';

function runOf(slices: number, bits: 1 | 2 | 4, beta: number): ReturnType<typeof testRun> {
  return testRun((manifest) => ({
    ...manifest,
    compression: { blockSize: 16, beta, phases: [{ fromEpoch: 0, slices, bits }] },
  }));
}

/** Takes `epochs` random deltas through error feedback; returns what was sent, held and put in. */
function feed(run: ReturnType<typeof testRun>, epochs: number, seed: number) {
  const slicer = new Slicer(run);
  const random = new Prng(Uint8Array.of(seed), 'deltas');
  const size = 266;
  const [residual, sent, total] = [
    new Float64Array(size),
    new Float64Array(size),
    new Float64Array(size),
  ];
  for (let epoch = 0; epoch < epochs; epoch++) {
    const delta = Float64Array.from({ length: size }, () => 2 * random.nextFloat() - 1);
    accumulate(residual, delta, run.manifest.compression.beta);
    for (const [i, value] of delta.entries()) total[i]! += value;
    const slice = slicer.slice(epoch);
    const before = residual.slice();
    const quantised = takeSlice(residual, slice, random);
    scatterAdd(sent, slice, dequantise(quantised, slice), 1);
    const untouched = new Float64Array(size);
    scatterAdd(untouched, slice, new Float64Array(slice.coordinates).fill(1), 1);
    for (let i = 0; i < size; i++) {
      if (untouched[i] === 0) assert.equal(residual[i], before[i], 'unchanged outside the slice');
    }
  }
  return { residual, sent, total };
}

describe('error feedback', () => {
  it('telescopes at beta = 1: sent + residual = sum of deltas', () => {
    for (const [slices, bits] of [
      [1, 1],
      [1, 2],
      [1, 4],
      [2, 1],
      [3, 4],
    ] as const) {
      fc.assert(
        fc.property(fc.integer({ min: 1, max: 255 }), (seed) => {
          const { residual, sent, total } = feed(runOf(slices, bits, 1), 9, seed);
          for (let i = 0; i < total.length; i++) {
            assert.ok(Math.abs(sent[i]! + residual[i]! - total[i]!) < 1e-9);
          }
        }),
        { numRuns: 5 },
      );
    }
  });

  it('with beta < 1 forgets: the same sum no longer telescopes', () => {
    const { residual, sent, total } = feed(runOf(1, 1, 0.5), 9, 3);
    const rest = total.map((value, i) => value - sent[i]! - residual[i]!);
    assert.ok(norm(rest) > 1);
  });

  it('keeps the residual bounded over many epochs', () => {
    const early = norm(feed(runOf(1, 1, 0.95), 20, 5).residual);
    const late = norm(feed(runOf(1, 1, 0.95), 200, 5).residual);
    assert.ok(late < 2 * early, `${late} after 200 epochs, ${early} after 20`);
  });
});

describe('norm()', () => {
  it('is the root of the sum of squares', () => {
    assert.equal(norm(Float64Array.of(2, 3, 6)), 7);
  });
});
