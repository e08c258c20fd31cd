/** Decoders of who may take part: admissions, invites and swarm keys. A one-time key signs whatever its holder makes. */
import assert from 'node:assert/strict';
import { chmodSync } from 'node:fs';
import { base58btc } from 'multiformats/bases/base58';
import { UserError } from '../../node/errors.js';
import { readSwarmKey } from '../../node/net/swarm-key.js';
import { checkAdmission, oneTimeSigner } from '../../protocol/admission.js';
import { sha256 } from '../../protocol/bytes.js';
import {
  InvalidInviteError,
  InvalidPeerIdError,
  UpdateRejectedError,
} from '../../protocol/errors.js';
import { decodeGossip, encodeAdmission } from '../../protocol/gossip.js';
import { decodeInvite, encodeInvite, INVITE_PREFIX, type Invite } from '../../protocol/invite.js';
import { RowFormats } from '../../protocol/row-format.js';
import * as wire from '../../protocol/wire/messages.js';
import { inviteRun, testAdmission } from '../support/invites.js';
import { testIdentity } from '../support/runs.js';
import { fileOf } from './files.js';
import type { FuzzTarget, FuzzTargets } from './oracle.js';

const run = inviteRun();
const formats = new RowFormats(run);
const member = testIdentity(1);
const oneTime = oneTimeSigner(sha256(Buffer.from('one-time/fuzz')));
const admitted = testAdmission(run, member, 'fuzz');

const admission: FuzzTarget = {
  seeds: [encodeAdmission(admitted), encodeAdmission(testAdmission(run, 2, 'other'))],
  refusals: [UpdateRejectedError],
  run: (bytes) => {
    const message = decodeGossip(run, formats, bytes);
    if (message.kind !== 'admission') return;
    const again = decodeGossip(run, formats, encodeAdmission(message.admission));
    assert.deepEqual(again, message);
  },
};

/** Admissions under which the invited has put both of its signatures. */
const signedAdmission: FuzzTarget = {
  seeds: [admitted.signed.admission],
  refusals: [UpdateRejectedError, InvalidPeerIdError],
  run: (bytes) => {
    const signed = Buffer.concat([Buffer.from('murmurate/admission/1\n'), bytes]);
    const {
      firstEpoch,
      lastEpoch,
      member: who,
    } = checkAdmission(run, {
      admission: Uint8Array.from(bytes),
      keySignature: Uint8Array.from(oneTime.sign(signed)),
      memberSignature: Uint8Array.from(member.sign(signed)),
    });
    assert.ok(firstEpoch <= lastEpoch);
    assert.equal(who, member.peerId);
  },
};

const sample: Invite = {
  runId: run.id,
  founder: testIdentity(0).peerId,
  addresses: ['/ip4/192.0.2.7/tcp/4001', '/dns4/relay.example/tcp/4002'],
  invitation: Uint8Array.from(wire.Admission.decode(admitted.signed.admission).invitation),
  signature: new Uint8Array(64).fill(7),
  secret: sha256(Buffer.from('secret')),
  swarmKey: sha256(Buffer.from('swarm')),
};

function readsTheSameAgain(text: string): void {
  const invite = decodeInvite(text);
  assert.deepEqual(decodeInvite(encodeInvite(invite)), invite);
}

/** What somebody pastes. */
const invite: FuzzTarget = {
  seeds: [sample, { ...sample, swarmKey: null }].map((each) => Buffer.from(encodeInvite(each))),
  refusals: [InvalidInviteError],
  run: (bytes) => readsTheSameAgain(Buffer.from(bytes).toString('utf8')),
};

/** The same with a checksum that is right: invites are made by others. */
const inviteFields: FuzzTarget = {
  seeds: invite.seeds.map((text) => {
    const whole = base58btc.baseDecode(Buffer.from(text).toString().slice(INVITE_PREFIX.length));
    return whole.subarray(0, -4);
  }),
  refusals: [InvalidInviteError],
  run: (bytes) => {
    const checksum = sha256(Buffer.from('murmurate/invite/1\n'), bytes).subarray(0, 4);
    const whole = Buffer.concat([bytes, checksum]);
    // Base58 takes quadratic time; what is longer is refused before.
    if (whole.length < 2_900) readsTheSameAgain(INVITE_PREFIX + base58btc.baseEncode(whole));
  },
};

const swarmKey: FuzzTarget = {
  seeds: [Buffer.from(`/key/swarm/psk/1.0.0/\n/base16/\n${'0f'.repeat(32)}\n`)],
  refusals: [UserError],
  run: async (bytes) => {
    const path = fileOf('swarm.key', bytes);
    chmodSync(path, 0o600);
    const key = await readSwarmKey(path);
    assert.equal(key?.reveal().length, 32);
  },
};

export const membershipTargets: FuzzTargets = {
  admission,
  'signed-admission': signedAdmission,
  invite,
  'invite-fields': inviteFields,
  'swarm-key': swarmKey,
};
