import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { HistoryRow } from '../../../node/history.js';
import { curvesOf, lastEpochShown, lastOf } from '../../../node/http/page/curves.js';
import { linkOf } from '../../../node/http/page/model.js';
import * as words from '../../../node/http/page/words.js';
import { sampleStatus } from '../status-sample.js';

function row(epoch: number, fields: Partial<HistoryRow> = {}): HistoryRow {
  return {
    time: '2030-01-02T03:04:05.000Z',
    epoch,
    trainingLoss: 5 - epoch,
    heldOutLoss: 4 - epoch,
    heldOutBase: 4.25,
    heldOutPersonal: null,
    steps: 10,
    tokensPerSecond: 100 + epoch,
    updates: 3,
    members: 2,
    bytesIn: 1,
    bytesOut: 1,
    rejected: 0,
    epsilon: null,
    ...fields,
  };
}

describe('curves of the page', () => {
  it('join what earlier processes saw with what the status knows, which counts where both do', () => {
    const report = sampleStatus();
    const history = [{ epoch: 2, loss: 1 }];
    report.heldOutLoss = { base: 4.25, now: 1, personal: 0.5, personalEpoch: 2, history };
    const rows = [row(0, { heldOutPersonal: 3.5 }), row(1, { trainingLoss: null })];
    const curves = curvesOf(rows, report);
    assert.deepEqual(curves, {
      epochs: [0, 1, 2],
      base: [4.25, 4.25, 4.25],
      training: [5, null, null],
      swarm: [4, 3, 1],
      personal: [3.5, null, 0.5],
      tokensPerSecond: [100, 101, null],
    });
    assert.equal(lastOf(curves.training), 5);
    assert.equal(lastOf([]), null);
  });

  it('stand on an axis that does not move in a short run, and moves in steps in a long one', () => {
    const at = (epoch: number, epochsMax: number): number =>
      lastEpochShown(curvesOf([row(0), row(epoch)], sampleStatus()), epochsMax);
    assert.equal(at(3, 24), 23);
    assert.equal(at(21, 24), 23);
    assert.equal(at(3, 1), 1);
    const ends = new Set(Array.from({ length: 200 }, (_, i) => at(i + 100, 100_000)));
    assert.deepEqual([...ends], [200, 300]);
    assert.equal(at(990, 995), 994);
  });
});

describe('words of the page', () => {
  it('give sizes and times in units that people read', () => {
    assert.deepEqual([0, 999, 1_000, 406_400, 999_600, 2e9].map(words.bytes), [
      ...['0 B', '999 B', '1 kB', '406 kB', '1 MB', '2 GB'],
    ]);
    assert.deepEqual([0.2, 59.4, 61, 7_322, 90_000].map(words.duration), [
      ...['0 s', '59 s', '1 min 1 s', '2 h 2 min', '1 d 1 h'],
    ]);
    assert.equal(words.loss(null), '–');
    assert.equal(words.fingerprint('0123456789abcdef0000'), '0123 4567 89ab cdef');
  });

  it('keep a code that a newer peer may have, also one with the name of a method', () => {
    assert.equal(words.rejectionInWords('sealed'), 'came after the members had agreed');
    assert.equal(words.rejectionInWords('too-green'), 'too-green');
    assert.equal(words.rejectionInWords('constructor'), 'constructor');
  });

  it('tell a relayed connection from a direct one', () => {
    const [peer] = sampleStatus().peers;
    assert.ok(peer);
    assert.equal(linkOf(peer), 'direct');
    assert.equal(linkOf({ ...peer, address: null }), 'none');
    assert.equal(
      linkOf({ ...peer, address: '/ip4/1.2.3.4/tcp/1/p2p/A/p2p-circuit/p2p/B' }),
      'relayed',
    );
  });
});
