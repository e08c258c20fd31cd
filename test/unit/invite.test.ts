import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, it } from 'node:test';
import { EXIT_USAGE, UserError } from '../../node/errors.js';
import { addressesOf, makeInvite, readInvite, useInvite } from '../../node/invite.js';
import { parseAddress } from '../../node/net/addresses.js';
import { SwarmKey } from '../../node/net/swarm-key.js';
import { checkAdmission } from '../../protocol/admission.js';
import { EPOCHS_MAX, INVITE_ADDRESSES_MAX } from '../../protocol/limits.js';
import type { Run } from '../../protocol/manifest.js';
import { inviteRun } from '../support/invites.js';
import { testIdentity, testRun } from '../support/runs.js';

const run = inviteRun();
const [founder, guest] = [testIdentity(0), testIdentity(1)];
const LOOPBACK = '/ip4/127.0.0.1/tcp/4001';
const OUTER = '/ip4/192.0.2.7/tcp/4001';
const NODE = `/ip4/192.0.2.1/tcp/4001/p2p/${testIdentity(9).peerId}`;

function invite(epochs = 5, of: Run = run, identity = founder, epoch = 3): string {
  const swarmKey = new SwarmKey(randomBytes(32));
  const addresses = [LOOPBACK, OUTER].map((address) => `${address}/p2p/${founder.peerId}`);
  return makeInvite({ run: of, identity, addresses, contacts: [NODE], swarmKey, epoch }, epochs);
}

function says(work: () => unknown, sentence: RegExp): void {
  assert.throws(work, (error) => error instanceof UserError && sentence.test(error.message));
}

describe('an invite of the command line', () => {
  it('names the founder where others reach it first, and then the nodes that it was given', () => {
    const read = readInvite(invite());
    assert.deepEqual(addressesOf(read), [
      ...[OUTER, LOOPBACK].map((address) => `${address}/p2p/${founder.peerId}`),
      NODE,
    ]);
    assert.equal(read.swarmKey?.length, 32);
    const many = Array.from({ length: 20 }, (_, i) => `/ip4/192.0.2.7/tcp/${i + 1}`);
    const context = { run, identity: founder, contacts: [], swarmKey: null, epoch: 0 };
    const full = readInvite(makeInvite({ ...context, addresses: many }, 1));
    assert.equal(full.addresses.length, INVITE_ADDRESSES_MAX);
    assert.equal(full.swarmKey, null);
  });

  it('comes from the founder of a run with invites only', () => {
    says(() => invite(5, run, guest), /only the founder .* can invite: 12D3Koo/);
    says(() => invite(5, testRun()), /this run is open: .*--invite-only/);
    const members = [{ peerId: founder.peerId, weight: 1 }];
    const listed = testRun((m) => ({ ...m, membership: { mode: 'allowlist', members } }));
    says(() => invite(5, listed), /the peers that it lists only; .*--invite-only/);
  });

  it('lets its holder in up to its last epoch, and not a day longer', () => {
    const read = readInvite(invite(5));
    const use = (epoch: number, isResuming = false) =>
      useInvite(read, run, guest, { epoch, isResuming });
    for (const epoch of [-2, 3, 8]) {
      const admission = use(epoch);
      assert.ok(admission);
      assert.equal(checkAdmission(run, admission.signed).firstEpoch, Math.max(0, epoch));
    }
    says(
      () => use(9),
      /has expired: it could be used until epoch 9, and this is epoch 10; ask the founder/,
    );
    assert.equal(use(9, true), null, 'who is in already resumes with the same command');
    const last = readInvite(invite(EPOCHS_MAX, run, founder, 10));
    assert.ok(useInvite(last, run, guest, { epoch: EPOCHS_MAX - 1, isResuming: false }));
  });

  it('is not needed by who is listed, and of no use in another run', () => {
    const read = readInvite(invite());
    const at = { epoch: 3, isResuming: false };
    assert.equal(useInvite(read, run, founder, at), null);
    assert.equal(useInvite(read, testRun(), guest, at), null);
    const another = inviteRun((manifest) => ({ ...manifest, name: 'another' }));
    says(() => useInvite(read, another, guest, at), /not valid for the run "another"/);
  });

  it('is never quoted: not when it is damaged, and not where an address belongs', () => {
    const text = invite();
    for (const work of [
      () => readInvite(`${text.slice(0, 40)}x${text.slice(41)}`),
      () => readInvite(text.slice(0, -1)),
      () => parseAddress(text),
    ]) {
      assert.throws(work, (error) => {
        assert.ok(error instanceof UserError && error.exitCode === EXIT_USAGE);
        assert.ok(error.cause === undefined && !error.message.includes(text.slice(10, 18)));
        return true;
      });
    }
  });
});
