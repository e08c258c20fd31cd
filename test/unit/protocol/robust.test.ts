import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { adapterSha256, initialAdapter } from '../../../protocol/adapter.js';
import { staleness } from '../../../protocol/epoch-fold.js';
import { Fold, foldOnce } from '../../../protocol/fold.js';
import { GRID } from '../../../protocol/grid.js';
import { javascriptKernel, type WeightedRow } from '../../../protocol/kernel.js';
import { UpdateLog } from '../../../protocol/log.js';
import type { Run } from '../../../protocol/manifest.js';
import { dequantise } from '../../../protocol/quantise.js';
import { norm } from '../../../protocol/residual.js';
import { RobustMean } from '../../../protocol/robust.js';
import {
  BLOCK_COORDINATES,
  RowFormats,
  TILE_COORDINATES,
  type RowFormat,
} from '../../../protocol/row-format.js';
import type { Update } from '../../../protocol/update.js';
import { testIdentity, testRun, testUpdate } from '../../support/runs.js';

const PEERS = 10;

const adapter = {
  ...testRun().manifest.adapter,
  modules: [{ name: 'up_proj', inFeatures: 3001, outFeatures: 2100 }],
};

/** Three tiles; the last block is short. */
function robustRun({ trimFraction = 0.25, clip = 1.5 } = {}): Run {
  return testRun((manifest) => ({
    ...manifest,
    adapter: { ...adapter, initialSha256: adapterSha256(initialAdapter(adapter)) },
    fold: { ...manifest.fold, mode: 'robust', trimFraction, clip },
    membership: {
      mode: 'allowlist',
      members: Array.from({ length: PEERS }, (_, i) => ({
        peerId: testIdentity(i).peerId,
        weight: 1,
      })),
    },
  }));
}

function updatesOf(run: Run, sizes: readonly number[]): Update[] {
  return sizes.map((size, i) =>
    testUpdate(run, testIdentity(i), 9, { size, baseEpoch: i === 2 ? 4 : 9 }),
  );
}

function rowsOf(run: Run, updates: readonly Update[]): Float64Array[] {
  return updates.map((update) => dequantise(update, new RowFormats(run).at(update.epoch)));
}

/** Of a row with what fills up its last block. */
function lengthOf(run: Run, update: Update): number {
  const format = new RowFormats(run).at(update.epoch);
  const coordinates = format.blocks * BLOCK_COORDINATES;
  return norm(dequantise(update, { ...format, coordinates }));
}

/** theta0 - theta after these updates: g in whole steps, for alpha is 1. */
function foldOf(run: Run, updates: readonly Update[]): Float64Array {
  const log = new UpdateLog();
  for (const update of updates) log.insert(update);
  const fold = new Fold(run);
  fold.compute(log);
  return fold.sum().map((steps) => steps / GRID);
}

function meanOf(
  rows: readonly WeightedRow[],
  format: RowFormat,
  trimFraction: number,
): Float64Array {
  const robust = new RobustMean(rows, format, trimFraction, javascriptKernel);
  for (const work of robust.prepare()) assert.ok(work > 0);
  const mean = new Float64Array(format.coordinates);
  for (let start = 0; start < mean.length; start += TILE_COORDINATES)
    robust.tile(start / BLOCK_COORDINATES, mean.subarray(start, start + TILE_COORDINATES));
  return mean;
}

/** The definition, word by word and without tiles. */
function byDefinition(run: Run, updates: readonly Update[]): number[] {
  const { clip, trimFraction } = run.manifest.fold;
  const ordered = updates.toSorted((a, b) => (a.author < b.author ? -1 : 1));
  const raw = rowsOf(run, ordered);
  const lengths = ordered.map((update) => lengthOf(run, update));
  const norms = lengths.toSorted((a, b) => a - b);
  const middle = (norms[(norms.length - 1) >> 1]! + norms[norms.length >> 1]!) / 2;
  const rows = raw.map((row, i) =>
    row.map((v) => v * staleness(ordered[i]!) * Math.min(1, (clip * middle) / lengths[i]!)),
  );
  const m = rows.length;
  const f = Math.floor(trimFraction * m);
  const distance = (a: Float64Array, b: Float64Array): number => norm(a.map((v, k) => v - b[k]!));
  const mixed = rows.map((row) => {
    const near = rows.toSorted((a, b) => distance(row, a) - distance(row, b)).slice(0, m - f);
    return row.map((_, k) => near.reduce((sum, other) => sum + other[k]!, 0) / near.length);
  });
  return Array.from(rows[0]!, (_, k) => {
    const kept = mixed
      .map((row) => row[k]!)
      .sort((a, b) => a - b)
      .slice(f, m - f);
    return kept.reduce((sum, value) => sum + value, 0) / kept.length;
  });
}

function assertClose(actual: ArrayLike<number>, expected: ArrayLike<number>): void {
  assert.equal(actual.length, expected.length);
  for (let i = 0; i < expected.length; i++) {
    assert.ok(
      Math.abs(actual[i]! - expected[i]!) <= 0.5 / GRID + 1e-12,
      `${i}: ${actual[i]} ${expected[i]}`,
    );
  }
}

describe('robust mean', () => {
  const honest = Array.from({ length: PEERS }, (_, i) => 1 + i / 10);

  it('is what its definition says', () => {
    const run = robustRun();
    const updates = updatesOf(run, [...honest.slice(1), 30]);
    assertClose(foldOf(run, updates), byDefinition(run, updates));
  });

  it('is independent of the order in which updates arrive', () => {
    const run = robustRun();
    const updates = updatesOf(run, honest);
    const expected = foldOf(run, updates);
    fc.assert(
      fc.property(fc.shuffledSubarray(updates, { minLength: PEERS }), (shuffled) =>
        assert.deepEqual(foldOf(run, shuffled), expected),
      ),
      { numRuns: 20 },
    );
  });

  it('of equal rows is that row', () => {
    const run = robustRun();
    const [update] = updatesOf(run, [1]);
    const format = new RowFormats(run).at(9);
    const rows = Array.from({ length: 7 }, () => ({ quantised: update!, factor: 0.5 }));
    const expected = dequantise(update!, format).map((value) => value / 2);
    assertClose(meanOf(rows, format, 0.3), expected);
  });

  it('is the mean when nobody is taken for a liar', () => {
    const run = robustRun({ trimFraction: 0.05, clip: 0 });
    const updates = updatesOf(run, honest);
    const rows = rowsOf(run, updates).map((row, i) => row.map((v) => v * staleness(updates[i]!)));
    const mean = rows[0]!.map((_, k) => rows.reduce((sum, row) => sum + row[k]!, 0) / PEERS);
    assertClose(foldOf(run, updates), mean);
  });

  it('stays among the honest rows whatever two of ten send, where the mean does not', () => {
    const run = robustRun({ clip: 0 });
    const updates = updatesOf(run, [...honest.slice(2), 1000, 2000]);
    const rows = rowsOf(run, updates.slice(0, -2));
    const escapes = (g: ArrayLike<number>): number =>
      Array.from(g).filter((value, k) => {
        const values = rows.map((row) => row[k]!);
        return value < Math.min(...values) - 1 / GRID || value > Math.max(...values) + 1 / GRID;
      }).length;
    assert.equal(escapes(foldOf(run, updates)), 0);
    const mean = testRun((manifest) => ({
      ...run.manifest,
      fold: { ...manifest.fold, clip: 0 },
    }));
    const sent = updatesOf(mean, [...honest.slice(2), 1000, 2000]);
    assert.ok(escapes(foldOf(mean, sent)) > 100);
  });

  it('gives the same bits in pieces, when another update comes in between', () => {
    const run = robustRun();
    const updates = updatesOf(run, honest);
    const log = new UpdateLog();
    const fold = new Fold(run);
    for (const update of updates.slice(1)) log.insert(update);
    let pieces = 0;
    for (const work of fold.steps(log)) {
      pieces += work > 0 ? 1 : 0;
      // While distances are summed: nine reads and nine norms come before.
      if (pieces !== 20) continue;
      log.insert(updates[0]!);
      fold.invalidate(9);
    }
    assert.equal(pieces, 20 + 10 + 1 + 3 + 3);
    const whole = new UpdateLog();
    for (const update of updates) whole.insert(update);
    assert.deepEqual(fold.theta(), foldOnce(run, whole));
    assert.equal(fold.pendingRows(log), 0);
  });
});
