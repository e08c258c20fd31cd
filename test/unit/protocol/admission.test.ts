import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  checkAdmission,
  checkInvitation,
  createAdmission,
  createInvitation,
  oneTimeSigner,
} from '../../../protocol/admission.js';
import { sha256 } from '../../../protocol/bytes.js';
import { UpdateRejectedError, type RejectionCode } from '../../../protocol/errors.js';
import { decodeGossip, encodeAdmission } from '../../../protocol/gossip.js';
import { ADMISSION_BYTES_MAX, EPOCHS_MAX } from '../../../protocol/limits.js';
import { RowFormats } from '../../../protocol/row-format.js';
import * as wire from '../../../protocol/wire/messages.js';
import { inviteRun, testAdmission } from '../../support/invites.js';
import { testIdentity, testRun } from '../../support/runs.js';

const run = inviteRun();
const [founder, member] = [testIdentity(0), testIdentity(1)];
const oneTime = oneTimeSigner(sha256(new TextEncoder().encode('one time')));
const invitation = createInvitation(run, founder, oneTime, 12);
const admission = createAdmission(invitation, oneTime, member, 5);

function refused(message: wire.SignedAdmission, code: RejectionCode, of = run): void {
  assert.throws(
    () => checkAdmission(of, message),
    (error) =>
      error instanceof UpdateRejectedError && error.code === code && error.verdict === 'reject',
    code,
  );
}

describe('an admission', () => {
  it('is read as it was made, also from gossip, and holds up to the last epoch of its invitation', () => {
    for (const epoch of [0, 12]) {
      const made = createAdmission(invitation, oneTime, member, epoch);
      assert.deepEqual(checkAdmission(run, made.signed), made);
      const read = decodeGossip(run, new RowFormats(run), encodeAdmission(made));
      assert.ok(read.kind === 'admission' && read.admission.firstEpoch === epoch);
    }
    refused(createAdmission(invitation, oneTime, member, 13).signed, 'bad-epoch');
    const last = createInvitation(run, founder, oneTime, EPOCHS_MAX - 1);
    assert.equal(checkInvitation(run, last.bytes, last.signature).lastEpoch, EPOCHS_MAX - 1);
    const beyond = createInvitation(run, founder, oneTime, EPOCHS_MAX);
    refused(createAdmission(beyond, oneTime, member, 0).signed, 'bad-epoch');
  });

  it('needs the signatures of founder, one-time key and member, each over this very admission', () => {
    const { signed } = admission;
    const other = createAdmission(invitation, oneTime, member, 6).signed;
    refused({ ...signed, keySignature: other.keySignature }, 'bad-signature');
    refused({ ...signed, memberSignature: other.memberSignature }, 'bad-signature');
    refused({ ...signed, keySignature: signed.memberSignature }, 'bad-signature');
    const self = createInvitation(run, member, oneTime, 12);
    refused(createAdmission(self, oneTime, member, 5).signed, 'bad-signature');
    const stolen = createAdmission(invitation, testIdentity(3), member, 5);
    refused(stolen.signed, 'bad-signature');
  });

  it('counts for its run only, and for none that invites nobody', () => {
    const another = inviteRun((manifest) => ({ ...manifest, name: 'another' }));
    refused(admission.signed, 'wrong-run', another);
    refused(admission.signed, 'not-a-member', testRun());
    const members = [{ peerId: member.peerId, weight: 1 }];
    const listed = testRun((m) => ({ ...m, membership: { mode: 'allowlist', members } }));
    refused(admission.signed, 'not-a-member', listed);
  });

  it('is refused when it is damaged, too long, or not in canonical form', () => {
    const { signed } = admission;
    const bytes = signed.admission;
    const changed = (part: Uint8Array): wire.SignedAdmission => ({
      ...signed,
      admission: Uint8Array.from(part),
    });
    refused(changed(new Uint8Array()), 'malformed');
    refused(changed(Buffer.concat([bytes, Uint8Array.of(0x98, 0x06, 1)])), 'malformed');
    for (let length = 0; length < bytes.length; length += 7)
      assert.throws(
        () => checkAdmission(run, changed(bytes.subarray(0, length))),
        UpdateRejectedError,
      );
    for (let i = 0; i < bytes.length; i++) {
      const flipped = bytes.map((byte, at) => (at === i ? byte ^ 1 : byte));
      assert.throws(() => checkAdmission(run, changed(flipped)), UpdateRejectedError);
    }
    assert.ok(bytes.length <= ADMISSION_BYTES_MAX);
    refused(changed(new Uint8Array(ADMISSION_BYTES_MAX + 1)), 'oversize');
    const fields = wire.Invitation.decode(invitation.bytes);
    const wrong = wire.Invitation.encode({ ...fields, version: 2 });
    refused(
      createAdmission({ ...invitation, bytes: wrong }, oneTime, member, 5).signed,
      'wrong-version',
    );
  });

  it('names its invitation by the one-time key, whatever else the founder signs for it', () => {
    const longer = testAdmission(run, 1, 'same', { lastEpoch: 30 });
    const shorter = testAdmission(run, 2, 'same', { lastEpoch: 20 });
    assert.equal(longer.invitation, shorter.invitation);
  });
});
