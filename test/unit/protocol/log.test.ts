import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { toHex } from '../../../protocol/bytes.js';
import { equivocationProof, type EquivocationProof } from '../../../protocol/equivocation.js';
import { UpdateRejectedError } from '../../../protocol/errors.js';
import { AUTHORS_MAX, PROOFS_MAX } from '../../../protocol/limits.js';
import { UpdateLog } from '../../../protocol/log.js';
import { Members } from '../../../protocol/members.js';
import type { Update } from '../../../protocol/update.js';
import { testIdentity, testRun, testUpdate } from '../../support/runs.js';
import { closedRun } from '../../support/seals.js';

const run = testRun();
const updates = [0, 1, 2].flatMap((peer) =>
  [0, 1, 2, 3, 4].map((epoch) => testUpdate(run, testIdentity(peer), epoch)),
);

function logOf(list: Iterable<Update>, log = new UpdateLog()): UpdateLog {
  for (const update of list) log.insert(update);
  return log;
}

/** A proof that the author (a test identity) signed two updates for `epoch`. */
function forkAt(author: number, epoch: number): EquivocationProof {
  const [a, b] = ['a', 'b'].map((salt) => testUpdate(run, testIdentity(author), epoch, { salt }));
  return equivocationProof(a ?? assert.fail(), b ?? assert.fail());
}

function refusedAs(code: string, insert: () => unknown): void {
  assert.throws(insert, (error) => error instanceof UpdateRejectedError && error.code === code);
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
    assert.deepEqual(log.insert(updates[3]!), { kind: 'added', changed: [] });
    assert.deepEqual(log.insert(updates[3]!), { kind: 'held' });
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

  it('keeps headers alone, and gives bodies from where they are', () => {
    const log = logOf(updates);
    const { scales, codes, id, author, epoch } = updates[7]!;
    const header = log.get(author, epoch) ?? assert.fail();
    assert.equal(header.id, id);
    assert.ok(!('codes' in header) && !('scales' in header));
    assert.deepEqual(log.read(header), { scales, codes });
  });

  it('evicts an author of two updates for one epoch from that epoch on, and keeps the past', () => {
    const log = logOf(updates);
    const second = testUpdate(run, testIdentity(1), 2, { salt: 'x' });
    const result = log.insert(second);
    assert.ok(result.kind === 'evicted');
    assert.deepEqual(result.changed, [2, 3, 4]);
    assert.equal(log.size, 12);
    assert.deepEqual(log.epochsOf(second.author), [0, 1]);
    for (const epoch of [2, 7]) {
      refusedAs('evicted', () => log.insert(testUpdate(run, testIdentity(1), epoch)));
    }
    assert.equal(log.insert(updates[5]!).kind, 'held');
  });

  it('takes what an evicted author signed before the fork, whenever it comes', () => {
    const [a, b] = [updates[7]!, testUpdate(run, testIdentity(1), 2, { salt: 'x' })];
    const log = logOf([a, b, updates[5]!]);
    assert.deepEqual(log.epochsOf(a.author), [0]);
    assert.deepEqual(log.insert(updates[6]!), { kind: 'added', changed: [] });
    assert.deepEqual(log.epochsOf(a.author), [0, 1]);
  });

  it('counts the earliest proof against an author, and no later one', () => {
    const log = logOf(updates);
    assert.deepEqual(log.evict(forkAt(1, 3)), [3, 4]);
    assert.equal(log.evict(forkAt(1, 3)), null);
    assert.equal(log.evict(forkAt(1, 4)), null);
    assert.deepEqual(log.evict(forkAt(1, 1)), [1, 2]);
    assert.equal(log.evict(forkAt(1, 3)), null);
    assert.deepEqual(
      log.proofs().map(({ epoch }) => epoch),
      [1],
    );
  });

  it('comes to one set whatever the order of updates and proofs, given each of them again', () => {
    const proofs = [forkAt(1, 3), forkAt(1, 2), forkAt(0, 4)];
    const take = (log: UpdateLog, item: Update | EquivocationProof): void => {
      try {
        if ('kind' in item) log.evict(item);
        else log.insert(item);
      } catch (error) {
        assert.ok(error instanceof UpdateRejectedError && error.code === 'evicted');
      }
    };
    const items = [...updates, ...proofs];
    const expected = new UpdateLog();
    for (const item of [...items, ...items]) take(expected, item);
    assert.equal(expected.size, 15 - 3 - 1);
    const whole = { minLength: items.length };
    fc.assert(
      fc.property(fc.shuffledSubarray(items, whole), fc.shuffledSubarray(items, whole), (x, y) => {
        const log = new UpdateLog();
        for (const item of [...x, ...y]) take(log, item);
        assert.equal(toHex(log.digest()), toHex(expected.digest()));
        assert.deepEqual(
          log
            .proofs()
            .map(({ author, epoch }) => `${author} ${epoch}`)
            .sort(),
          [
            ...expected
              .proofs()
              .map(({ author, epoch }) => `${author} ${epoch}`)
              .sort(),
          ],
        );
      }),
      { numRuns: 50 },
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

  it('takes a proof against a member that it has never met, and in an open run against nobody unknown', () => {
    const { membership } = closedRun().manifest;
    const closed = new UpdateLog({ members: new Members(membership) });
    assert.deepEqual(closed.evict(forkAt(0, 0)), []);
    assert.equal(closed.evict(forkAt(0, 0)), null);
    refusedAs('evicted', () => closed.insert(updates[0]!));
    assert.equal(closed.evict(forkAt(7, 0)), null, 'no member');
    const open = new UpdateLog();
    assert.equal(open.evict(forkAt(0, 0)), null);
    assert.equal(open.insert(updates[0]!).kind, 'added');
  });

  it('is not changed by 1,024 proofs that somebody made against names of its own', () => {
    const log = logOf(updates);
    const before = toHex(log.digest());
    const signed = forkAt(9, 3);
    for (let i = 0; i < 1024; i++) {
      assert.equal(log.evict({ ...signed, author: `made-up ${i}` }), null);
    }
    assert.equal(log.evict(signed), null);
    assert.deepEqual([toHex(log.digest()), log.proofs().length, log.size], [before, 0, 15]);
  });

  it(`keeps ${PROOFS_MAX} proofs against authors of whom nothing is left, beside those who count`, () => {
    const log = logOf(updates);
    log.evict(forkAt(1, 3));
    const proof = forkAt(9, 0);
    for (let i = 0; i < PROOFS_MAX + 50; i++) {
      const author = `author ${i}`;
      log.insert({ ...updates[0]!, author, id: String(i).padStart(64, '0') });
      assert.deepEqual(log.evict({ ...proof, author }), [0]);
    }
    assert.equal(log.proofs().length, PROOFS_MAX);
    assert.ok(log.proofAgainst(testIdentity(1).peerId), 'what it sent before the fork counts');
    assert.equal(log.size, 13);
  });

  it('is after a seal as if it had begun there, also when it was asked for everything before', () => {
    const [cut, fresh] = [logOf(updates), new UpdateLog()];
    const gone = updates.filter(({ epoch, author }) => epoch < 3 || author === updates[0]!.author);
    const kept = updates.filter((update) => !gone.includes(update));
    // An author who has left has updates before the seal only.
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
    const statement = 'ab'.repeat(32);
    log.seal(3, statement);
    fresh.seal(3, statement);
    for (const update of kept) fresh.insert(update);
    assert.equal(fresh.authors().length, 2);
    assert.deepEqual(look(log), look(fresh));
    cut.seal(5, statement);
    assert.deepEqual([cut.size, cut.authors(), cut.newestEpoch], [0, [], 4]);
    for (const update of gone.slice(0, 3)) refusedAs('sealed', () => log.insert(update));
  });

  it('of the same updates after two different seals is not the same', () => {
    const logs = ['aa', 'bb', 'aa'].map((byte) => {
      const log = logOf(updates);
      log.seal(2, byte.repeat(32));
      return toHex(log.digest());
    });
    assert.deepEqual([logs[0] === logs[1], logs[0] === logs[2]], [false, true]);
  });

  it('refuses what is excluded until the next seal, and nothing else of its author', () => {
    const log = logOf(updates);
    const [first, second] = [updates[6]!, updates[8]!];
    assert.deepEqual(log.exclude([first]), [1]);
    assert.deepEqual(log.exclude([second]), [3]);
    for (const update of [first, second]) refusedAs('sealed', () => log.insert(update));
    assert.equal(log.insert(testUpdate(run, testIdentity(1), 7)).kind, 'added');
    log.seal(2, 'ab'.repeat(32));
    assert.equal(log.insert(second).kind, 'added', 'the seal did not concern it after all');
  });

  it(`holds ${AUTHORS_MAX} authors and no more`, () => {
    const log = new UpdateLog();
    for (let i = 0; i < AUTHORS_MAX; i++) {
      log.insert({ ...updates[0]!, author: `author ${i}`, id: String(i).padStart(64, '0') });
    }
    refusedAs('capacity', () => log.insert(updates[1]!));
    assert.equal(log.size, AUTHORS_MAX);
  });

  it('holds of too many authors those who came first by epoch, then by a hash, in any order', () => {
    const authorsMax = 3;
    const many = [0, 1, 2, 3, 4, 5].flatMap((peer) =>
      // The first update of an author counts; the second may come before it.
      [peer >> 1, 4].map((epoch) => testUpdate(run, testIdentity(peer), epoch)),
    );
    const whole = { minLength: many.length };
    const take = (log: UpdateLog, update: Update): void => {
      try {
        log.insert(update);
      } catch (error) {
        assert.ok(error instanceof UpdateRejectedError && error.code === 'capacity');
      }
      assert.ok(log.authors().length <= authorsMax);
    };
    const kept = new Set<string>();
    fc.assert(
      fc.property(fc.shuffledSubarray(many, whole), fc.shuffledSubarray(many, whole), (x, y) => {
        const log = new UpdateLog({ runId: run.id, authorsMax });
        // What had to go comes again by sync.
        for (const update of [...x, ...y]) take(log, update);
        kept.add(toHex(log.digest()));
        const authors = log.authors();
        for (const peer of [0, 1]) assert.ok(authors.includes(testIdentity(peer).peerId));
        assert.equal(log.size, 2 * authorsMax);
      }),
      { numRuns: 200 },
    );
    assert.equal(kept.size, 1);
    const byRun = ['a', 'b', 'c', 'd', 'e'].map((runId) => {
      const log = new UpdateLog({ runId, authorsMax });
      for (const update of [...many, ...many]) take(log, update);
      return log.authors().join();
    });
    assert.ok(new Set(byRun).size > 1, 'who ranks first of equals is drawn for each run');
  });

  it('says which epochs an author loses that has to make room, and forgets it whole', () => {
    const log = new UpdateLog({ runId: run.id, authorsMax: 1 });
    logOf(
      [4, 2].map((epoch) => testUpdate(run, testIdentity(1), epoch)),
      log,
    );
    const result = log.insert(testUpdate(run, testIdentity(2), 1));
    assert.ok(result.kind === 'added');
    assert.deepEqual(result.changed.toSorted(), [2, 4]);
    assert.deepEqual(log.authors(), [testIdentity(2).peerId]);
    refusedAs('capacity', () => log.insert(testUpdate(run, testIdentity(1), 2)));
  });
});
