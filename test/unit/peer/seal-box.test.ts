/** Seals that a peer has heard of: which it keeps, and when they amount to a certificate. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { SealBox } from '../../../node/peer/seal-box.js';
import { toHex } from '../../../protocol/bytes.js';
import { UpdateRejectedError } from '../../../protocol/errors.js';
import { SEALS_OPEN_MAX } from '../../../protocol/limits.js';
import { Members } from '../../../protocol/members.js';
import { createSeal, type Seal } from '../../../protocol/seal.js';
import { testIdentity } from '../../support/runs.js';
import { anyStatement, certificateOf, closedRun } from '../../support/seals.js';

const run = closedRun([1, 1, 1, 1]);
const members = new Members(run.manifest.membership);
const WINDOW = { floor: 0, newest: 20, every: 4 };
const peer = (index: number): string => testIdentity(index).peerId;

function seal(epoch: number, member: number, salt = 0): Seal {
  return createSeal(anyStatement(run, epoch, { salt }), testIdentity(member));
}

function refusedAs(code: string, add: () => unknown): void {
  assert.throws(add, (error) => error instanceof UpdateRejectedError && error.code === code);
}

describe('SealBox', () => {
  it('keeps one seal of each member for each epoch, and finds who signed two', () => {
    const box = new SealBox(members);
    assert.equal(box.add(seal(8, 1), WINDOW), 'added');
    assert.equal(box.add(seal(8, 1), WINDOW), null);
    assert.equal(box.add(seal(12, 1, 5), WINDOW), 'added');
    const proof = box.add(seal(8, 1, 9), WINDOW);
    assert.ok(proof !== null && proof !== 'added');
    assert.deepEqual([proof.author, proof.epoch, proof.kind], [peer(1), 8, 'seal']);
    assert.deepEqual(box.get(8, peer(1)), seal(8, 1), 'the first one stays');
    assert.equal(box.all().length, 2);
  });

  it('takes seals of the newest epochs alone, and of none that is not due or overtaken', () => {
    const box = new SealBox(members);
    refusedAs('future-epoch', () => box.add(seal(24, 1), WINDOW));
    refusedAs('sealed', () => box.add(seal(20 - 4 * SEALS_OPEN_MAX, 1), WINDOW));
    refusedAs('sealed', () => box.add(seal(12, 1), { ...WINDOW, floor: 12 }));
    assert.equal(box.add(seal(16, 1), { ...WINDOW, floor: 12 }), 'added');
    assert.equal(box.add(seal(20, 1), { ...WINDOW, floor: 12 }), 'added');
  });

  it('takes no seal of a stranger', () => {
    refusedAs('not-a-member', () => new SealBox(members).add(seal(8, 9), WINDOW));
  });

  it('holds no more than one seal of each member for each open epoch, however many come', () => {
    const box = new SealBox(members);
    for (let newest = 4; newest <= 80; newest += 4) {
      for (let member = 0; member < 4; member++) {
        for (let salt = 0; salt < 3; salt++)
          box.add(seal(newest, member, salt), { ...WINDOW, newest });
      }
      assert.ok(box.all().length <= 4 * SEALS_OPEN_MAX);
    }
    assert.equal(box.all().length, 4 * SEALS_OPEN_MAX);
  });

  it('has a certificate once three of four signed one statement, whatever the others signed', () => {
    const seals = [seal(8, 0), seal(8, 1), seal(8, 2), seal(8, 3, 7), seal(12, 0), seal(12, 1)];
    fc.assert(
      fc.property(fc.shuffledSubarray(seals), (chosen) => {
        const box = new SealBox(members);
        for (const one of chosen) box.add(one, WINDOW);
        const isThere = seals.slice(0, 3).every((one) => chosen.includes(one));
        const expected = isThere ? certificateOf(anyStatement(run, 8), [0, 1, 2]) : null;
        assert.deepEqual(box.certificate(), expected);
      }),
    );
  });

  it('prefers the newest certificate, and forgets what it overtakes', () => {
    const box = new SealBox(members);
    for (const epoch of [8, 12, 16])
      for (const member of [0, 1, 2]) box.add(seal(epoch, member), WINDOW);
    assert.equal(box.certificate()?.statement.epoch, 16);
    box.overtake(12);
    assert.deepEqual(new Set(box.all().map(({ statement }) => statement.epoch)), new Set([16]));
    box.overtake(16);
    assert.deepEqual([box.certificate(), box.all()], [null, []]);
  });

  it('says who signed the statement with the most weight, and who is silent', () => {
    const heavy = closedRun([1, 1, 3, 1]);
    const box = new SealBox(new Members(heavy.manifest.membership));
    const of = (member: number, salt: number): Seal =>
      createSeal(anyStatement(heavy, 8, { salt }), testIdentity(member));
    for (const one of [of(0, 1), of(1, 1), of(2, 2)]) box.add(one, WINDOW);
    const { epoch, signed, silent } = box.count(8);
    assert.deepEqual([epoch, signed, silent], [8, [peer(2)], [peer(3)]]);
    assert.equal(box.count(12).silent.length, 4);
  });

  it('has a digest of its set: none while it is empty, the same in any order', () => {
    const all = [seal(8, 0), seal(8, 1, 3), seal(12, 2)];
    assert.equal(new SealBox(members).digest().length, 0);
    const digestOf = (list: readonly Seal[]): string => {
      const box = new SealBox(members);
      for (const one of list) {
        box.add(one, WINDOW);
        box.digest();
      }
      return toHex(box.digest());
    };
    fc.assert(
      fc.property(fc.shuffledSubarray(all, { minLength: 1 }), (list) => {
        assert.equal(digestOf(list) === digestOf(all), list.length === all.length);
      }),
    );
  });
});
