/** Seals: who may sign what, and when signatures suffice. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { fromHex, toHex } from '../../../protocol/bytes.js';
import { UpdateRejectedError } from '../../../protocol/errors.js';
import { publicKeyFromPeerId } from '../../../protocol/identity.js';
import { EPOCHS_MAX, SEAL_CONTENTS_BYTES_MAX } from '../../../protocol/limits.js';
import type { Run } from '../../../protocol/manifest.js';
import { Members } from '../../../protocol/members.js';
import {
  assembleCertificate,
  checkCertificate,
  checkSeal,
  createSeal,
  decodeCertificate,
  hasQuorum,
  sealDue,
  sealDueFrom,
  type SealStatement,
} from '../../../protocol/seal.js';
import * as wire from '../../../protocol/wire/messages.js';
import { inviteRun, testAdmission } from '../../support/invites.js';
import { testIdentity, testRun } from '../../support/runs.js';
import { anyStatement, certificateOf, closedRun, hashesOf, sealsOf } from '../../support/seals.js';

/** Members 0 to 3 of weight 1; seals every 4 epochs, 2 epochs later. */
const run = closedRun([1, 1, 1, 1]);
const members = new Members(run.manifest.membership);
const statement = anyStatement(run, 8);

function refusedAs(code: string, check: () => unknown, what = code): void {
  assert.throws(
    check,
    (error) => error instanceof UpdateRejectedError && error.code === code,
    what,
  );
}

/** `bytes` as a statement that member 1 signed. */
function signed(bytes: Uint8Array, domain = 'murmurate/seal/1\n'): wire.SignedSeal {
  const signature = testIdentity(1).sign(Buffer.concat([Buffer.from(domain), bytes]));
  return {
    statement: Uint8Array.from(bytes),
    member: publicKeyFromPeerId(testIdentity(1).peerId),
    signature: Uint8Array.from(signature),
  };
}

function changed(fields: Partial<wire.SealStatement>): Uint8Array {
  return wire.SealStatement.encode({ ...wire.SealStatement.decode(statement.bytes), ...fields });
}

describe('a statement', () => {
  it('is named by the hash of its bytes, and comes back from them as it was made', () => {
    const id = createHash('sha256').update(statement.bytes).digest('hex');
    assert.equal(statement.id, id);
    for (const previous of [null, 'cd'.repeat(32)]) {
      const made = anyStatement(run, 12, { previous });
      assert.deepEqual(checkSeal(run, createSeal(made, testIdentity(1)).signed).statement, made);
    }
  });

  it('has one encoding: any other spelling of the same is refused, though its member signed it', () => {
    const { bytes } = statement;
    for (const spelled of [
      Buffer.concat([bytes, fromHex('7801')]),
      Buffer.concat([fromHex('088100'), bytes.subarray(2)]),
      Buffer.concat([bytes.subarray(2), bytes.subarray(0, 2)]),
    ])
      refusedAs('malformed', () => checkSeal(run, signed(spelled)), toHex(spelled));
    const long = Buffer.concat([bytes, fromHex('7ac801'), new Uint8Array(200)]);
    refusedAs('oversize', () => checkSeal(run, signed(long)));
  });

  it('of another version, run, epoch or size is refused', () => {
    const cases: [Partial<wire.SealStatement>, string][] = [
      [{ version: 2 }, 'wrong-version'],
      [{ runId: new Uint8Array(32) }, 'wrong-run'],
      ...[0, 3, 9, EPOCHS_MAX + 4, 2 ** 32 - 4].map(
        (epoch): [Partial<wire.SealStatement>, string] => [{ epoch }, 'bad-epoch'],
      ),
      [{ contentsBytes: SEAL_CONTENTS_BYTES_MAX + 1 }, 'malformed'],
      [{ updates: 8 * 1024 + 1 }, 'malformed'],
      [{ contentsRoot: new Uint8Array() }, 'malformed'],
      [{ sumRoot: new Uint8Array() }, 'malformed'],
    ];
    for (const [fields, code] of cases) {
      refusedAs(code, () => checkSeal(run, signed(changed(fields))), JSON.stringify(fields));
    }
    for (const fields of [{ epoch: 4 }, { contentsBytes: SEAL_CONTENTS_BYTES_MAX }]) {
      assert.ok(checkSeal(run, signed(changed(fields))));
    }
  });

  it('has no meaning in a run that seals nothing', () => {
    const open = testRun();
    const other = changed({ runId: fromHex(open.id) });
    refusedAs('malformed', () => checkSeal(open, signed(other)));
  });
});

describe('a seal', () => {
  it('is refused with a signature of another, of another message kind, or a changed statement', () => {
    const { signed: good } = createSeal(statement, testIdentity(1));
    assert.equal(checkSeal(run, good).member, testIdentity(1).peerId);
    const other = createSeal(statement, testIdentity(2)).signed;
    refusedAs('bad-signature', () => checkSeal(run, { ...good, signature: other.signature }));
    refusedAs('bad-signature', () => checkSeal(run, { ...good, member: other.member }));
    const { bytes } = anyStatement(run, 8, { salt: 1 });
    refusedAs('bad-signature', () => checkSeal(run, { ...good, statement: bytes }));
    for (const domain of ['', 'murmurate/update/1\n', 'murmurate/seal/2\n'])
      refusedAs('bad-signature', () => checkSeal(run, signed(statement.bytes, domain)), domain);
    for (const field of ['member', 'signature'] as const)
      refusedAs('malformed', () => checkSeal(run, { ...good, [field]: new Uint8Array() }));
  });

  it('keeps no network buffer alive', () => {
    const { signed: good } = createSeal(statement, testIdentity(1));
    const buffer = wire.SignedSeal.encode(good);
    const seal = checkSeal(run, wire.SignedSeal.decode(buffer));
    for (const bytes of [seal.statement.bytes, seal.signed.statement, seal.signed.signature])
      assert.notEqual(bytes.buffer, buffer.buffer);
    assert.notEqual(seal.signed.member.buffer, buffer.buffer);
  });
});

describe('a quorum', () => {
  it('is more than two thirds of the weight of all voters, those who say nothing included', () => {
    const weights = fc.array(fc.integer({ min: 1, max: 1000 }), { minLength: 1, maxLength: 9 });
    fc.assert(
      fc.property(weights, fc.array(fc.nat(12)), (list, chosen) => {
        const voters = new Map(list.map((weight, i) => [`${i}`, weight]));
        const signers = new Set(chosen.map(String));
        const total = list.reduce((a, b) => a + b, 0);
        const signedWeight = list.reduce((a, b, i) => a + (signers.has(`${i}`) ? b : 0), 0);
        assert.equal(hasQuorum(voters, signers), signedWeight * 3 > total * 2);
      }),
    );
    assert.equal(hasQuorum(new Map(), ['a']), false, 'nobody can vote in an open run');
  });

  it('any two of one run share more than a third of the weight', () => {
    const weights = fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 7 });
    fc.assert(
      fc.property(weights, fc.nat(127), fc.nat(127), (list, a, b) => {
        const voters = new Map(list.map((weight, i) => [`${i}`, weight]));
        const [x, y] = [a, b].map((bits) =>
          list.flatMap((_, i) => ((bits >> i) & 1 ? [`${i}`] : [])),
        );
        if (!x || !y || !hasQuorum(voters, x) || !hasQuorum(voters, y)) return;
        const both = x.filter((one) => y.includes(one));
        const shared = both.reduce((sum, one) => sum + (voters.get(one) ?? 0), 0);
        assert.ok(3 * shared > list.reduce((sum, weight) => sum + weight, 0));
      }),
      { numRuns: 500 },
    );
  });
});

describe('a certificate', () => {
  const check = (of: SealStatement, who: readonly number[], by: Run = run): unknown =>
    checkCertificate(by, new Members(by.manifest.membership), certificateOf(of, who).wire);

  it('takes signatures of more than two thirds of the weight, in order of member, and comes back from bytes', () => {
    const certificate = certificateOf(statement, [3, 0, 2]);
    assert.deepEqual(checkCertificate(run, members, certificate.wire), certificate);
    assert.deepEqual(certificate.wire, certificateOf(statement, [2, 3, 0]).wire);
    const bytes = wire.SealCertificate.encode(certificate.wire);
    assert.deepEqual(decodeCertificate(run, bytes), certificate);
    refusedAs('malformed', () => decodeCertificate(run, bytes.subarray(0, -1)));
  });

  it('needs them whoever is silent, and counts weights, not heads', () => {
    refusedAs('no-quorum', () => check(statement, [0, 1]));
    const heavy = closedRun([5, 1, 1]);
    const of = anyStatement(heavy, 8);
    assert.ok(check(of, [0], heavy));
    refusedAs('no-quorum', () => check(of, [1, 2], heavy));
    const thirds = closedRun([1, 1, 1]);
    refusedAs(
      'no-quorum',
      () => check(anyStatement(thirds, 8), [0, 1], thirds),
      'exactly two thirds',
    );
  });

  it('is refused with a member twice, a forged signature or one under something else', () => {
    const [first, ...others] = certificateOf(statement, [0, 1, 2]).wire.signatures;
    const withSignatures = (...signatures: wire.SealSignature[]): wire.SealCertificate => ({
      statement: statement.bytes,
      signatures,
    });
    assert.ok(first);
    refusedAs('malformed', () =>
      checkCertificate(run, members, withSignatures(first, first, ...others)),
    );
    const forged = { ...first, signature: others[0]?.signature ?? new Uint8Array(64) };
    refusedAs('bad-signature', () =>
      checkCertificate(run, members, withSignatures(forged, ...others)),
    );
    const foreign = certificateOf(anyStatement(run, 8, { salt: 7 }), [0, 1, 2]).wire.signatures;
    refusedAs('bad-signature', () => checkCertificate(run, members, withSignatures(...foreign)));
    const short = { ...first, signature: new Uint8Array() };
    refusedAs('malformed', () => checkCertificate(run, members, withSignatures(short, ...others)));
  });

  it('leaves out signatures of who may not vote, which neither count nor are checked', () => {
    const certificate = certificateOf(statement, [0, 1, 2]);
    const stranger = certificateOf(statement, [7]).wire.signatures;
    const forged = stranger.map((one) => ({ ...one, signature: new Uint8Array(64) }));
    const padded = {
      ...certificate.wire,
      signatures: [...forged, ...certificate.wire.signatures],
    };
    assert.deepEqual(checkCertificate(run, members, padded), certificate);
    const alone = { ...certificate.wire, signatures: stranger };
    refusedAs('no-quorum', () => checkCertificate(run, members, alone));
  });

  it('counts the invited who were admitted by its epoch, and nobody who came later or shared an invite', () => {
    const invited = inviteRun((m) => ({ ...m, fold: { ...m.fold, sealEvery: 4, sealAfter: 2 } }));
    const admitted = new Members(invited.manifest.membership);
    const of = anyStatement(invited, 8);
    const judge = (who: readonly number[]): unknown =>
      checkCertificate(invited, admitted, certificateOf(of, who).wire);
    // The founder has weight 1, each invited peer 2.
    assert.ok(judge([0]));
    admitted.add(testAdmission(invited, 1, 'one', { firstEpoch: 9 }));
    assert.ok(judge([0]), 'admitted after the epochs that it is about');
    admitted.add(testAdmission(invited, 2, 'two', { firstEpoch: 8 }));
    refusedAs('no-quorum', () => judge([0]));
    refusedAs('no-quorum', () => judge([2]));
    assert.ok(judge([0, 2]));
    admitted.add(testAdmission(invited, 3, 'three', { firstEpoch: 1 }));
    admitted.add(testAdmission(invited, 4, 'three', { firstEpoch: 1 }));
    assert.ok(judge([0, 2]), 'two users of one invitation are none');
    assert.ok(assembleCertificate(sealsOf(of, [0, 2])));
  });
});

describe('the epoch whose seal is due', () => {
  it('is the last multiple that lies sealAfter back, 0 before the first, one for the end of the run', () => {
    const due = (epochNow: number, epochsMax = 40): number => sealDue(run, epochNow, epochsMax);
    assert.deepEqual(
      [-1, 0, 5, 6, 9, 10, 13].map((now) => due(now)),
      [0, 0, 0, 4, 4, 8, 8],
    );
    assert.deepEqual([due(41), due(42), due(9999)], [36, 40, 40]);
    assert.deepEqual([due(43, 41), due(46, 41)], [40, 44]);
    assert.equal(sealDue(testRun(), 30, 40), 0);
    fc.assert(
      fc.property(fc.nat(400), (epoch) => {
        const of = due(epoch, Infinity);
        if (of > 0) assert.ok(sealDueFrom(run, of) <= epoch && sealDueFrom(run, of + 4) > epoch);
      }),
    );
  });
});

describe('the hashes of a sum', () => {
  it('are those of its bytes in little-endian order, chunk by chunk', () => {
    const sum = Float64Array.from({ length: 40_000 }, (_, j) => (j - 20_000) * 3);
    const bytes = Buffer.alloc(8 * sum.length);
    for (const [j, value] of sum.entries()) bytes.writeDoubleLE(value, 8 * j);
    const sha = (part: Uint8Array): Buffer => createHash('sha256').update(part).digest();
    const hashes = Buffer.concat([sha(bytes.subarray(0, 262_144)), sha(bytes.subarray(262_144))]);
    assert.deepEqual(hashesOf(sum), {
      root: sha(hashes).toString('hex'),
      hashes: Uint8Array.from(hashes),
    });
  });
});
