import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Door } from '../../../node/peer/door.js';
import { toHex } from '../../../protocol/bytes.js';
import { encodeAdmission, encodeUpdateMessage } from '../../../protocol/gossip.js';
import { inviteRun, testAdmission } from '../../support/invites.js';
import { restoreAll, testReplica } from '../../support/replicas.js';
import { testIdentity, testRun, testUpdate } from '../../support/runs.js';

const run = inviteRun();
const peer = (index: number): string => testIdentity(index).peerId;

/** The founder's side, unless `self` says otherwise. */
function setUp({ epoch = 10, self = 0, of = run } = {}) {
  const clock = { epoch };
  const told: string[] = [];
  const { replica, records } = testReplica(of, () => clock.epoch, { self: peer(self) });
  const tell = (message: Uint8Array): void => void told.push(toHex(message));
  const door = new Door({ replica, epochNow: () => clock.epoch, self: peer(self), tell });
  return { clock, replica, records, told, door };
}

describe('Door', () => {
  it('is open to those that the manifest lists, and to everybody in an open run', () => {
    const { door } = setUp();
    assert.equal(door.knock(peer(0), null), null);
    assert.equal(door.knock(peer(1), null), 'not-a-member');
    assert.equal(setUp({ of: testRun() }).door.knock(peer(1), null), null);
    assert.equal(door.refused, 1);
  });

  it('lets in the invited, keeps its admission on disk and tells the others', () => {
    const { door, replica, records, told } = setUp();
    const admission = testAdmission(run, 1, 'one', { firstEpoch: 10 });
    assert.equal(door.knock(peer(1), admission.signed), null);
    assert.ok(door.isMember(peer(1)));
    const message = toHex(encodeAdmission(admission));
    assert.deepEqual([records.map(toHex), told], [[message], [message]]);
    assert.equal(door.knock(peer(1), null), null, 'it need not show it again');
    const again = setUp();
    assert.ok(restoreAll(again, records).every((isValid) => isValid));
    assert.ok(again.door.isMember(peer(1)));
    const [own] = replica.compaction([], []).records;
    assert.ok(own instanceof Uint8Array);
    assert.equal(toHex(own), message, 'a rewritten log begins with it');
  });

  it('refuses what belongs to somebody else or is damaged', () => {
    const { door, records } = setUp();
    const { signed } = testAdmission(run, 1, 'one');
    assert.equal(door.knock(peer(2), signed), 'bad-admission');
    const damaged = { ...signed, keySignature: signed.memberSignature };
    assert.equal(door.knock(peer(1), damaged), 'bad-admission');
    assert.equal(door.refused, 2);
    assert.deepEqual(records, []);
  });

  it('refuses an invite that is over, however early an epoch the admission names', () => {
    const backdated = testAdmission(run, 1, 'one', { firstEpoch: 3, lastEpoch: 8 });
    for (const [epoch, refusal] of [
      [9, null],
      [10, 'expired'],
    ] as const)
      assert.equal(setUp({ epoch }).door.knock(peer(1), backdated.signed), refusal);
  });

  it('refuses the second user of an invite, and costs the first one nothing', () => {
    const { door, replica } = setUp();
    assert.equal(door.knock(peer(1), testAdmission(run, 1, 'one').signed), null);
    const digest = toHex(replica.log.digest());
    assert.equal(door.knock(peer(2), testAdmission(run, 2, 'one').signed), 'used');
    assert.equal(toHex(replica.log.digest()), digest);
    assert.ok(door.isMember(peer(1)));
  });

  it('takes the admission of a peer that it asked, over or not while its own log is empty', () => {
    const old = testAdmission(run, 1, 'one', { lastEpoch: 2 });
    const newcomer = setUp({ self: 2 });
    newcomer.door.meet(old.signed);
    assert.ok(newcomer.door.isMember(peer(1)));
    const settled = setUp({ self: 2 });
    settled.replica.onGossip(encodeUpdateMessage(testUpdate(run, testIdentity(0), 9)), peer(0));
    settled.door.meet(old.signed);
    assert.ok(!settled.door.isMember(peer(1)));
    settled.door.meet(testAdmission(run, 1, 'two').signed);
    assert.ok(settled.door.isMember(peer(1)));
  });

  it('shows by which admission this peer itself is a member', () => {
    const { door, replica } = setUp({ self: 1 });
    assert.equal(door.admission, null);
    const admission = testAdmission(run, 1, 'one');
    assert.equal(replica.admit(admission, peer(1)), 'accept');
    assert.deepEqual(door.admission, admission.signed);
  });
});

describe('Replica, in a run with invites', () => {
  it('puts off an update whose author is no member yet, and takes it after the admission', () => {
    const { replica, records } = setUp();
    const update = encodeUpdateMessage(testUpdate(run, testIdentity(1), 9));
    assert.equal(replica.onGossip(update, peer(0)), 'defer');
    assert.deepEqual(records, []);
    const admission = testAdmission(run, 1, 'one', { firstEpoch: 9 });
    assert.equal(replica.onGossip(encodeAdmission(admission), peer(0)), 'accept');
    assert.equal(replica.onGossip(encodeAdmission(admission), peer(0)), 'ignore');
    assert.equal(replica.onGossip(update, peer(0)), 'accept');
    const early = encodeUpdateMessage(testUpdate(run, testIdentity(1), 8));
    assert.equal(replica.onGossip(early, peer(0)), 'defer', 'before its first epoch');
    assert.deepEqual(replica.rejectedBy(peer(0)), { 'not-a-member': 2 });
  });

  it('drops both users of an invite that members bring together, and restores that from its records', () => {
    const { replica, records } = setUp();
    const hash = replica.sha256();
    replica.onGossip(encodeAdmission(testAdmission(run, 1, 'one')), peer(0));
    replica.onGossip(encodeUpdateMessage(testUpdate(run, testIdentity(1), 9)), peer(0));
    assert.notEqual(replica.sha256(), hash);
    const other = encodeAdmission(testAdmission(run, 2, 'one'));
    assert.equal(replica.onGossip(other, peer(0)), 'accept');
    assert.equal(replica.sha256(), hash);
    const again = setUp();
    assert.ok(restoreAll(again, records).every((isValid) => isValid));
    assert.equal(toHex(again.replica.log.digest()), toHex(replica.log.digest()));
  });
});
