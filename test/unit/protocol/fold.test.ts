import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { adapterSha256, initialAdapter } from '../../../protocol/adapter.js';
import { staleness } from '../../../protocol/epoch-fold.js';
import { Fold } from '../../../protocol/fold.js';
import { UpdateLog } from '../../../protocol/log.js';
import type { Manifest, Run } from '../../../protocol/manifest.js';
import { dequantise } from '../../../protocol/quantise.js';
import { norm } from '../../../protocol/residual.js';
import { Slicer } from '../../../protocol/slice.js';
import type { Update } from '../../../protocol/update.js';
import { testIdentity, testRun, testUpdate } from '../../support/runs.js';

const PEERS = 5;
const EPOCHS = 36;

function foldHash(run: Run, updates: Iterable<Update>): string {
  return adapterSha256(Float32Array.from(foldOf(run, updates)));
}

function foldOf(run: Run, updates: Iterable<Update>): Float64Array {
  const log = new UpdateLog();
  for (const update of updates) log.insert(update);
  return new Fold(run).compute(log).slice();
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
  return dequantise(update, new Slicer(run).slice(update.epoch));
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
        (shuffled, repeated) => assert.equal(foldHash(run, [...shuffled, ...repeated]), expected),
      ),
      { numRuns: 20 },
    );
  });

  it('gives the same hash when updates arrive between computations, late ones included', () => {
    fc.assert(
      fc.property(
        fc.shuffledSubarray(updates, { minLength: updates.length }),
        fc.integer({ min: 1, max: 60 }),
        (shuffled, every) => {
          const log = new UpdateLog();
          const fold = new Fold(run);
          for (const [i, update] of shuffled.entries()) {
            log.insert(update);
            fold.invalidate(update.epoch);
            if (i % every === 0) fold.compute(log);
          }
          assert.equal(adapterSha256(Float32Array.from(fold.compute(log))), expected);
        },
      ),
      { numRuns: 20 },
    );
  });

  it('in pieces gives the same hash, whatever comes or is computed between two of them', () => {
    fc.assert(
      fc.property(
        fc.shuffledSubarray(updates, { minLength: updates.length }),
        fc.array(fc.nat(12), { minLength: 8, maxLength: 8 }),
        (shuffled, pauses) => {
          const log = new UpdateLog();
          const fold = new Fold(run);
          const rest = [...shuffled];
          const hear = (count: number): void => {
            for (const update of rest.splice(0, count)) {
              log.insert(update);
              fold.invalidate(update.epoch);
            }
          };
          for (let i = 0; rest.length > 0; i++) {
            hear(30);
            let pieces = 0;
            for (const coordinates of fold.steps(log)) {
              assert.ok(coordinates > 0);
              pieces += 1;
              if (pieces % 7 === 0) hear(pauses[i % pauses.length] ?? 0);
              if (pieces % 50 === 0) fold.compute(log);
            }
          }
          assert.equal(fold.pendingRows(log), 0);
          assert.equal(adapterSha256(Float32Array.from(fold.compute(log))), expected);
        },
      ),
      { numRuns: 20 },
    );
  });

  it('goes through few rows again for an update of a recent epoch', () => {
    const log = new UpdateLog();
    const fold = new Fold(run);
    for (const update of updates) log.insert(update);
    fold.compute(log);
    for (const age of [0, 1, 2]) {
      fold.invalidate(EPOCHS - 1 - age);
      assert.equal(fold.pendingRows(log), (age + 1) * PEERS);
      fold.compute(log);
    }
    assert.equal(adapterSha256(Float32Array.from(fold.compute(log))), expected);
  });

  it('replays about twice the age of a late update, however long the run', () => {
    const long = testRun((m) => ({ ...m, schedule: { ...m.schedule, epochsMax: 1000 } }));
    const author = testIdentity(0);
    const log = new UpdateLog();
    const fold = new Fold(long);
    for (let epoch = 0; epoch < 700; epoch++) {
      log.insert(testUpdate(long, author, epoch));
      fold.compute(log);
    }
    for (const age of [20, 60, 150, 400]) {
      fold.invalidate(699 - age);
      const replayed = fold.pendingRows(log);
      assert.ok(replayed <= 2 * age + 32, `${replayed} rows again at an age of ${age}`);
      fold.compute(log);
    }
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

  it('of a log with an evicted author is the fold of a log without it', () => {
    const cheat = testIdentity(2);
    const second = testUpdate(run, cheat, 7, { salt: 'another' });
    const log = new UpdateLog();
    const fold = new Fold(run);
    for (const update of updates) log.insert(update);
    fold.compute(log);
    const result = log.insert(second);
    assert.equal(result.kind, 'evicted');
    fold.invalidate(result.fromEpoch);
    const without = updates.filter(({ author }) => author !== cheat.peerId);
    assert.equal(adapterSha256(Float32Array.from(fold.compute(log))), foldHash(run, without));
  });

  it('without any update is the initial adapter', () => {
    const theta = Float32Array.from(foldOf(run, []));
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
    const theta = foldOf(weighted, [a, b]);
    const theta0 = initialAdapter(weighted.manifest.adapter);
    const [x, y] = [row(weighted, a), row(weighted, b)];
    for (const [i, value] of theta.entries()) {
      const mean = (1 * 1 * x[i]! + 3 * (2 / 5) * y[i]!) / 4;
      assert.ok(Math.abs(value - (theta0[i]! - (2 / 3) * mean)) < 1e-12);
    }
  });

  it('lets one attacker move an epoch by no more than an equal share of the clip bound', () => {
    const honest = [0, 1, 2, 3].map((i) => testUpdate(run, testIdentity(i), 0));
    const attack = testUpdate(run, testIdentity(4), 0, { size: 1000 });
    const bound = Math.max(...honest.map((update) => norm(row(run, update))));
    const theta0 = Float64Array.from(initialAdapter(run.manifest.adapter));
    const moved = foldOf(run, [...honest, attack]).map((value, i) => value - theta0[i]!);
    const without = foldOf(run, honest).map((value, i) => value - theta0[i]!);
    // Weighted mean of five: the four honest rows keep 4/5 of their say.
    const influence = norm(moved.map((value, i) => value - 0.8 * without[i]!));
    assert.ok(influence <= (bound / 5) * 1.01, `${influence} against ${bound / 5}`);
    const unclipped = foldOf(
      withFold({ clip: 0 }),
      [...honest, attack].map(({ epoch }, i) =>
        testUpdate(withFold({ clip: 0 }), testIdentity(i), epoch, { size: i === 4 ? 1000 : 1 }),
      ),
    );
    assert.ok(norm(unclipped.map((value, i) => value - theta0[i]!)) > 100 * bound);
  });

  it('of identical rows is that row', () => {
    const same = [0, 1, 2].map((i) => {
      const update = testUpdate(run, testIdentity(i), 0);
      const { scales, codes } = testUpdate(run, testIdentity(0), 0);
      return { ...update, scales, codes };
    });
    const theta0 = initialAdapter(run.manifest.adapter);
    const x = row(run, same[0]!);
    for (const [i, value] of foldOf(run, same).entries()) {
      assert.ok(Math.abs(value - (theta0[i]! - x[i]!)) < 1e-12);
    }
  });
});

describe('staleness()', () => {
  it('is 1 up to a lag of 2, then 2 / lag', () => {
    const lags = [0, 1, 2, 3, 8].map((lag) => staleness({ epoch: 10, baseEpoch: 10 - lag }));
    assert.deepEqual(lags, [1, 1, 1, 2 / 3, 2 / 8]);
  });
});
