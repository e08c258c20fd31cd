import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { toHex } from '../../../protocol/bytes.js';
import { UpdateRejectedError } from '../../../protocol/errors.js';
import { AUTHORS_MAX } from '../../../protocol/limits.js';
import { equivocationProof, UpdateLog } from '../../../protocol/log.js';
import { testIdentity, testRun, testUpdate } from '../../support/runs.js';

const run = testRun();
const updates = [0, 1, 2].flatMap((peer) =>
  [0, 1, 2, 3, 4].map((epoch) => testUpdate(run, testIdentity(peer), epoch)),
);

function logOf(list: Iterable<(typeof updates)[number]>): UpdateLog {
  const log = new UpdateLog();
  for (const update of list) log.insert(update);
  return log;
}

describe('UpdateLog', () => {
  it('is a set: order and repetition do not change its digest, each member does', () => {
    const digest = toHex(logOf(updates).digest());
    fc.assert(
      fc.property(fc.shuffledSubarray(updates), fc.subarray(updates), (list, again) => {
        const log = logOf([...list, ...again]);
        const isWhole = new Set([...list, ...again]).size === updates.length;
        assert.equal(toHex(log.digest()) === digest, isWhole);
        assert.equal(log.size, new Set([...list, ...again]).size);
      }),
    );
  });

  it('says what was added and what was there', () => {
    const log = new UpdateLog();
    assert.equal(log.newestEpoch, -1);
    assert.deepEqual(log.insert(updates[3]!), { kind: 'added' });
    assert.deepEqual(log.insert(updates[3]!), { kind: 'duplicate' });
    assert.equal(log.newestEpoch, 3);
    assert.deepEqual(log.epochsOf(updates[3]!.author), [3]);
  });

  it('lists an epoch in ascending order of peer id', () => {
    const authors = logOf(updates.toReversed())
      .inEpoch(2)
      .map(({ author }) => author);
    assert.deepEqual(authors, authors.toSorted());
    assert.equal(authors.length, 3);
  });

  it('evicts an author of two updates for one epoch, and refuses it from then on', () => {
    const log = logOf(updates);
    const second = testUpdate(run, testIdentity(1), 2, { salt: 'x' });
    const result = log.insert(second);
    assert.equal(result.kind, 'evicted');
    assert.equal(result.fromEpoch, 0);
    assert.equal(log.size, 10);
    assert.deepEqual(log.epochsOf(second.author), []);
    assert.throws(
      () => log.insert(testUpdate(run, testIdentity(1), 7)),
      (error) => error instanceof UpdateRejectedError && error.code === 'evicted',
    );
  });

  it('holds one proof and one digest whichever update came first', () => {
    const [a, b] = [updates[5]!, testUpdate(run, testIdentity(1), 0, { salt: 'x' })];
    const [one, two] = [
      logOf([...updates, b]),
      logOf([b, ...updates.filter((u) => u.author !== a.author), a]),
    ];
    assert.deepEqual(one.proofs(), two.proofs());
    assert.equal(toHex(one.digest()), toHex(two.digest()));
  });

  it('takes a proof against an author that it has never met', () => {
    const log = new UpdateLog();
    const [a, b] = [updates[0]!, testUpdate(run, testIdentity(0), 0, { salt: 'x' })];
    assert.equal(log.evict(equivocationProof(a, b)), Infinity);
    assert.equal(log.evict(equivocationProof(b, a)), null);
    assert.throws(() => log.insert(a), UpdateRejectedError);
  });

  it('is after a cut as if it had begun there, also when it was asked for everything before', () => {
    const [cut, fresh] = [logOf(updates), new UpdateLog()];
    const gone = updates.filter(({ epoch, author }) => epoch < 3 || author === updates[0]!.author);
    const kept = updates.filter((update) => !gone.includes(update));
    // An author who has left has updates before the cut only.
    const log = logOf(updates.filter((update) => kept.includes(update) || update.epoch < 3));
    const look = (one: UpdateLog): unknown => ({
      authors: one.authors(),
      epochs: updates.map(({ author }) => one.epochsOf(author)),
      digest: toHex(one.digest()),
      byId: updates.map(({ id }) => one.withId(id)?.id),
      byBody: updates.map(({ bodyRoot }) => one.withBody(toHex(bodyRoot))?.id),
      sizes: [one.size, one.newestEpoch, one.floor, ...[0, 2, 3].map((e) => one.countIn(e))],
    });
    look(log);
    log.setFloor(3);
    fresh.setFloor(3);
    for (const update of kept) fresh.insert(update);
    assert.equal(fresh.authors().length, 2);
    assert.deepEqual(look(log), look(fresh));
    cut.setFloor(5);
    assert.deepEqual([cut.size, cut.authors(), cut.newestEpoch], [0, [], 4]);
  });

  it(`holds ${AUTHORS_MAX} authors and no more`, () => {
    const log = new UpdateLog();
    for (let i = 0; i < AUTHORS_MAX; i++) {
      log.insert({ ...updates[0]!, author: `author ${i}`, id: String(i).padStart(64, '0') });
    }
    assert.throws(
      () => log.insert(updates[0]!),
      (error) => error instanceof UpdateRejectedError && error.code === 'capacity',
    );
    assert.equal(log.size, AUTHORS_MAX);
  });
});
