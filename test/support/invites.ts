/** Runs with invites, and admissions to them, for tests: the same bytes each time. */
import {
  createAdmission,
  createInvitation,
  oneTimeSigner,
  type Admission,
} from '../../protocol/admission.js';
import type { Identity } from '../../node/interfaces.js';
import { sha256 } from '../../protocol/bytes.js';
import type { Manifest, Run } from '../../protocol/manifest.js';
import { testIdentity, testRun } from './runs.js';

/** Identity 0 is the founder and listed; the invited have weight 2. */
export function inviteRun(change: (manifest: Manifest) => Manifest = (manifest) => manifest): Run {
  const members = [{ peerId: testIdentity(0).peerId, weight: 1 }];
  return testRun((m) => change({ ...m, membership: { mode: 'invite', members, inviteWeight: 2 } }));
}

/** The admission of `member` (the number of a test identity, or another) by the invitation that `label` names. */
export function testAdmission(
  run: Run,
  member: number | Identity,
  label: string,
  { firstEpoch = 0, lastEpoch = 20 } = {},
): Admission {
  const oneTime = oneTimeSigner(sha256(new TextEncoder().encode(`one-time/${label}`)));
  const who = typeof member === 'number' ? testIdentity(member) : member;
  const invitation = createInvitation(run, testIdentity(0), oneTime, lastEpoch);
  return createAdmission(invitation, oneTime, who, firstEpoch);
}
