import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { Admission } from '../../../protocol/admission.js';
import { toHex } from '../../../protocol/bytes.js';
import { UpdateRejectedError } from '../../../protocol/errors.js';
import { foldOnce } from '../../../protocol/fold.js';
import { AUTHORS_MAX } from '../../../protocol/limits.js';
import { equivocationProof, type EquivocationProof } from '../../../protocol/equivocation.js';
import { UpdateLog } from '../../../protocol/log.js';
import { Members } from '../../../protocol/members.js';
import type { Update } from '../../../protocol/update.js';
import { inviteRun, testAdmission } from '../../support/invites.js';
import { testIdentity, testUpdate } from '../../support/runs.js';

const run = inviteRun();
const peer = (index: number): string => testIdentity(index).peerId;
const newLog = (): UpdateLog => new UpdateLog({ members: new Members(run.manifest.membership) });

type Item =
  | { kind: 'admission'; admission: Admission }
  | { kind: 'update'; update: Update }
  | { kind: 'proof'; proof: EquivocationProof };

/**
 * Peers 1 and 2 come by invitations of their own, 2 from epoch 2 on and by a second admission from epoch 4 on; 3, 4
 * and 5 share one; 4 has another as well, from epoch 3 on; 6 was never invited.
 */
const admissions = [
  testAdmission(run, 1, 'one'),
  testAdmission(run, 2, 'two', { firstEpoch: 2 }),
  testAdmission(run, 2, 'two', { firstEpoch: 4 }),
  testAdmission(run, 3, 'shared'),
  testAdmission(run, 4, 'shared'),
  testAdmission(run, 5, 'shared', { firstEpoch: 1 }),
  testAdmission(run, 4, 'four', { firstEpoch: 3 }),
];
const twice = [3, 5].map((index) =>
  equivocationProof(
    testUpdate(run, testIdentity(index), 1),
    testUpdate(run, testIdentity(index), 1, { salt: 'again' }),
  ),
);
const items: Item[] = [
  ...admissions.map((admission): Item => ({ kind: 'admission', admission })),
  ...twice.map((proof): Item => ({ kind: 'proof', proof })),
  ...[0, 1, 2, 3, 4, 5, 6].flatMap((index) =>
    [0, 1, 3, 5].map((epoch): Item => {
      return { kind: 'update', update: testUpdate(run, testIdentity(index), epoch) };
    }),
  ),
];

/** What a peer does with what comes; what it has to put off comes again, as by sync. */
function take(log: UpdateLog, item: Item): void {
  try {
    if (item.kind === 'admission') log.admit(item.admission);
    else if (item.kind === 'proof') log.evict(item.proof);
    else log.insert(item.update);
  } catch (error) {
    assert.ok(error instanceof UpdateRejectedError && error.verdict !== 'reject');
  }
}

function theta(log: UpdateLog): Float32Array {
  return foldOnce(run, log);
}

describe('Members', () => {
  it('are those that the manifest lists and those with an invitation of their own', () => {
    const log = newLog();
    for (const item of items) take(log, item);
    const { members } = log;
    const first = [0, 1, 2, 3, 4, 5, 6].map((index) => members.firstEpochOf(peer(index)));
    assert.deepEqual(first, [0, 0, 2, Infinity, 3, Infinity, Infinity]);
    assert.equal(members.admitted, 3);
    assert.deepEqual(log.epochsOf(peer(4)), [3, 5]);
    assert.deepEqual(log.epochsOf(peer(2)), [3, 5]);
    assert.deepEqual(
      [3, 5, 6].map((index) => log.epochsOf(peer(index)).length),
      [0, 0, 0],
    );
    assert.deepEqual(log.proofs(), [], 'a proof against a stranger is nothing that all peers hold');
  });

  it('and log, digest and theta are the same whatever the order, admissions late, twice or after the updates', () => {
    const expected = newLog();
    for (const item of items) take(expected, item);
    const [digest, whole] = [toHex(expected.digest()), theta(expected)];
    fc.assert(
      fc.property(
        fc.shuffledSubarray(items, { minLength: items.length }),
        fc.shuffledSubarray(items, { minLength: items.length }),
        fc.array(fc.constantFrom(...items), { maxLength: 20 }),
        (one, again, repeats) => {
          const log = newLog();
          // Once in any order, and then what the other side of a sync still has: admissions first, as on the wire.
          for (const item of [...one, ...repeats]) take(log, item);
          for (const item of again) if (item.kind === 'admission') take(log, item);
          for (const item of again) take(log, item);
          assert.equal(toHex(log.digest()), digest);
          assert.deepEqual(theta(log), whole);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('of two logs that took different pairs of one voided invitation are the same', () => {
    const [a, b, c] = admissions.slice(3, 6) as [Admission, Admission, Admission];
    const digests = [
      [a, b],
      [b, c],
      [c, a],
      [a, b, c],
    ].map((pair) => {
      const log = newLog();
      for (const admission of pair) log.admit(admission);
      return toHex(log.digest());
    });
    assert.equal(new Set(digests).size, 1);
  });

  it('leave the log as if they had never been there when their invitation is used again', () => {
    const [without, log] = [newLog(), newLog()];
    const own = [0, 1, 5].map((epoch) => testUpdate(run, testIdentity(0), epoch));
    for (const update of own) for (const each of [without, log]) each.insert(update);
    const [first, second] = admissions.slice(3, 5) as [Admission, Admission];
    assert.deepEqual(log.admit(first), []);
    for (const epoch of [1, 4]) log.insert(testUpdate(run, testIdentity(3), epoch));
    assert.notDeepEqual(theta(log), theta(without));
    assert.deepEqual(log.admit(second), [1, 4], 'these two are folded again');
    assert.deepEqual(theta(log), theta(without));
    assert.equal(log.size, own.length);
    assert.equal(log.admit(second), null);
  });

  it('count with the weight that the manifest gives the invited', () => {
    const weightOf = (inviteWeight: number): Float32Array => {
      const other = inviteRun((m) => {
        const members = [{ peerId: peer(0), weight: 2 }];
        return { ...m, membership: { mode: 'invite', members, inviteWeight } };
      });
      const log = new UpdateLog({ members: new Members(other.manifest.membership) });
      log.admit(testAdmission(other, 1, 'one'));
      for (const index of [0, 1]) log.insert(testUpdate(other, testIdentity(index), 0));
      return foldOnce(other, log);
    };
    assert.notDeepEqual(weightOf(2), weightOf(5));
  });

  it('are bounded: one invitation more than AUTHORS_MAX is ignored', () => {
    const { signed } = admissions[0] as Admission;
    const members = new Members(run.manifest.membership);
    const made = (i: number): Admission => ({
      ...{
        id: `id ${i}`,
        invitation: `key ${i}`,
        lastEpoch: 9,
        firstEpoch: 0,
        member: `peer ${i}`,
      },
      signed,
    });
    for (let i = 0; i < AUTHORS_MAX; i++) assert.ok(members.add(made(i)));
    assert.throws(
      () => members.add(made(AUTHORS_MAX)),
      (error) => error instanceof UpdateRejectedError && error.verdict === 'ignore',
    );
    assert.equal(members.admissions().length, AUTHORS_MAX);
  });
});
