import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  checkpointEpochAt,
  describeTheta,
  initialCheckpoint,
  nextCheckpoint,
  pieceOf,
  type Checkpoint,
} from '../../../protocol/checkpoint.js';
import { CheckpointTransfer } from '../../../protocol/checkpoint-transfer.js';
import { adapterSha256, initialAdapter } from '../../../protocol/adapter.js';
import { EpochFold } from '../../../protocol/epoch-fold.js';
import { SyncProtocolError, UpdateRejectedError } from '../../../protocol/errors.js';
import { Fold, foldOnce } from '../../../protocol/fold.js';
import { UpdateLog } from '../../../protocol/log.js';
import { adapterSize, testIdentity, testRun, testUpdate } from '../../support/runs.js';

/** Cuts every third epoch. */
const run = testRun((manifest) => ({
  ...manifest,
  fold: { ...manifest.fold, horizonEpochs: 12 },
}));
const updates = [0, 1, 2].flatMap((author) =>
  Array.from({ length: 20 }, (_, epoch) => testUpdate(run, testIdentity(author), epoch)),
);

function logOf(list: readonly (typeof updates)[number][]): UpdateLog {
  const log = new UpdateLog();
  for (const update of list) log.insert(update);
  return log;
}

function cut(log: UpdateLog, until: number): Checkpoint {
  let checkpoint = initialCheckpoint(run);
  while (checkpoint.epoch < until) {
    const steps = nextCheckpoint(run, checkpoint, log);
    let step = steps.next();
    while (step.done !== true) step = steps.next();
    checkpoint = step.value;
  }
  return checkpoint;
}

describe('checkpoints', () => {
  it('are equal for equal sets, whatever the order, and differ for different ones', () => {
    const checkpoint = cut(logOf(updates), 9);
    assert.deepEqual(cut(logOf(updates.toReversed()), 9), checkpoint);
    assert.equal(checkpoint.contributions, 27);
    assert.equal(checkpoint.ancestors.at(-1), run.id);
    const fewer = cut(logOf(updates.slice(1)), 9);
    assert.notEqual(fewer.digest, checkpoint.digest);
    assert.notEqual(fewer.thetaSha256, checkpoint.thetaSha256);
  });

  it('give the fold the bits that it has from theta0, and the log no way back', () => {
    const log = logOf(updates);
    const whole = foldOnce(run, log);
    const live = new Fold(run);
    live.compute(log);
    const checkpoint = cut(log, 9);
    log.setFloor(checkpoint.epoch);
    assert.equal(log.size, 33);
    const base = { epoch: checkpoint.epoch, sum: checkpoint.theta };
    const later = new Fold(run, new EpochFold(run), base);
    const thetaOf = (fold: Fold): Float32Array => {
      fold.compute(log);
      return fold.theta();
    };
    assert.deepEqual(thetaOf(later), whole);
    live.rebase(base, { isSame: true });
    assert.deepEqual(thetaOf(live), whole);
    live.invalidate(10);
    assert.deepEqual(thetaOf(live), whole);
    live.rebase(base, { isSame: false });
    assert.deepEqual(thetaOf(live), whole);
    assert.throws(
      () => log.insert(testUpdate(run, testIdentity(0), 8)),
      (error) => error instanceof UpdateRejectedError && error.code === 'behind-horizon',
    );
  });

  it('lie at multiples of a quarter of the horizon, and stand still after the last epoch', () => {
    const epochs = [0, 11, 14, 15, 17, 18, 39, 40, 500].map((epoch) =>
      checkpointEpochAt(run.manifest.fold, epoch, 40),
    );
    assert.deepEqual(epochs, [0, 0, 0, 3, 3, 6, 27, 27, 27]);
    assert.equal(checkpointEpochAt(run.manifest.fold, 50, 60), 36, 'an amended run goes on');
    assert.equal(checkpointEpochAt(testRun().manifest.fold, 1000, 40), 0);
  });
});

describe('CheckpointTransfer', () => {
  /** 2 x 40,000 coordinates are three pieces, the last of which is short. */
  const large = testRun((manifest) => {
    const modules = [{ name: 'up_proj', inFeatures: 20_000, outFeatures: 20_000 }];
    const adapter = { ...manifest.adapter, modules };
    const initialSha256 = adapterSha256(initialAdapter(adapter));
    return {
      ...manifest,
      adapter: { ...adapter, initialSha256 },
      fold: { ...manifest.fold, horizonEpochs: 12 },
    };
  });
  const sum = Float64Array.from({ length: adapterSize(large) }, (_, i) => i);
  const source = { ...initialCheckpoint(large), epoch: 3, ...describeTheta(sum) };

  it('takes pieces in any order from several members, and gives the very checkpoint', () => {
    const transfer = new CheckpointTransfer(source, adapterSize(large));
    const first = transfer.reserve(2);
    assert.deepEqual(first?.pieces, [0, 1]);
    const second = transfer.reserve(2);
    assert.deepEqual(second?.pieces, [2]);
    assert.equal(transfer.reserve(2), null);
    // The first stream breaks; its pieces may be asked for again.
    transfer.release(first);
    assert.deepEqual(transfer.reserve(9)?.pieces, [0, 1]);
    transfer.addHashes(source.pieceHashes);
    for (const index of [2, 0, 1]) {
      assert.equal(transfer.complete(), null);
      transfer.addPiece(index, pieceOf(source.theta, index));
    }
    assert.deepEqual(transfer.complete(), source);
  });

  it('refuses hashes and pieces that are not those that were stated', () => {
    const transfer = new CheckpointTransfer(source, adapterSize(large));
    const piece = Uint8Array.from(pieceOf(source.theta, 1));
    assert.throws(() => transfer.addPiece(1, piece), SyncProtocolError, 'without hashes');
    assert.throws(() => transfer.addHashes(source.pieceHashes.slice(32)), SyncProtocolError);
    transfer.addHashes(source.pieceHashes);
    assert.throws(() => transfer.addPiece(0, piece), SyncProtocolError, 'of another place');
    assert.throws(() => transfer.addPiece(3, piece), SyncProtocolError, 'beyond the end');
    piece[7] = (piece[7] ?? 0) ^ 1;
    assert.throws(() => transfer.addPiece(1, piece), SyncProtocolError, 'one bit is another');
    assert.equal(transfer.progress.pieces, 0);
  });
});
