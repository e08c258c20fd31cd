/** Whole peers over real hosts that publish in turn: one adapter, half of the updates, none out of turn. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { SystemClock } from '../../node/clock.js';
import { createIdentity } from '../../node/net/identity.js';
import type { Peer } from '../../node/peer.js';
import { lastSlotOf, publishesIn } from '../../protocol/cohorts.js';
import { testRun } from '../support/runs.js';
import { until } from './harness.js';
import { OpenPeers } from './open-peers.js';

const EPOCHS = 6;
const PEERS = 4;

it('peers of two cohorts end with one adapter, each with an update in every second epoch', async () => {
  const clock = new SystemClock();
  const identities = await Promise.all(Array.from({ length: PEERS }, () => createIdentity()));
  const run = testRun((manifest) => ({
    ...manifest,
    founder: identities[0]!.peerId,
    schedule: {
      ...{ startMs: clock.now() + 8_000, epochMs: 5_000, epochsMax: EPOCHS },
      ...{ stepsRef: 1, cohorts: 2 },
    },
    membership: {
      mode: 'allowlist',
      members: identities.map(({ peerId }) => ({ peerId, weight: 1 })),
    },
  }));
  const all = await OpenPeers.open(run, identities);
  try {
    const updates = (PEERS * EPOCHS) / 2;
    const isDone = (peer: Peer): boolean => {
      const { adapter, state } = peer.snapshot();
      return state === 'finished' && adapter.updates === updates;
    };
    await until('all have all', () => all.peers.every(isDone), 90_000);
    const snapshots = all.peers.map((peer) => peer.snapshot());
    assert.equal(new Set(snapshots.map(({ adapter }) => adapter.sha256)).size, 1);
    for (const [i, { updates: own, members, training }] of snapshots.entries()) {
      assert.equal(own.published, EPOCHS / 2);
      // A member of the second cohort has work for all epochs, one of the first none after its last slot.
      const { peerId } = identities[i]!;
      assert.equal(training.step, lastSlotOf(run, peerId, EPOCHS - 1) + 1);
      for (const member of members) {
        assert.equal(member.updatesAccepted, EPOCHS / 2);
        assert.ok(publishesIn(run, member.peerId, member.lastUpdateEpoch!));
        assert.deepEqual(member.rejected, {});
      }
    }
  } finally {
    await all.close();
  }
});
