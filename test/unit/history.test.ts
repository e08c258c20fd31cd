import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  EpochHistory,
  HISTORY_ROWS_MAX,
  historyRowSchema,
  type HistoryRow,
} from '../../node/history.js';
import type { StatusReport } from '../../node/status.js';
import { sampleStatus } from './status-sample.js';

const NOW = new Date('2030-01-02T03:04:05.000Z');

function heldOut(fields: Partial<StatusReport['heldOutLoss']>): StatusReport['heldOutLoss'] {
  return { base: 4.25, now: null, personal: null, personalEpoch: null, history: [], ...fields };
}

/** The sample at `epoch` after `step` steps. */
function at(epoch: number, step: number, fields: Partial<StatusReport> = {}): StatusReport {
  const sample = sampleStatus();
  return {
    ...sample,
    run: { ...sample.run, epoch },
    training: { ...sample.training, step, loss: 4 - epoch / 10 },
    heldOutLoss: heldOut({ now: 4, history: [{ epoch, loss: 3.5 - epoch / 10 }] }),
    traffic: { ...sample.traffic, bytesIn: { total: 100 * (step + 1) }, bytesOut: { total: step } },
    ...fields,
  };
}

function history(rows: HistoryRow[] = []): { history: EpochHistory; written: HistoryRow[] } {
  const written: HistoryRow[] = [];
  return { history: new EpochHistory(rows, (row) => written.push(row)), written };
}

describe('EpochHistory', () => {
  it('makes one row of each epoch, with what happened in that epoch alone', () => {
    const { history: made, written } = history();
    for (const [epoch, step] of [
      [-1, 0],
      [0, 0],
      [0, 5],
      [0, 10],
      [1, 10],
      [1, 12],
      [2, 12],
    ] as const) {
      made.observe(at(epoch, step), NOW);
    }
    assert.deepEqual(
      made.rows.map(({ epoch, steps, trainingLoss, heldOutLoss, bytesIn, bytesOut }) => ({
        ...{ epoch, steps, trainingLoss, heldOutLoss, bytesIn, bytesOut },
      })),
      [
        { epoch: 0, steps: 10, trainingLoss: 4, heldOutLoss: 3.5, bytesIn: 1000, bytesOut: 10 },
        { epoch: 1, steps: 2, trainingLoss: 3.9, heldOutLoss: 3.4, bytesIn: 200, bytesOut: 2 },
      ],
    );
    assert.deepEqual(written, made.rows);
    for (const row of written) historyRowSchema.parse(row);
  });

  it('has no training loss for an epoch in which nothing was trained', () => {
    const { history: made } = history();
    made.observe(at(3, 31), NOW);
    made.finish();
    assert.equal(made.rows[0]?.trainingLoss, null);
    assert.equal(made.rows[0].tokensPerSecond, null);
  });

  it('a restart in the middle of an epoch keeps what the earlier process saw of it', () => {
    const before = history();
    before.history.observe(at(2, 20), NOW);
    before.history.observe(at(2, 30), NOW);
    before.history.finish();
    const { history: after } = history(before.written);
    after.observe(at(2, 30), NOW);
    after.observe(at(3, 30), NOW);
    assert.deepEqual(after.rows, before.written);
    after.observe(at(3, 40), NOW);
    after.finish();
    assert.deepEqual(
      after.rows.map(({ epoch, steps }) => [epoch, steps]),
      [
        [2, 10],
        [3, 10],
      ],
    );
  });

  it('takes the loss of the last epoch when it is measured after the end', () => {
    const { history: made, written } = history();
    made.observe(at(19, 40, { heldOutLoss: heldOut({}) }), NOW);
    const over = at(20, 40, {
      heldOutLoss: heldOut({ now: 2, history: [{ epoch: 19, loss: 2 }] }),
    });
    over.run.state = 'finished';
    made.observe(over, NOW);
    made.observe(over, NOW);
    assert.deepEqual(
      written.map(({ epoch, heldOutLoss }) => [epoch, heldOutLoss]),
      [
        [19, null],
        [19, 2],
      ],
    );
    assert.equal(made.rows.length, 1);
  });

  it('has the personal loss of the epoch whose steps it is of, also when that is over by then', () => {
    const { history: made, written } = history();
    const personalOf = (epoch: number, personalEpoch: number, personal: number): StatusReport =>
      at(epoch, 10 * epoch, {
        heldOutLoss: heldOut({ personal, personalEpoch }),
      });
    made.observe(personalOf(4, 3, 2.5), NOW);
    made.observe(personalOf(4, 4, 2.25), NOW);
    made.observe(personalOf(5, 4, 2.25), NOW);
    made.observe(personalOf(6, 4, 2.25), NOW);
    made.observe(personalOf(6, 5, 2), NOW);
    made.observe(personalOf(6, 5, 2), NOW);
    assert.deepEqual(
      written.map(({ epoch, heldOutPersonal }) => [epoch, heldOutPersonal]),
      [
        [4, 2.25],
        [5, null],
        [5, 2],
      ],
    );
    const { heldOutPersonal, ...earlier } = written[0] ?? assert.fail();
    assert.equal(heldOutPersonal, 2.25);
    assert.equal(historyRowSchema.parse(earlier).heldOutPersonal, null, 'of an earlier version');
  });

  it('stays bounded, from the first epoch to the last', () => {
    const { history: seed } = history();
    seed.observe(at(0, 1), NOW);
    seed.finish();
    const row = seed.rows[0];
    assert.ok(row);
    const many = Array.from({ length: 3 * HISTORY_ROWS_MAX }, (_, epoch) => ({ ...row, epoch }));
    const { rows } = history(many).history;
    assert.ok(rows.length <= HISTORY_ROWS_MAX && rows.length > HISTORY_ROWS_MAX / 2);
    assert.equal(rows[0]?.epoch, 0);
    assert.equal(rows.at(-1)?.epoch, many.length - 1);
  });
});
