/** Cohorts: a draw that all peers make alike, and updates of no other turn than their author's. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { cohortOf, lastSlotOf, publishesIn } from '../../../protocol/cohorts.js';
import { decodeManifest, encodeManifest } from '../../../protocol/manifest-codec.js';
import type { Membership, Run } from '../../../protocol/manifest.js';
import { RowFormats } from '../../../protocol/row-format.js';
import { checkHeader, checkUpdate, updateToWire } from '../../../protocol/update.js';
import { testIdentity, testRun, testUpdate } from '../../support/runs.js';

const ids = Array.from({ length: 70 }, (_, i) => testIdentity(i).peerId);

function listedOf(count: number): { peerId: string; weight: number }[] {
  return ids.slice(0, count).map((peerId) => ({ peerId, weight: 1 }));
}

function runOf(cohorts: number, membership: Membership, name = 'test'): Run {
  return testRun((manifest) => ({
    ...manifest,
    name,
    schedule: { ...manifest.schedule, epochsMax: 100, cohorts },
    membership,
  }));
}

describe('cohorts', () => {
  it('deal listed members out evenly, however many there are', () => {
    for (const cohorts of [1, 2, 3, 4, 7, 64]) {
      for (const members of [1, 2, 3, 16, 70]) {
        const run = runOf(cohorts, { mode: 'allowlist', members: listedOf(members) });
        const sizes = new Array<number>(cohorts).fill(0);
        for (const { peerId } of listedOf(members)) sizes[cohortOf(run, peerId)]! += 1;
        assert.ok(
          Math.max(...sizes) - Math.min(...sizes) <= 1,
          `${members} in ${cohorts}: ${sizes.join()}`,
        );
      }
    }
  });

  it('do not depend on the order of the list, nor on who else was invited', () => {
    const members = listedOf(9);
    const run = runOf(4, { mode: 'invite', members, inviteWeight: 1 });
    const again = decodeManifest(run.bytes);
    for (const peerId of ids) assert.equal(cohortOf(again, peerId), cohortOf(run, peerId));
    // Another run is another draw.
    const other = runOf(4, { mode: 'invite', members, inviteWeight: 1 }, 'other');
    assert.ok(ids.some((peerId) => cohortOf(other, peerId) !== cohortOf(run, peerId)));
  });

  it('of those who are not listed come from their hash, and are about equal', () => {
    const run = runOf(4, { mode: 'open' });
    const sizes = [0, 0, 0, 0];
    for (let i = 0; i < 400; i++) sizes[cohortOf(run, testIdentity(i).peerId)]! += 1;
    for (const size of sizes) assert.ok(size > 60 && size < 140, sizes.join());
  });

  it('have their turn once in so many epochs, the last of them included', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 64 }),
        fc.nat(69),
        fc.nat(100_000),
        (cohorts, i, epoch) => {
          const run = runOf(cohorts, { mode: 'open' });
          const peerId = ids[i]!;
          const slot = lastSlotOf(run, peerId, epoch);
          assert.ok(slot <= epoch && slot > epoch - cohorts);
          assert.ok(publishesIn(run, peerId, slot));
          assert.equal(lastSlotOf(run, peerId, slot - 1), slot - cohorts);
        },
      ),
      { numRuns: 50 },
    );
  });

  it('let an update of another turn be refused by everybody, listed or not', () => {
    const run = runOf(3, { mode: 'invite', members: listedOf(4), inviteWeight: 1 });
    for (const i of [0, 1, 2, 3, 30, 31]) {
      const author = testIdentity(i);
      const slot = lastSlotOf(run, author.peerId, 20);
      const update = updateToWire(testUpdate(run, author, slot));
      assert.equal(checkUpdate(run, new RowFormats(run), update).epoch, slot);
      for (const epoch of [slot - 1, slot + 1]) {
        const { header, signature } = updateToWire(testUpdate(run, author, epoch));
        assert.throws(() => checkHeader(run, { header, signature }), {
          code: 'wrong-cohort',
          verdict: 'reject',
          message: new RegExp(
            `is in cohort ${slot % 3} of 3, which publishes nothing in epoch ${epoch}`,
          ),
        });
      }
    }
  });

  it('are refused where they would leave a member no turn, and with the robust fold', () => {
    const { manifest } = testRun();
    const schedule = { ...manifest.schedule, epochsMax: 3, cohorts: 4 };
    assert.throws(() => encodeManifest({ ...manifest, schedule }), /cohorts is 4; .* from 1 to 3$/);
    const robust = {
      ...manifest,
      schedule: { ...manifest.schedule, cohorts: 2 },
      fold: { ...manifest.fold, mode: 'robust' as const, trimFraction: 0.2 },
      membership: { mode: 'allowlist' as const, members: listedOf(8) },
    };
    assert.throws(
      () => encodeManifest(robust),
      /cohorts with the robust fold is 2; .* from 1 to 1$/,
    );
  });
});
