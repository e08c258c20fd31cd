import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Connection } from '../../node/interfaces.js';
import type { MemberSnapshot, PeerSnapshot } from '../../node/peer/snapshot.js';
import { buildStatus, statusReportSchema, type StatusSources } from '../../node/status.js';
import { sampleManifest } from './manifest-sample.js';

function member(peerId: string, fields: Partial<MemberSnapshot> = {}): MemberSnapshot {
  return {
    peerId,
    lastUpdateEpoch: null,
    dueEpoch: -1,
    updatesAccepted: 0,
    rejected: {},
    clockOffsetMs: null,
    agreedMs: null,
    ...fields,
  };
}

function connection(peerId: string, fields: Partial<Connection> = {}): Connection {
  return {
    peerId,
    address: `/memory/${peerId}`,
    direction: 'inbound',
    latencyMs: null,
    ...fields,
  };
}

const snapshot: PeerSnapshot = {
  runId: 'ab'.repeat(32),
  epoch: 4,
  epochsMax: 60,
  cohorts: 2,
  nextUpdateEpoch: 5,
  state: 'idle',
  training: {
    device: 'cpu',
    step: 40,
    tokens: 5000,
    loss: 3.5,
    tokensPerSecond: 800,
    skippedSteps: 3,
  },
  privacy: null,
  adapter: { sha256: 'ef'.repeat(32), epoch: 3, updates: 11, sealedEpoch: 2 },
  heldOutLoss: {
    base: 4.5,
    now: 4,
    personal: 3.75,
    personalEpoch: 2,
    history: [{ epoch: 2, loss: 4.25 }],
  },
  members: [],
  filtered: [{ epoch: 3, author: '12D3KooWOther', agreement: -0.4 }],
  membership: { mode: 'open', admitted: 0, refused: 0 },
  updates: { published: 2, received: 9 },
  modelBytesGiven: null,
  lastRecipients: null,
  residualNorm: 0.125,
  suspects: [],
  attention: ['waiting for peers'],
};

function sources(fields: Partial<StatusSources>): StatusSources {
  const run = { id: snapshot.runId, bytes: new Uint8Array(), manifest: sampleManifest() };
  return {
    version: '0.1.0',
    run,
    peerId: 'self',
    addresses: ['/ip4/127.0.0.1/tcp/1'],
    startedAtMs: 1_000,
    nowMs: 3_500,
    snapshot,
    connections: [],
    reachability: {
      state: 'unknown',
      evidence: 'nobody has dialled back yet',
      relays: [],
      fix: null,
    },
    traffic: { bytesIn: { total: 0 }, bytesOut: { total: 0 }, sentTo: [] },
    data: null,
    attention: [],
    ...fields,
  };
}

describe('buildStatus()', () => {
  it('says what became of the data, by the sequence length of the run', () => {
    const data = {
      ...{ files: 1, leftOut: 2, examples: 3, heldOutExamples: 4, tokens: 50, trainedTokens: 6 },
      ...{ cutExamples: 7, droppedTokens: 8 },
    };
    const report = statusReportSchema.parse(buildStatus(sources({ data })));
    assert.deepEqual(report.data, {
      ...{ files: 1, leftOut: 2, records: 3, heldOutRecords: 4, tokens: 50, trainedTokens: 6 },
      ...{ sequenceLength: sampleManifest().training.sequenceLength },
      ...{ cutRecords: 7, droppedTokens: 8 },
    });
  });

  it('fits the schema and takes the run from the manifest', () => {
    const report = statusReportSchema.parse(buildStatus(sources({})));
    const { schedule, name, model } = sampleManifest();
    assert.deepEqual(report.run, {
      id: snapshot.runId,
      name,
      model: model.name,
      epoch: 4,
      epochsMax: 60,
      epochSeconds: schedule.epochMs / 1000,
      cohorts: 2,
      nextUpdateEpoch: 5,
      state: 'idle',
    });
    assert.equal(report.uptimeSeconds, 2.5);
  });

  it('lists authors without a connection, and connected members without an update, once each', () => {
    const members = [
      member('b', {
        lastUpdateEpoch: 3,
        dueEpoch: 2,
        updatesAccepted: 2,
        rejected: { sealed: 5, oversize: 0 },
      }),
      member('a', { clockOffsetMs: -7, agreedMs: 1_500 }),
      member('self', { updatesAccepted: 4 }),
    ];
    const connections = [
      connection('c', { latencyMs: 2.5, direction: 'outbound' }),
      connection('b', { address: '/memory/first' }),
      connection('b', { address: '/memory/second' }),
    ];
    const { peers } = buildStatus(sources({ snapshot: { ...snapshot, members }, connections }));
    assert.deepEqual(
      peers.map((peer) => peer.peerId),
      ['a', 'b', 'c'],
    );
    assert.deepEqual(peers[1], {
      peerId: 'b',
      address: '/memory/first',
      direction: 'inbound',
      latencyMs: null,
      clockOffsetMs: null,
      agreedSecondsAgo: null,
      lastUpdateEpoch: 3,
      dueEpoch: 2,
      updatesAccepted: 2,
      rejected: { sealed: 5 },
    });
    assert.equal(peers[0]?.dueEpoch, null);
    assert.equal(peers[0].address, null);
    assert.equal(peers[0].clockOffsetMs, -7);
    assert.equal(peers[0].agreedSecondsAgo, 2);
    assert.equal(peers[2]?.latencyMs, 2.5);
  });

  it('passes the traffic of each direction on, by purpose', () => {
    const traffic = {
      bytesIn: { total: 9, gossip: 3, sync: 4 },
      bytesOut: { total: 6, gossip: 5 },
      sentTo: [{ peerId: 'b', bytes: { gossip: 5 } }],
    };
    assert.deepEqual(statusReportSchema.parse(buildStatus(sources({ traffic }))).traffic, traffic);
  });

  it('puts sentences from outside first, and writes each as a sentence', () => {
    const attention = ['the disk is full', 'Waiting for peers.'];
    const expected = ['The disk is full.', 'Waiting for peers.'];
    assert.deepEqual(buildStatus(sources({ attention })).attention, expected);
  });
});
