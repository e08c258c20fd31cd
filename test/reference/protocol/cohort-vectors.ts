/** The part of vectors.json about cohorts. */
import { toHex } from '../../../protocol/bytes.js';
import { cohortOf, lastSlotOf } from '../../../protocol/cohorts.js';
import { encodeUpdateMessage } from '../../../protocol/gossip.js';
import type { Manifest, Run } from '../../../protocol/manifest.js';
import { testIdentity, testUpdate } from '../../support/runs.js';

/** Five listed members of a run that others may join, in three cohorts. */
export function turnsManifest(manifest: Manifest): Manifest {
  const ids = Array.from({ length: 5 }, (_, i) => testIdentity(i).peerId);
  const members = ids.map((peerId) => ({ peerId, weight: 1 }));
  return {
    ...manifest,
    schedule: { ...manifest.schedule, cohorts: 3 },
    membership: { mode: 'invite', members, inviteWeight: 1 },
  };
}

/** The cohorts of the listed and of as many others, and an update of one of each. */
export function cohortsVector(name: string, run: Run): object {
  const identities = Array.from({ length: 10 }, (_, i) => testIdentity(i));
  const updates = [identities[1], identities[9]].map((identity = testIdentity(0)) =>
    testUpdate(run, identity, lastSlotOf(run, identity.peerId, 20)),
  );
  return {
    run: name,
    cohorts: identities.map(({ peerId }) => ({ peerId, cohort: cohortOf(run, peerId) })),
    updates: updates.map((update) => toHex(encodeUpdateMessage(update))),
  };
}
