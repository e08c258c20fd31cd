import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { adapterSha256, initialAdapter } from '../../../protocol/adapter.js';
import { fromHex } from '../../../protocol/bytes.js';
import {
  AGREEMENT_MIN,
  agreements,
  COMPARED_MAX,
  droppedRows,
  FILTERED_ROWS_MIN,
} from '../../../protocol/filter.js';
import { Fold, foldOnce } from '../../../protocol/fold.js';
import { GRID } from '../../../protocol/grid.js';
import { javascriptKernel } from '../../../protocol/kernel.js';
import { UpdateLog } from '../../../protocol/log.js';
import type { Manifest, Run } from '../../../protocol/manifest.js';
import { Prng } from '../../../protocol/prng.js';
import { dequantise, emptyBody, quantise, type Quantised } from '../../../protocol/quantise.js';
import { norm } from '../../../protocol/residual.js';
import { BLOCK_COORDINATES, RowFormats, type RowFormat } from '../../../protocol/row-format.js';
import { createUpdate, type Update } from '../../../protocol/update.js';
import { rowFormat } from '../../support/row-format.js';
import { testIdentity, testRun } from '../../support/runs.js';

function filteredRun(fold: Partial<Manifest['fold']> = {}): Run {
  return testRun((manifest) => ({
    ...manifest,
    fold: { ...manifest.fold, mode: 'filtered', ...fold },
  }));
}

/** Three tiles; the last block is short. */
function longRun(): Run {
  const adapter = {
    ...testRun().manifest.adapter,
    modules: [{ name: 'up_proj', inFeatures: 3001, outFeatures: 2100 }],
  };
  return testRun((manifest) => ({
    ...manifest,
    adapter: { ...adapter, initialSha256: adapterSha256(initialAdapter(adapter)) },
    fold: { ...manifest.fold, mode: 'filtered' },
  }));
}

/** `share` of one direction that all of `epoch` have in common, and as much of its own as is left. */
function values(run: Run, epoch: number, label: string, share: number): Float64Array {
  const { coordinates } = new RowFormats(run).at(epoch);
  const seed = fromHex(run.id);
  const [common, own] = [new Prng(seed, `common/${epoch}`), new Prng(seed, `${label}/${epoch}`)];
  const rest = Math.sqrt(1 - share * share);
  const draw = (random: Prng): number => 2 * random.nextFloat() - 1;
  return Float64Array.from({ length: coordinates }, () => share * draw(common) + rest * draw(own));
}

function update(run: Run, peer: number, epoch: number, share: number, size = 1): Update {
  const format = new RowFormats(run).at(epoch);
  const row = values(run, epoch, `peer ${peer}`, share).map((value) => size * value);
  return createUpdate(run, testIdentity(peer), {
    ...{ epoch, baseEpoch: epoch, steps: 8, logDigest: new Uint8Array(32) },
    ...quantise(row, format),
  });
}

function logOf(updates: Iterable<Update>): UpdateLog {
  const log = new UpdateLog();
  for (const one of updates) log.insert(one);
  return log;
}

/** What the updates move, and whom the filter left out by epoch. */
function foldOf(run: Run, updates: Iterable<Update>): { moved: Float64Array; dropped: string[] } {
  const fold = new Fold(run);
  fold.compute(logOf(updates));
  const dropped = [...fold.dropped()].flatMap(([epoch, rows]) =>
    rows.map(({ author }) => `${epoch} ${author}`),
  );
  return { moved: fold.sum().map((steps) => steps / GRID), dropped };
}

function lengthOf(row: Quantised, format: RowFormat): number {
  const coordinates = format.blocks * BLOCK_COORDINATES;
  return norm(dequantise(row, { ...format, coordinates }));
}

function noSample(): never {
  assert.fail('so few rows are all compared');
}

function agreementOf(bodies: readonly Quantised[], format: RowFormat, random = noSample): number[] {
  const norms = bodies.map((row) => lengthOf(row, format));
  const pieces = agreements({ bodies, norms }, format, random, javascriptKernel);
  for (;;) {
    const piece = pieces.next();
    if (piece.done === true) return piece.value;
    assert.ok(piece.value > 0);
  }
}

function median(numbers: readonly number[]): number {
  const sorted = numbers.toSorted((a, b) => a - b);
  return (sorted[(sorted.length - 1) >> 1]! + sorted[sorted.length >> 1]!) / 2;
}

describe('the agreement of rows', () => {
  const format = rowFormat(2000);

  it('is the median of the cosines of what receivers read', () => {
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 9 }), fc.nat(1000), (count, seed) => {
        const random = new Prng(Uint8Array.of(seed, seed >> 8), 'rows');
        const whole = { ...format, coordinates: format.blocks * BLOCK_COORDINATES };
        const bodies = Array.from({ length: count }, (_, i) =>
          quantise(
            Float64Array.from({ length: whole.coordinates }, () => random.nextFloat() - 0.1 * i),
            whole,
          ),
        );
        const rows = bodies.map((row) => dequantise(row, whole));
        const cosine = (a: Float64Array, b: Float64Array): number =>
          a.reduce((sum, value, j) => sum + value * b[j]!, 0) / (norm(a) * norm(b));
        const expected = rows.map((row) =>
          median(rows.flatMap((other) => (other === row ? [] : cosine(row, other)))),
        );
        for (const [i, value] of agreementOf(bodies, whole).entries())
          assert.ok(Math.abs(value - expected[i]!) < 1e-12, `${value} ${expected[i]}`);
      }),
      { numRuns: 30 },
    );
  });

  it('is 0 for zeros, and with zeros', () => {
    const row = quantise(new Float64Array(2000).fill(1), format);
    assert.deepEqual(agreementOf([row, emptyBody(format), emptyBody(format)], format), [0, 0, 0]);
  });

  it('compares each row with a sample of 32 where there are more, and with itself never', () => {
    const random = new Prng(Uint8Array.of(7), 'many');
    // Of 100 rows 20 point the other way, and fewer than half of the sample.
    const bodies = Array.from({ length: 100 }, (_, i) =>
      quantise(
        Float64Array.from({ length: 2000 }, () => (i < 20 ? -1 : 1) + random.nextFloat()),
        format,
      ),
    );
    const drawn: number[] = [];
    const draw = (): Prng => {
      drawn.push(1);
      return new Prng(Uint8Array.of(1), 'filter/0');
    };
    const agreement = agreementOf(bodies, format, draw as () => never);
    assert.equal(drawn.length, 1);
    for (const [i, value] of agreement.entries())
      assert.equal(
        i < 20 ? value < AGREEMENT_MIN : value > 0.5 && value < 0.999,
        true,
        `${i}: ${value}`,
      );
    // By the definition, for a row that is in the sample: the median of 31 cosines, its own is not among them.
    const sample = new Prng(Uint8Array.of(1), 'filter/0').permutation(100).slice(0, COMPARED_MAX);
    const first = sample[0]!;
    const others = [...sample.slice(1)].map((i) => bodies[i]!);
    const [expected] = agreementOf([bodies[first]!, ...others], format);
    assert.ok(Math.abs(agreement[first]! - expected!) < 1e-12, `${agreement[first]} ${expected}`);
  });
});

describe('whom the filter drops', () => {
  it('is who lies below the threshold, but never half of the rows or more', () => {
    const low = AGREEMENT_MIN - 1e-9;
    assert.deepEqual(droppedRows([AGREEMENT_MIN, 0.3, low, 0, -0]), [
      ...[false, false, true, false, false],
    ]);
    assert.deepEqual(droppedRows([low, low, 0, 0, 0]), [true, true, false, false, false]);
    assert.deepEqual(droppedRows([low, low, 0, 0]), [false, false, false, false]);
    assert.deepEqual(droppedRows([low, low, low]), [false, false, false]);
    assert.deepEqual(droppedRows([]), []);
  });
});

describe('the filtered fold', () => {
  const run = filteredRun();
  const HONEST = [0, 1, 2, 3];
  const honest = HONEST.map((peer) => update(run, peer, 9, 0.7));
  const turned = update(run, 4, 9, -0.7, 3);
  const { peerId } = testIdentity(4);

  it('is the mean of the others where one points against them', () => {
    const with4 = foldOf(run, [...honest, turned]);
    assert.deepEqual(with4.dropped, [`9 ${peerId}`]);
    const unclipped = filteredRun({ clip: 0 });
    const same = HONEST.map((peer) => update(unclipped, peer, 9, 0.7));
    const liar = update(unclipped, 4, 9, -0.7, 3);
    assert.deepEqual(foldOf(unclipped, [...same, liar]).moved, foldOf(unclipped, same).moved);
  });

  it('is the clipped mean where nobody points against the others', () => {
    const format = new RowFormats(run).at(9);
    const rows = honest.map((one) => dequantise(one, format));
    const norms = honest.map((one) => lengthOf(one, format));
    const { moved, dropped } = foldOf(run, honest);
    assert.deepEqual(dropped, []);
    for (const [j, value] of moved.entries()) {
      const parts = rows.map((row, i) => (row[j]! * Math.min(1, median(norms) / norms[i]!)) / 4);
      const mean = parts.reduce((sum, part) => sum + part, 0);
      assert.ok(Math.abs(value - mean) <= 1 / GRID, `${j}: ${value} ${mean}`);
    }
  });

  it('drops nobody among fewer than four', () => {
    assert.equal(FILTERED_ROWS_MIN, 4);
    assert.deepEqual(foldOf(run, [honest[0]!, honest[1]!, turned]).dropped, []);
    assert.deepEqual(foldOf(run, [honest[0]!, turned]).dropped, []);
    assert.deepEqual(foldOf(run, [turned]).dropped, []);
    assert.deepEqual(foldOf(run, [...honest.slice(1), turned]).dropped, [`9 ${peerId}`]);
  });

  it('drops nobody where two halves point apart', () => {
    const halves = [0, 1, 2, 3, 4, 5].map((peer) => update(run, peer, 3, peer < 3 ? 0.9 : -0.9));
    assert.deepEqual(foldOf(run, halves).dropped, []);
  });

  /** Epochs of five to six rows, in some of which one or two point against the others. */
  const all = [0, 1, 2, 3].flatMap((epoch) =>
    [0, 1, 2, 3, 4, 5].map((peer) =>
      update(run, peer, epoch, peer >= 6 - (epoch % 3) ? -0.9 : 0.9),
    ),
  );

  it('is the same in any order of arrival', () => {
    const expected = foldOf(run, all);
    assert.equal(expected.dropped.length, 3);
    fc.assert(
      fc.property(fc.shuffledSubarray(all, { minLength: all.length }), (shuffled) => {
        const log = new UpdateLog();
        const fold = new Fold(run);
        for (const [i, one] of shuffled.entries()) {
          log.insert(one);
          fold.invalidate(one.epoch);
          if (i % 5 === 0) fold.compute(log);
        }
        fold.compute(log);
        assert.deepEqual(
          fold.sum().map((steps) => steps / GRID),
          expected.moved,
        );
        const dropped = [...fold.dropped()].flatMap(([epoch, rows]) =>
          rows.map(({ author }) => `${epoch} ${author}`),
        );
        assert.deepEqual(dropped.sort(), expected.dropped.sort());
      }),
      { numRuns: 8 },
    );
  });

  it('takes back a drop when later updates change the middle, and leaves no trace', () => {
    // Two rows against three: then three more come that side with the two.
    const first = [0, 1, 2, 3, 4].map((peer) => update(run, peer, 5, peer < 3 ? 0.8 : -0.8));
    const later = [5, 6, 7].map((peer) => update(run, peer, 5, -0.8));
    const fold = new Fold(run);
    const log = logOf(first);
    fold.compute(log);
    const names = (): string[] => (fold.dropped().get(5) ?? []).map(({ author }) => author).sort();
    assert.deepEqual(names(), [3, 4].map((i) => testIdentity(i).peerId).sort());
    for (const one of later) log.insert(one);
    fold.invalidate(5);
    fold.compute(log);
    assert.deepEqual(names(), [0, 1, 2].map((i) => testIdentity(i).peerId).sort());
    assert.deepEqual(fold.theta(), foldOnce(run, log));
    for (const { agreement } of fold.dropped().get(5)!) assert.ok(agreement < AGREEMENT_MIN);
    fold.rebase({ epoch: 6, sum: fold.sum().slice() }, { isSame: true });
    assert.equal(fold.dropped().size, 0);
  });

  it('gives the same bits in pieces, when another update comes while rows are compared', () => {
    const long = longRun();
    const log = logOf(HONEST.map((peer) => update(long, peer, 9, 0.7)));
    const fold = new Fold(long);
    let pieces = 0;
    for (const work of fold.steps(log)) {
      pieces += work > 0 ? 1 : 0;
      // Four reads and four norms, then the first tile of dot products.
      if (pieces !== 9) continue;
      log.insert(update(long, 4, 9, -0.7));
      fold.invalidate(9);
    }
    assert.equal(pieces, 9 + 5 + 1 + 3 + 3);
    assert.deepEqual(fold.theta(), foldOnce(long, log));
    assert.equal(fold.pendingRows(log), 0);
    assert.deepEqual([...fold.dropped().keys()], [9]);
  });
});
