/** Proofs of equivocation: two updates or two seals of one author for one slot, and nothing less. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  checkSealEquivocation,
  equivocationProof,
  sealEquivocationProof,
} from '../../../protocol/equivocation.js';
import { UpdateRejectedError } from '../../../protocol/errors.js';
import { decodeGossip, encodeEquivocation } from '../../../protocol/gossip.js';
import { UpdateLog } from '../../../protocol/log.js';
import { Members } from '../../../protocol/members.js';
import { createSeal, type Seal } from '../../../protocol/seal.js';
import { RowFormats } from '../../../protocol/row-format.js';
import type * as wire from '../../../protocol/wire/messages.js';
import { testIdentity, testUpdate } from '../../support/runs.js';
import { anyStatement, closedRun } from '../../support/seals.js';

const run = closedRun();
const formats = new RowFormats(run);

function seal(epoch: number, salt: number, member = 1): Seal {
  return createSeal(anyStatement(run, epoch, { salt }), testIdentity(member));
}

function refused(code: string, message: wire.SealEquivocation): void {
  assert.throws(
    () => checkSealEquivocation(run, message),
    (error) =>
      error instanceof UpdateRejectedError && error.code === code && error.verdict === 'reject',
  );
}

describe('a proof against a member that signed two seals', () => {
  const [a, b] = [seal(8, 1), seal(8, 2)];

  it('is the same whichever comes first, and comes back from a message', () => {
    const proof = sealEquivocationProof(a, b);
    assert.deepEqual(proof, sealEquivocationProof(b, a));
    assert.deepEqual([proof.author, proof.epoch], [testIdentity(1).peerId, 8]);
    const message = decodeGossip(run, formats, encodeEquivocation(proof));
    assert.deepEqual(message, { kind: 'equivocation', proof });
    const [first, second] = [b.signed, a.signed];
    assert.deepEqual(checkSealEquivocation(run, { first, second }), proof);
  });

  it('proves nothing with one seal, one statement, two epochs or two members', () => {
    const first = a.signed;
    refused('malformed', {});
    refused('malformed', { first });
    refused('malformed', { first, second: first });
    refused('malformed', { first, second: seal(12, 2).signed });
    refused('malformed', { first, second: seal(8, 2, 2).signed });
  });

  it('is refused with a forged half', () => {
    const second = { ...b.signed, signature: new Uint8Array(64) };
    refused('bad-signature', { first: a.signed, second });
    refused('bad-signature', {
      first: { ...a.signed, member: seal(8, 1, 2).signed.member },
      second,
    });
  });

  it('evicts it from the epoch of the seal on: its updates before that count', () => {
    const log = new UpdateLog({ members: new Members(run.manifest.membership) });
    for (const epoch of [6, 7, 8, 9]) log.insert(testUpdate(run, testIdentity(1), epoch));
    assert.deepEqual(log.evict(sealEquivocationProof(a, b)), [8, 9]);
    const [one, other] = ['', 'x'].map((salt) => testUpdate(run, testIdentity(1), 9, { salt }));
    assert.equal(log.evict(equivocationProof(one ?? assert.fail(), other ?? assert.fail())), null);
    assert.deepEqual(log.epochsOf(testIdentity(1).peerId), [6, 7]);
  });
});
