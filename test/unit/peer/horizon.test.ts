/** The weight of what a peer owes after a rebase, its parts, and what is kept of them on disk. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Horizon } from '../../../node/peer/horizon.js';
import { debtOf, shareOfWork } from '../../../node/peer/rebase.js';
import { initialCheckpoint, pieceOf, type Checkpoint } from '../../../protocol/checkpoint.js';
import { EpochFold } from '../../../protocol/epoch-fold.js';
import { UpdateLog } from '../../../protocol/log.js';
import { GRID } from '../../../protocol/grid.js';
import { norm } from '../../../protocol/residual.js';
import { adapterSize, testIdentity, testRun, testUpdate } from '../../support/runs.js';

/** Cuts every third epoch. */
const run = testRun((manifest) => ({
  ...manifest,
  fold: { ...manifest.fold, horizonEpochs: 12 },
}));
const SIZE = adapterSize(run);
const never = new AbortController().signal;

/** A peer by itself whose clock says 21, so that its checkpoint is that of epoch 9. */
async function lonely(index: number, epochs: readonly number[]): Promise<Horizon> {
  const log = new UpdateLog();
  const identity = testIdentity(index);
  for (const epoch of epochs) log.insert(testUpdate(run, identity, epoch));
  const horizon = newHorizon(log, identity.peerId);
  await horizon.cut(never);
  return horizon;
}

function newHorizon(log = new UpdateLog(), self = testIdentity(0).peerId): Horizon {
  const [epochNow, epochsMax] = [(): number => 21, (): number => 40];
  const onCheckpoint = (): void => undefined;
  return new Horizon({
    ...{ run, rows: new EpochFold(run), log, epochNow, epochsMax, self, onCheckpoint },
  });
}

/** Lets `horizon` adopt what two members state. */
function adopt(horizon: Horizon, checkpoint: Checkpoint): void {
  for (const member of ['b', 'c']) horizon.note(member, checkpoint);
  assert.deepEqual(horizon.poll(['b', 'c'], 0), ['b', 'c']);
  assert.ok(horizon.isBehind);
  const { wish, transfer } = horizon.wishFor('b') ?? assert.fail('nothing is wished for');
  transfer.addHashes(checkpoint.pieceHashes);
  for (const index of wish.pieces) transfer.addPiece(index, pieceOf(checkpoint.theta, index));
  horizon.adopt(transfer);
  assert.equal(horizon.checkpoint.digest, checkpoint.digest);
}

const ALL = [0, 1, 2, 3, 4, 5, 6, 7, 8];

describe('what is owed after a rebase', () => {
  it('is m / n of theirs - mine, for m updates in the n epochs since a common checkpoint', async () => {
    const theirs = (await lonely(1, ALL)).checkpoint;
    for (const epochs of [[1, 3, 4, 8], ALL]) {
      const horizon = await lonely(0, epochs);
      const mine = horizon.checkpoint;
      adopt(horizon, theirs);
      const weight = epochs.length / 9;
      const expected = mine.theta.map(
        (value, i) => weight * ((value - (theirs.theta[i] ?? 0)) / GRID),
      );
      assert.deepEqual(horizon.stored.debt?.vector, expected);
    }
  });

  it('is nothing for who was absent, and for a newcomer', async () => {
    const theirs = (await lonely(1, ALL)).checkpoint;
    const absent = newHorizon();
    const log = new UpdateLog();
    for (const epoch of ALL) log.insert(testUpdate(run, testIdentity(2), epoch));
    const reader = newHorizon(log);
    await reader.cut(never);
    for (const horizon of [absent, reader]) {
      adopt(horizon, theirs);
      assert.equal(horizon.stored.debt, null);
    }
  });

  it('counts the updates since the newest common checkpoint only', () => {
    const [mine, theirs] = [initialCheckpoint(run), initialCheckpoint(run)];
    const own = [2, 1, 3, 3];
    const share = (ours: string[], others: string[]): number => {
      return shareOfWork({ ...mine, ancestors: ours }, { ...theirs, ancestors: others }, own, 3);
    };
    assert.equal(share(['p', 'q', 'r'], ['p', 'q', 'r']), 2 / 3);
    assert.equal(share(['x', 'q', 'r'], ['y', 'q', 'r']), 3 / 6);
    assert.equal(share(['x', 'y', 'r'], ['u', 'v', 'r']), 6 / 9);
    assert.equal(share(['x', 'y', 'z'], ['u', 'v', 'w']), 6 / 9, 'none is common');
  });

  it('adds to what was still owed', () => {
    const [mine, theirs] = [initialCheckpoint(run), initialCheckpoint(run)];
    const other = { ...theirs, theta: theirs.theta.map((value) => value - 8 * GRID) };
    const first = debtOf(null, mine, other, 0.5);
    assert.deepEqual(debtOf(first, mine, other, 0), first);
    const sum = debtOf(first, mine, other, 0.25)?.vector ?? assert.fail('a debt');
    assert.ok(sum.every((value) => Math.abs(value - 6) < 1e-9));
  });
});

describe('parts of a debt', () => {
  const vector = Float64Array.from({ length: SIZE }, (_, i) => Math.sin(i) * 3);
  const checkpoint = { ...initialCheckpoint(run), epoch: 9, contributions: 5 };

  function owing(): Horizon {
    const horizon = newHorizon();
    horizon.restore({ checkpoint, own: [3], debt: { name: 'a b', vector } }, null);
    return horizon;
  }

  it('are no longer than the update that they go with, and sum to the debt', () => {
    const horizon = owing();
    const sum = new Float64Array(SIZE);
    const lengthMax = norm(vector) / 3.5;
    let parts = 0;
    for (let part = horizon.takeDebt(lengthMax); part; part = horizon.takeDebt(lengthMax)) {
      parts += 1;
      assert.ok(norm(part.vector) <= lengthMax * (1 + 1e-12));
      part.vector.forEach((value, i) => (sum[i] = (sum[i] ?? 0) + value));
    }
    assert.equal(parts, 4);
    sum.forEach((value, i) => assert.ok(Math.abs(value - (vector[i] ?? 0)) < 1e-12));
    assert.equal(horizon.stored.debt, null);
  });

  it('are paid once, whether or not the rest was on disk before a restart', () => {
    let horizon = owing();
    const lengthMax = norm(vector) / 10;
    let stored = horizon.stored;
    let paid = 0;
    for (let restart = 0; restart < 4; restart++) {
      const part = horizon.takeDebt(lengthMax);
      paid += norm(part?.vector ?? new Float64Array());
      stored = horizon.stored;
      horizon = newHorizon();
      horizon.restore(stored, part?.name ?? null);
      const left = norm(horizon.stored.debt?.vector ?? new Float64Array());
      assert.ok(Math.abs(paid + left - norm(vector)) < 1e-9, `restart ${restart}`);
    }
    // The part is in the state on disk, the rest is not in the checkpoint there yet.
    const part = horizon.takeDebt(lengthMax);
    horizon = newHorizon();
    horizon.restore(stored, part?.name ?? null);
    assert.equal(horizon.takeDebt(lengthMax), null);
  });
});
