import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { adapterSha256, initialAdapter } from '../../../protocol/adapter.js';
import { EpochFold, staleness } from '../../../protocol/epoch-fold.js';
import { Fold, foldOnce, type FoldSource } from '../../../protocol/fold.js';
import { GRID } from '../../../protocol/grid.js';
import { UpdateLog } from '../../../protocol/log.js';
import type { Manifest, Run } from '../../../protocol/manifest.js';
import { dequantise } from '../../../protocol/quantise.js';
import { norm } from '../../../protocol/residual.js';
import { RowFormats } from '../../../protocol/row-format.js';
import type { Update } from '../../../protocol/update.js';
import { adapterSize, testIdentity, testRun, testUpdate } from '../../support/runs.js';

const PEERS = 5;
const EPOCHS = 36;

/** A log that also forgets single updates. */
class TestLog implements FoldSource {
  readonly #held = new Map<string, Update>();

  constructor(updates: Iterable<Update> = []) {
    for (const update of updates) this.#held.set(`${update.author}/${update.epoch}`, update);
  }

  /** Inserts the update, or takes it out. */
  toggle(update: Update): void {
    const slot = `${update.author}/${update.epoch}`;
    if (!this.#held.delete(slot)) this.#held.set(slot, update);
  }

  get updates(): Update[] {
    return [...this.#held.values()];
  }

  get newestEpoch(): number {
    return Math.max(-1, ...this.updates.map(({ epoch }) => epoch));
  }

  inEpoch(epoch: number): Update[] {
    return this.updates
      .filter((update) => update.epoch === epoch)
      .sort((a, b) => (a.author < b.author ? -1 : 1));
  }

  read(update: Update): Update {
    return update;
  }
}

function foldHash(run: Run, updates: Iterable<Update>): string {
  return adapterSha256(foldOnce(run, new TestLog(updates)));
}

/** What the updates move: theta0 - theta before it is rounded to float32. */
function movedBy(run: Run, updates: Iterable<Update>): Float64Array {
  const fold = new Fold(run);
  fold.compute(new TestLog(updates));
  return fold.sum().map((steps) => steps / GRID);
}

function hashOf(fold: Fold, log: FoldSource): string {
  fold.compute(log);
  assert.equal(fold.pendingRows(log), 0);
  return adapterSha256(fold.theta());
}

function withFold(fold: Partial<Manifest['fold']>): Run {
  return testRun((manifest) => ({ ...manifest, fold: { ...manifest.fold, ...fold } }));
}

/** Every update of PEERS peers in EPOCHS epochs; sizes differ, so that clipping matters. */
function allUpdates(run: Run, epochs = EPOCHS): Update[] {
  return Array.from({ length: PEERS }, (_, peer) =>
    Array.from({ length: epochs }, (_, epoch) =>
      testUpdate(run, testIdentity(peer), epoch, {
        baseEpoch: Math.max(0, epoch - (peer === 3 ? 5 : 0)),
        size: 1 + peer,
      }),
    ),
  ).flat();
}

/** The dequantised row of one update. */
function row(run: Run, update: Update): Float64Array {
  return dequantise(update, new RowFormats(run).at(update.epoch));
}

describe('Fold', () => {
  const run = testRun();
  const updates = allUpdates(run);
  const expected = foldHash(run, updates);

  it('gives one hash for any order and repetition of one set', () => {
    fc.assert(
      fc.property(
        fc.shuffledSubarray(updates, { minLength: updates.length }),
        fc.subarray(updates),
        (shuffled, repeated) => {
          const log = new UpdateLog();
          for (const update of [...shuffled, ...repeated]) log.insert(update);
          assert.equal(adapterSha256(foldOnce(run, log)), expected);
        },
      ),
      { numRuns: 20 },
    );
  });

  it('has the bits of the log after any inserting, taking out and inserting again', () => {
    const runs = [
      run,
      testRun((m) => ({
        ...m,
        // The filter, and phases of alpha.
        fold: {
          ...m.fold,
          mode: 'filtered' as const,
          alpha: [
            { fromEpoch: 0, numerator: 1, denominator: 1 },
            { fromEpoch: 4, numerator: 1, denominator: 3 },
          ],
        },
      })),
    ];
    for (const some of runs) {
      const all = allUpdates(some, 8);
      fc.assert(
        fc.property(
          fc.array(fc.tuple(fc.nat(all.length - 1), fc.boolean()), { maxLength: 60 }),
          (changes) => {
            const log = new TestLog();
            const fold = new Fold(some);
            for (const [index, computes] of changes) {
              const update = all[index]!;
              log.toggle(update);
              fold.invalidate(update.epoch);
              if (computes) fold.compute(log);
            }
            fold.compute(log);
            const fresh = new Fold(some);
            fresh.compute(new TestLog(log.updates));
            assert.deepEqual(Buffer.from(fold.sum().buffer), Buffer.from(fresh.sum().buffer));
            assert.equal(hashOf(fold, log), hashOf(fresh, log));
          },
        ),
        { numRuns: 40 },
      );
    }
  });

  it('in pieces ends at the log as it then is, whatever changes or is asked for in between', () => {
    const all = allUpdates(run, 6);
    const change = fc.record({
      after: fc.nat(12),
      index: fc.nat(all.length - 1),
      asks: fc.constantFrom('nothing', 'theta', 'compute', 'steps', 'rows'),
    });
    fc.assert(
      fc.property(fc.subarray(all), fc.array(change, { maxLength: 20 }), (first, changes) => {
        const log = new TestLog(first);
        const fold = new Fold(run);
        const left = [...changes];
        let wait = left[0]?.after ?? Infinity;
        for (const work of fold.steps(log)) {
          assert.ok(work > 0);
          if (wait-- > 0) continue;
          const { index, asks } = left.shift()!;
          wait = left[0]?.after ?? Infinity;
          log.toggle(all[index]!);
          fold.invalidate(all[index]!.epoch);
          if (asks === 'theta') fold.theta();
          if (asks === 'compute') assert.equal(hashOf(fold, log), foldHash(run, log.updates));
          if (asks === 'steps') fold.steps(log).next();
          if (asks === 'rows') assert.ok(fold.pendingRows(log) >= 0);
        }
        assert.equal(adapterSha256(fold.theta()), foldHash(run, log.updates));
        assert.equal(fold.pendingRows(log), 0);
      }),
      { numRuns: 200 },
    );
  });

  it('between two pieces is the fold of whole epochs', () => {
    const log = new TestLog(allUpdates(run, 3));
    const wholes = [-1, 0, 1, 2].map((last) =>
      foldHash(
        run,
        log.updates.filter(({ epoch }) => epoch <= last),
      ),
    );
    const pieces = [...new Fold(run).steps(log)].length;
    const seen = new Set<string>();
    for (let stop = 0; stop <= pieces; stop++) {
      const fold = new Fold(run);
      const steps = fold.steps(log);
      for (let i = 0; i < stop; i++) steps.next();
      const hash = adapterSha256(fold.theta());
      assert.ok(wholes.includes(hash), `${stop} of ${pieces} pieces`);
      seen.add(hash);
    }
    assert.equal(seen.size, 4);
  });

  it('goes through one epoch twice for a late update, however old it is', () => {
    const long = testRun((m) => ({ ...m, schedule: { ...m.schedule, epochsMax: 12_000 } }));
    const authors = [0, 1, 2, 3].map((i) => testIdentity(i));
    const log = new UpdateLog();
    const fold = new Fold(long);
    const late = new Set([1, 80, 10_000].map((age) => 10_000 - age));
    const workOf = (): number => [...fold.steps(log)].reduce((sum, work) => sum + work, 0);
    // Most epochs hold one update: what counts here is their number.
    for (let epoch = 0; epoch <= 10_000; epoch++)
      for (const author of late.has(epoch) ? authors.slice(1) : authors.slice(3))
        log.insert(testUpdate(long, author, epoch));
    fold.compute(log);
    for (const author of authors) log.insert(testUpdate(long, author, 10_001));
    const normal = workOf();
    for (const epoch of late) {
      log.insert(testUpdate(long, authors[0]!, epoch));
      fold.invalidate(epoch);
      assert.equal(fold.pendingRows(log), 3 + 4);
      const ratio = workOf() / normal;
      assert.ok(ratio > 0 && ratio <= 2.5, `${ratio} normal epochs at an age of ${10_001 - epoch}`);
    }
    assert.equal(adapterSha256(fold.theta()), adapterSha256(foldOnce(long, log)));
  });

  it('leaves everything as it was when a body cannot be read, and goes on once it can', () => {
    const log = new TestLog(allUpdates(run, 4));
    const fold = new Fold(run);
    fold.compute(log);
    const before = adapterSha256(fold.theta());
    const removed = log.inEpoch(2)[1]!;
    log.toggle(removed);
    fold.invalidate(2);
    let broken = true;
    const disk: FoldSource = {
      newestEpoch: 3,
      inEpoch: (epoch) => log.inEpoch(epoch),
      read: (header) => {
        if (broken && header.id === log.inEpoch(2)[2]!.id) throw new TypeError('disk');
        return log.read(header as Update);
      },
    };
    for (let i = 0; i < 2; i++) {
      assert.throws(() => fold.compute(disk), new TypeError('disk'));
      assert.equal(adapterSha256(fold.theta()), before);
      assert.ok(fold.pendingRows(disk) > 0);
    }
    broken = false;
    assert.equal(hashOf(fold, disk), foldHash(run, log.updates));
  });

  it('lets no scale in that is not finite', () => {
    const update = testUpdate(run, testIdentity(0), 0);
    for (const high of [0x7c, 0x7e, 0xfc]) {
      const scales = Uint8Array.from(update.scales);
      scales[3] = high;
      const log = new TestLog([{ ...update, scales }]);
      assert.throws(() => foldOnce(run, log), RangeError);
    }
  });

  it('goes on from a base with the bits that it would have from the start', () => {
    const log = new TestLog(updates);
    const below = (epoch: number): FoldSource & { sum: Float64Array; epoch: number } => {
      const part = new TestLog(updates.filter((update) => update.epoch < epoch));
      const fold = new Fold(run);
      fold.compute(part);
      return Object.assign(part, { sum: fold.sum(), epoch });
    };
    const base = below(20);
    const later = new TestLog(updates.filter(({ epoch }) => epoch >= 20));
    assert.equal(hashOf(new Fold(run, new EpochFold(run), base), later), expected);
    for (const isSame of [true, false]) {
      const fold = new Fold(run);
      fold.compute(log);
      fold.rebase(base, { isSame });
      assert.equal(fold.pendingRows(later), isSame ? 0 : 16 * PEERS);
      fold.invalidate(3);
      assert.equal(hashOf(fold, later), expected);
    }
    // Half-way, and with an epoch below the base that has changed since.
    for (let stop = 0; stop < 200; stop += 7) {
      const fold = new Fold(run);
      const steps = fold.steps(log);
      for (let i = 0; i < stop; i++) steps.next();
      if (stop % 2 === 0) fold.invalidate(1);
      fold.rebase(base, { isSame: true });
      assert.equal(hashOf(fold, later), expected);
    }
  });

  it('refuses a base that is no sum of steps', () => {
    const size = adapterSize(run);
    const bad = [0.5, -0, NaN, Infinity, 2 * 2 ** 35 + 1].map((value) => {
      const sum = new Float64Array(size);
      sum[7] = value;
      return sum;
    });
    for (const sum of [...bad, new Float64Array(size - 1)])
      assert.throws(() => new Fold(run, new EpochFold(run), { epoch: 2, sum }), RangeError);
    const most = new Float64Array(size).fill(-2 * 2 ** 35);
    assert.ok(new Fold(run, new EpochFold(run), { epoch: 2, sum: most }).theta()[7]! > 15);
  });

  it('of a union is the fold of a log that was never parted', () => {
    fc.assert(
      fc.property(fc.subarray(updates), fc.subarray(updates), (a, b) => {
        const whole = updates.filter((update) => a.includes(update) || b.includes(update));
        assert.equal(foldHash(run, [...a, ...b]), foldHash(run, whole));
        assert.equal(foldHash(run, [...b, ...a]), foldHash(run, whole));
      }),
      { numRuns: 20 },
    );
  });

  it('of a log with an evicted author is the fold of a log without what it sent from the fork on', () => {
    const cheat = testIdentity(2);
    const second = testUpdate(run, cheat, 7, { salt: 'another' });
    const log = new UpdateLog();
    const fold = new Fold(run);
    for (const update of updates) log.insert(update);
    fold.compute(log);
    const result = log.insert(second);
    assert.ok(result.kind === 'evicted' && result.changed.length > 0);
    for (const epoch of result.changed) fold.invalidate(epoch);
    const without = updates.filter(({ author, epoch }) => author !== cheat.peerId || epoch < 7);
    assert.equal(hashOf(fold, log), foldHash(run, without));
  });

  it('without any update is the initial adapter', () => {
    const theta = foldOnce(run, new TestLog());
    assert.deepEqual(theta, initialAdapter(run.manifest.adapter));
  });

  it('changes with every update: no update is left out', () => {
    const some = updates.filter(({ epoch }) => epoch < 3);
    const all = foldHash(run, some);
    for (const left of some) {
      assert.notEqual(
        foldHash(
          run,
          some.filter((update) => update !== left),
        ),
        all,
      );
    }
  });

  it('subtracts the weighted mean of the rows, with stale rows at 2 / lag', () => {
    const weighted = testRun((manifest) => ({
      ...manifest,
      fold: { ...manifest.fold, clip: 0, alpha: [{ fromEpoch: 0, numerator: 2, denominator: 3 }] },
      membership: {
        mode: 'allowlist',
        members: [0, 1].map((i) => ({ peerId: testIdentity(i).peerId, weight: 1 + 2 * i })),
      },
    }));
    const [a, b] = [
      testUpdate(weighted, testIdentity(0), 6),
      testUpdate(weighted, testIdentity(1), 6, { baseEpoch: 1 }),
    ];
    const [x, y] = [row(weighted, a), row(weighted, b)];
    for (const [i, value] of movedBy(weighted, [a, b]).entries()) {
      const mean = (1 * 1 * x[i]! + 3 * (2 / 5) * y[i]!) / 4;
      assert.ok(Math.abs(value - (2 / 3) * mean) <= 0.5 / GRID + 1e-15);
    }
  });

  it('lets one attacker move an epoch by no more than an equal share of the clip bound', () => {
    const honest = [0, 1, 2, 3].map((i) => testUpdate(run, testIdentity(i), 0));
    const attack = testUpdate(run, testIdentity(4), 0, { size: 1000 });
    const bound = Math.max(...honest.map((update) => norm(row(run, update))));
    const moved = movedBy(run, [...honest, attack]);
    const without = movedBy(run, honest);
    // Weighted mean of five: the four honest rows keep 4/5 of their say.
    const influence = norm(moved.map((value, i) => value - 0.8 * without[i]!));
    assert.ok(influence <= (bound / 5) * 1.01, `${influence} against ${bound / 5}`);
    const unclipped = movedBy(
      withFold({ clip: 0 }),
      [...honest, attack].map(({ epoch }, i) =>
        testUpdate(withFold({ clip: 0 }), testIdentity(i), epoch, { size: i === 4 ? 1000 : 1 }),
      ),
    );
    // Without clipping only the grid's bound on one step is left.
    assert.ok(norm(unclipped) > 10 * bound);
    assert.ok(unclipped.every((value) => Math.abs(value) <= 8));
  });

  it('of identical rows is that row', () => {
    const same = [0, 1, 2].map((i) => {
      const update = testUpdate(run, testIdentity(i), 0);
      const { scales, codes } = testUpdate(run, testIdentity(0), 0);
      return { ...update, scales, codes };
    });
    const x = row(run, same[0]!);
    for (const [i, value] of movedBy(run, same).entries())
      assert.ok(Math.abs(value - x[i]!) <= 0.5 / GRID + 1e-15);
  });
});

describe('staleness()', () => {
  it('is 1 up to a lag of 2, then 2 / lag', () => {
    const lags = [0, 1, 2, 3, 8].map((lag) => staleness({ epoch: 10, baseEpoch: 10 - lag }));
    assert.deepEqual(lags, [1, 1, 1, 2 / 3, 2 / 8]);
  });
});
