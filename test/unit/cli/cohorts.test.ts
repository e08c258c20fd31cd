import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { chooseCohorts, updateMbits } from '../../../node/cli/cohorts.js';
import type { Manifest, Run } from '../../../protocol/manifest.js';
import { testIdentity, testRun } from '../../support/runs.js';

/** 2,097,152 coordinates in 8,192 blocks of 34 bytes, which is 278,528 bytes an update, every 10 s. */
function runOf(change: (manifest: Manifest) => Manifest = (manifest) => manifest): Run {
  const modules = [{ name: 'layers.0.up_proj', inFeatures: 524_288, outFeatures: 524_288 }];
  return testRun((manifest) =>
    change({
      ...manifest,
      adapter: { ...manifest.adapter, modules, initialSha256: '00'.repeat(32) },
    }),
  );
}

const AUTO = { cohorts: 'auto', allow: [], inviteOnly: false, members: 11, uplink: 10 } as const;

describe('chooseCohorts()', () => {
  const run = runOf();

  it('counts what a member sends: each update once where it is announced, some copies inline', () => {
    // 10 x 278,528 x 8 bits in 10 s.
    assert.equal(updateMbits(run, 11, 1).toFixed(4), '2.2282');
    assert.equal(updateMbits(run, 11, 4).toFixed(4), '0.5571');
    // 10 x 68 bytes, 3.5 times.
    assert.equal(updateMbits(testRun(), 11, 1).toFixed(6), '0.001904');
  });

  it('takes as few as the uplink allows, and says so', () => {
    const chosen = (uplink: number): number => chooseCohorts(run, { ...AUTO, uplink }).cohorts;
    assert.deepEqual([chosen(10), chosen(2), chosen(1), chosen(0.1)], [1, 2, 4, 4]);
    assert.equal(
      chooseCohorts(run, AUTO).line,
      'each of 11 members sends an update in each epoch (--cohorts 1), about 2.2 Mbit/s of its uplink with what it passes on\n',
    );
    assert.equal(
      chooseCohorts(run, { ...AUTO, uplink: 2 }).line,
      'each of 11 members sends an update in one of 2 epochs (--cohorts 2), about 1.1 Mbit/s of its uplink with what it ' +
        'passes on, instead of 2.2 Mbit/s in each\n',
    );
    assert.match(
      chooseCohorts(run, { ...AUTO, uplink: 0.1 }).line ?? '',
      /more than --uplink: longer epochs/,
    );
  });

  it('takes what was asked for, and one where nobody says how many members there will be', () => {
    const fixed = runOf((m) => ({ ...m, schedule: { ...m.schedule, cohorts: 7 } }));
    assert.equal(chooseCohorts(fixed, { ...AUTO, cohorts: 7 }).cohorts, 7);
    assert.deepEqual(chooseCohorts(run, { ...AUTO, members: null, uplink: 0.1 }), {
      cohorts: 1,
      line: null,
    });
  });

  it('counts the members of a list, unless others will be invited', () => {
    const ids = Array.from({ length: 11 }, (_, i) => testIdentity(i).peerId);
    const listed = runOf((m) => ({
      ...m,
      membership: { mode: 'allowlist', members: ids.map((peerId) => ({ peerId, weight: 1 })) },
    }));
    const asked = { ...AUTO, members: null, allow: ids.slice(1), uplink: 2 };
    assert.equal(chooseCohorts(listed, asked).cohorts, 2);
    assert.equal(chooseCohorts(listed, { ...asked, inviteOnly: true }).cohorts, 1);
  });

  it('takes one with the robust fold, and no more than there are epochs', () => {
    const robust = runOf((m) => ({ ...m, schedule: { ...m.schedule, epochsMax: 3 } }));
    assert.equal(chooseCohorts(robust, { ...AUTO, uplink: 0.1 }).cohorts, 2);
    robust.manifest.fold = { ...robust.manifest.fold, mode: 'robust' };
    assert.equal(chooseCohorts(robust, { ...AUTO, uplink: 0.1 }).cohorts, 1);
  });
});
