/** A status report with no two equal numbers, for tests. */
import type { StatusReport } from '../../node/status.js';

export function sampleStatus(): StatusReport {
  return {
    version: '0.1.0',
    peerId: '12D3KooWSelf',
    addresses: ['/ip4/127.0.0.1/tcp/4001/p2p/12D3KooWSelf'],
    reachability: {
      state: 'local',
      evidence: 'C dialled /ip4/192.168.1.2/tcp/1',
      relays: [],
      fix: null,
    },
    uptimeSeconds: 12.5,
    run: {
      id: 'ab'.repeat(32),
      name: 'offices',
      model: 'tiny-base',
      epoch: 3,
      epochsMax: 20,
      epochSeconds: 7.5,
      cohorts: 2,
      nextUpdateEpoch: 4,
      state: 'training',
    },
    training: {
      device: 'cpu (2 threads)',
      step: 31,
      tokens: 4096,
      loss: 3.25,
      tokensPerSecond: 900,
      skippedSteps: 5,
    },
    data: {
      files: 22,
      leftOut: 23,
      records: 240,
      heldOutRecords: 25,
      tokens: 26_000,
      trainedTokens: 2_700,
      sequenceLength: 128,
      cutRecords: 28,
      droppedTokens: 290,
    },
    privacy: null,
    adapter: { sha256: 'cd'.repeat(32), epoch: 2, updates: 9, sealedEpoch: 1 },
    heldOutLoss: {
      base: 4.25,
      now: 3.75,
      personal: 3.5,
      personalEpoch: 1,
      history: [{ epoch: 1, loss: 4 }],
    },
    peers: [
      {
        peerId: '12D3KooWOther',
        address: '/ip4/127.0.0.1/tcp/4002/p2p/12D3KooWOther',
        direction: 'outbound',
        latencyMs: 1.5,
        clockOffsetMs: -20,
        agreedSecondsAgo: 13.5,
        lastUpdateEpoch: 2,
        dueEpoch: 2,
        updatesAccepted: 4,
        rejected: { sealed: 6 },
      },
    ],
    membership: { mode: 'invite', admitted: 2, refused: 17 },
    traffic: {
      bytesIn: { total: 150, gossip: 100, sync: 50 },
      bytesOut: { total: 70, gossip: 70 },
      sentTo: [
        { peerId: '12D3KooWOther', bytes: { gossip: 60 } },
        { peerId: null, bytes: { gossip: 10 } },
      ],
    },
    updates: { published: 8, received: 14, bytes: 1_360, denseBytes: 40_960 },
    modelBytesGiven: 21,
    lastRecipients: 3,
    residualNorm: 0.5,
    attention: [],
  };
}
