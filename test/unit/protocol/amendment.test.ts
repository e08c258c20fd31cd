/** Amendments: what is taken, what is refused and why, and that the longest one holds in any order. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { checkAmendment, createAmendment } from '../../../protocol/amendment.js';
import { fromHex } from '../../../protocol/bytes.js';
import { UpdateRejectedError } from '../../../protocol/errors.js';
import {
  decodeGossip,
  encodeAmendment,
  encodeAnnouncement,
  encodeUpdateMessage,
} from '../../../protocol/gossip.js';
import { EPOCHS_MAX, UNKNOWN_FRAMES_MAX } from '../../../protocol/limits.js';
import { UpdateLog } from '../../../protocol/log.js';
import { RowFormats } from '../../../protocol/row-format.js';
import { SyncSession } from '../../../protocol/sync.js';
import * as wire from '../../../protocol/wire/messages.js';
import { restoreAll, testReplica, type TestReplica } from '../../support/replicas.js';
import { testIdentity, testRun, testUpdate } from '../../support/runs.js';

/** 40 epochs, founded by identity 0. */
const run = testRun();
const founder = testIdentity(0);
const formats = new RowFormats(run);

/** Field 15 of wire type 2 with three bytes: what a later minor version may have added. */
const UNKNOWN_FIELD = Uint8Array.of(0x7a, 3, 1, 2, 3);

function signed(fields: Partial<wire.Amendment>, extra = new Uint8Array()): wire.SignedAmendment {
  const base = { version: 1, runId: fromHex(run.id), epochsMax: 50 };
  const encoded = wire.Amendment.encode({ ...base, ...fields });
  const amendment = Uint8Array.from(Buffer.concat([encoded, extra]));
  const domain = Buffer.from('murmurate/amendment/1\n');
  const signature = Uint8Array.from(founder.sign(Buffer.concat([domain, amendment])));
  return { amendment, signature };
}

function newReplica(epoch = Infinity): TestReplica {
  return testReplica(run, () => epoch);
}

describe('checkAmendment()', () => {
  it('takes what the founder signed, over gossip too', () => {
    for (const epochsMax of [41, EPOCHS_MAX]) {
      const amendment = createAmendment(run, founder, epochsMax);
      assert.deepEqual(checkAmendment(run, amendment.signed), amendment);
      const message = decodeGossip(run, formats, encodeAmendment(amendment));
      assert.deepEqual(message, { kind: 'amendment', amendment });
    }
  });

  it('refuses everything else, each with its code', () => {
    const foreign = createAmendment(run, testIdentity(1), 50).signed;
    const bad = signed({});
    bad.signature[3] = (bad.signature[3] ?? 0) ^ 1;
    const cases: [wire.SignedAmendment, string][] = [
      [foreign, 'bad-signature'],
      [bad, 'bad-signature'],
      [signed({ version: 2 }), 'wrong-version'],
      [signed({ runId: new Uint8Array(32) }), 'wrong-run'],
      [signed({ epochsMax: 40 }), 'bad-epoch'],
      [signed({ epochsMax: EPOCHS_MAX + 1 }), 'bad-epoch'],
      [signed({}, UNKNOWN_FIELD), 'malformed'],
      [{ ...signed({}), amendment: Uint8Array.of(0xff) }, 'malformed'],
      [signed({}, new Uint8Array(200)), 'oversize'],
    ];
    for (const [message, code] of cases) {
      assert.throws(
        () => checkAmendment(run, message),
        (error) => error instanceof UpdateRejectedError && error.code === code,
        code,
      );
    }
  });
});

describe('a replica', () => {
  it('ends with the longest amendment in any order, and again after a restart', () => {
    const lengths = fc.array(fc.integer({ min: 41, max: 60 }), { minLength: 1, maxLength: 8 });
    fc.assert(
      fc.property(lengths, (all) => {
        const { replica, records } = newReplica();
        for (const epochsMax of all) {
          const isLonger = epochsMax > replica.epochsMax;
          const message = encodeAmendment(createAmendment(run, founder, epochsMax));
          assert.equal(replica.onGossip(message, 'a'), isLonger ? 'accept' : 'ignore');
        }
        assert.equal(replica.epochsMax, Math.max(...all));
        const again = newReplica();
        assert.ok(restoreAll(again, records).every((isValid) => isValid));
        assert.deepEqual(again.replica.amendment, replica.amendment);
      }),
      { numRuns: 20 },
    );
  });

  it('puts an update beyond the end off until the amendment is here, and blames nobody', () => {
    const { replica } = newReplica(45);
    const update = encodeUpdateMessage(testUpdate(run, testIdentity(1), 44));
    assert.equal(replica.onGossip(update, 'a'), 'defer');
    assert.equal(replica.log.size, 0);
    assert.equal(
      replica.onGossip(encodeAmendment(createAmendment(run, founder, 50)), 'a'),
      'accept',
    );
    assert.equal(replica.onGossip(update, 'a'), 'accept');
  });

  it('skips what a newer minor version adds, and blames nobody', () => {
    const { replica } = newReplica(5);
    assert.equal(replica.onGossip(UNKNOWN_FIELD, 'a'), 'ignore');
    const known = encodeUpdateMessage(testUpdate(run, testIdentity(1), 4));
    assert.equal(replica.onGossip(Buffer.concat([known, UNKNOWN_FIELD]), 'a'), 'accept');
    const other = encodeAnnouncement(testUpdate(run, testIdentity(2), 4));
    assert.equal(replica.onGossip(Buffer.concat([UNKNOWN_FIELD, other]), 'a'), 'accept');
  });
});

describe('a sync session', () => {
  it('tells the amendment with the first frame', () => {
    const amendment = createAmendment(run, founder, 50);
    const [side, remote] = [0, 1].map(() => new SyncSession(run, new UpdateLog(), new Set()));
    assert.ok(side && remote);
    side.hello(7);
    const have = { kind: 'have', clockMs: 7, sealed: null, amendment: amendment.signed };
    assert.deepEqual(side.receive(remote.hello(7, amendment)), have);
  });

  it('skips frames of unknown kinds, but not without end', () => {
    const session = new SyncSession(run, new UpdateLog(), new Set());
    for (let i = 0; i < UNKNOWN_FRAMES_MAX; i++) {
      assert.deepEqual(session.receive(UNKNOWN_FIELD), { kind: 'nothing' });
    }
    assert.throws(() => session.receive(UNKNOWN_FIELD), /too many frames/);
  });
});
