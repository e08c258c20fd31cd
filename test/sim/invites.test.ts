/** A run with invites under faults, on the real peer.ts: who is a member is the same everywhere, and so is the adapter. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createAdmission, createInvitation, oneTimeSigner } from '../../protocol/admission.js';
import { adapterSha256 } from '../../protocol/adapter.js';
import { sha256 } from '../../protocol/bytes.js';
import { foldOnce } from '../../protocol/fold.js';
import { decodeGossip } from '../../protocol/gossip.js';
import { UpdateLog } from '../../protocol/log.js';
import { Members } from '../../protocol/members.js';
import { RowFormats } from '../../protocol/row-format.js';
import { Swarm } from './swarm.js';

const PEERS = 7;

/** Peer 0 founds; 1 to 3 have an invitation each; 4 and 5 share one; 6 comes late with the last. */
function makeSwarm(seed: number): Swarm {
  const swarm = new Swarm({
    ...{ seed, peers: PEERS, faults: { loss: 0.2, delayMsMax: 4000, duplicate: 0.2 } },
    change: (manifest) => {
      const members = [{ peerId: manifest.founder, weight: 1 }];
      return { ...manifest, membership: { mode: 'invite', members, inviteWeight: 2 } };
    },
  });
  const [founder] = swarm.nodes;
  for (const node of swarm.nodes.slice(1)) {
    const label = node.index === 5 ? 4 : node.index;
    const oneTime = oneTimeSigner(sha256(new TextEncoder().encode(`invite ${label}`)));
    const invitation = createInvitation(swarm.run, founder!.identity, oneTime, 30);
    const firstEpoch = node.index === 6 ? 20 : 0;
    node.admission = createAdmission(invitation, oneTime, node.identity, firstEpoch);
  }
  return swarm;
}

/** Members and adapter by everything that any disk holds: whatever its order, admissions first. */
function unionOf(swarm: Swarm): { log: UpdateLog; sha256: string } {
  const { run } = swarm;
  const formats = new RowFormats(run);
  const log = new UpdateLog({ members: new Members(run.manifest.membership) });
  const messages = swarm.nodes
    .flatMap(({ disk }) => disk.everAppended)
    .map((record) => decodeGossip(run, formats, record, 'disk'));
  for (const message of messages) if (message.kind === 'admission') log.admit(message.admission);
  for (const message of messages) {
    const isMember = message.kind === 'update' && log.members.has(message.update.author);
    if (isMember) log.insert(message.update);
  }
  return { log, sha256: adapterSha256(foldOnce(run, log)) };
}

test('invited peers agree on members and adapter, and an invite that two used at both sides of a cut counts for neither', async () => {
  const swarm = makeSwarm(1);
  const [late, crashing] = [swarm.node(6), swarm.node(2)];
  // 4 and 5 come in at different sides, so that each is a member for a while.
  const side = (index: number): number => ([0, 1, 4].includes(index) ? 0 : 1);
  swarm.network.partition(new Map(swarm.nodes.map(({ peerId, index }) => [peerId, side(index)])));
  for (const node of swarm.nodes) if (node !== late) await node.start();
  await swarm.runToEpoch(8);
  const before = swarm.node(4).peer!.snapshot();
  assert.ok(before.adapter.updates > 0 && !before.attention.some((s) => /no member/.test(s)));
  crashing.crash();
  await swarm.runToEpoch(10);
  // Its admission is on its disk by now.
  crashing.admission = null;
  await crashing.start();
  swarm.network.partition(new Map());
  await swarm.runToEpoch(20);
  await late.start();
  await swarm.runToEnd();

  assert.deepEqual(swarm.failures, []);
  const union = unionOf(swarm);
  const snapshots = swarm.nodes.map(({ peer }) => peer!.snapshot());
  assert.deepEqual([...new Set(snapshots.map(({ adapter }) => adapter.sha256))], [union.sha256]);
  assert.ok(snapshots.every(({ membership }) => membership.admitted === 4));
  for (const index of [4, 5]) {
    assert.deepEqual(union.log.epochsOf(swarm.node(index).peerId), []);
    assert.ok(snapshots[index]!.attention.some((sentence) => /no member any more/.test(sentence)));
  }
  assert.ok(union.log.epochsOf(late.peerId).length >= 18);
  assert.ok(union.log.epochsOf(crashing.peerId).length >= 35);
});
