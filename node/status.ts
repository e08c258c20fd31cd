/** What GET /status says: its schema, and how it is put together from the peer, its connections and this process. */
import { z } from 'zod';
import type { Connection, Reachability } from './interfaces.js';
import { asSentence } from './peer/attention.js';
import type { MemberSnapshot, PeerSnapshot } from './peer/snapshot.js';
import { adapterLayout } from '../protocol/adapter.js';
import type { Manifest, Run } from '../protocol/manifest.js';
import { updateBytes } from '../protocol/row-format.js';

const count = z.number().int().nonnegative();
const bytesByPurpose = z
  .object({ total: count })
  .catchall(count)
  .describe('bytes since the process started: on the wire in all, and by purpose');

const peerReportSchema = z.object({
  peerId: z.string(),
  address: z.string().nullable().describe('multiaddr; null while not connected'),
  direction: z.enum(['inbound', 'outbound']).nullable(),
  latencyMs: z.number().nullable().describe('last measured round trip'),
  clockOffsetMs: z.number().nullable().describe('its clock minus ours'),
  agreedSecondsAgo: z
    .number()
    .nonnegative()
    .nullable()
    .describe("since its adapter was last seen to equal this peer's, in a sync"),
  lastUpdateEpoch: z.number().int().nullable(),
  dueEpoch: z
    .number()
    .int()
    .nullable()
    .describe('the newest epoch that is over in which it publishes; null while there is none'),
  updatesAccepted: count,
  rejected: z.record(z.string(), count).describe('updates not used: code -> count'),
});

/** One peer of the run as this peer sees it. */
export type PeerReport = z.infer<typeof peerReportSchema>;

export const statusReportSchema = z.object({
  version: z.string(),
  peerId: z.string(),
  addresses: z.array(z.string()).describe('multiaddrs to hand on'),
  reachability: z.object({
    state: z.enum(['unknown', 'public', 'local', 'private-relayed', 'private-unreachable']),
    evidence: z.string().describe('who found that out, and how'),
    relays: z.array(z.string()).describe('peer ids of the relays that hold a place for this peer'),
    fix: z.string().nullable().describe('what to do so that others can dial this peer'),
  }),
  uptimeSeconds: z.number().nonnegative(),
  run: z.object({
    id: z.string(),
    name: z.string(),
    model: z.string(),
    epoch: z.number().int().describe('slot of the clock; below 0 before the start'),
    epochsMax: count,
    epochSeconds: z.number().positive(),
    cohorts: count.describe('a member publishes in every so many-th epoch'),
    nextUpdateEpoch: count
      .nullable()
      .describe('the next epoch, the present one included, in which this peer publishes'),
    state: z.enum([
      'waiting',
      'training',
      'idle',
      'spent',
      'resting',
      'paused',
      'finished',
      'stopped',
      'broken',
    ]),
  }),
  training: z.object({
    device: z.string(),
    step: count,
    tokens: count,
    loss: z.number().nullable().describe('nats per trained token'),
    tokensPerSecond: z.number().nullable(),
    skippedSteps: count.describe('since the process started: loss or gradient was not finite'),
  }),
  data: z
    .object({
      files: count,
      leftOut: count.describe('entries of the folders in --data that are not read'),
      records: count.describe('trained on'),
      heldOutRecords: count,
      tokens: count.describe('of the records that are trained on'),
      trainedTokens: count.describe('of these, those that the loss counts'),
      sequenceLength: count.describe('tokens in one sequence; longer records are cut'),
      cutRecords: count,
      droppedTokens: count.describe('of cut prompts, which no sequence holds'),
    })
    .nullable()
    .describe('what became of the private data; null where that is not known'),
  privacy: z
    .object({
      epsilon: z
        .number()
        .nonnegative()
        .describe('spent, at delta, for any one record of this peer'),
      epsilonMax: z.number().nonnegative().describe('training stops before it'),
      delta: z.number(),
      noise: z.number().describe('standard deviation as a multiple of clip'),
      clip: z.number().describe("norm that each record's gradient is cut to"),
      sampleRate: z.number().describe('probability of a record to be in a step'),
      steps: count.describe('steps counted, over the life of this peer'),
      stepsLeft: count.describe('steps that the budget leaves'),
    })
    .nullable()
    .describe('differential privacy; null without it'),
  adapter: z.object({
    sha256: z.string().describe('of the fold of the whole log'),
    epoch: z.number().int().describe('newest epoch in the log; -1 while it is empty'),
    updates: count,
    sealedEpoch: count.describe('the members have agreed on all updates of earlier epochs'),
  }),
  heldOutLoss: z.object({
    base: z.number().nullable().describe('of the untouched model; nats per token of own text'),
    now: z.number().nullable().describe("of the swarm's adapter, as it was measured last"),
    personal: z
      .number()
      .nullable()
      .describe("of that adapter after this peer's own steps of one epoch; measured now and then"),
    personalEpoch: z.number().int().nullable().describe('the epoch of those steps'),
    history: z.array(z.object({ epoch: z.number().int(), loss: z.number() })),
  }),
  peers: z.array(peerReportSchema),
  filtered: z
    .array(z.object({ epoch: count, peerId: z.string(), agreement: z.number() }))
    .describe(
      'updates that the filter left out of unsealed epochs, newest first: agreement is the median of their cosines with the others',
    ),
  membership: z.object({
    mode: z.enum(['open', 'allowlist', 'invite']),
    admitted: count.describe('members that came by invitation'),
    refused: count.describe('what strangers asked for in vain, since the process started'),
  }),
  traffic: z.object({
    bytesIn: bytesByPurpose,
    bytesOut: bytesByPurpose,
    sentTo: z
      .array(z.object({ peerId: z.string().nullable(), bytes: z.record(z.string(), count) }))
      .describe('bytes sent by peer and purpose; null: peers that are not counted by themselves'),
  }),
  updates: z
    .object({
      published: count.describe('own, that went out'),
      received: count.describe("others', that came in and were new"),
      bytes: count.describe('of one, without the signature and header'),
      denseBytes: count.describe('what one would take as float32 without compression'),
    })
    .describe('since the process started'),
  modelBytesGiven: count
    .nullable()
    .describe(
      'of the base model, to members, since the process started; null without --share-model',
    ),
  lastRecipients: count.nullable().describe('members that the last update was handed to'),
  residualNorm: z.number().nonnegative(),
  attention: z.array(z.string()).describe('what is wrong or awaited, and what happens next'),
});

/** The JSON object of GET /status. */
export type StatusReport = z.infer<typeof statusReportSchema>;

/** What the trainer made of the private data: see DatasetStats. */
export interface DataCounts {
  files: number;
  leftOut: number;
  examples: number;
  heldOutExamples: number;
  tokens: number;
  trainedTokens: number;
  cutExamples: number;
  droppedTokens: number;
}

export interface StatusSources {
  version: string;
  run: Run;
  peerId: string;
  /** Multiaddrs of this peer. */
  addresses: readonly string[];
  /** ms since 1970-01-01 UTC. */
  startedAtMs: number;
  nowMs: number;
  snapshot: PeerSnapshot;
  connections: readonly Connection[];
  reachability: Reachability;
  traffic: StatusReport['traffic'];
  /** Null where the trainer does not say. */
  data: DataCounts | null;
  /** Sentences from outside the peer: the store, the dialler, the lock. They come first. */
  attention: readonly string[];
}

/** Every author and every connected member appears once among `peers`; this peer itself does not. */
export function buildStatus(sources: StatusSources): StatusReport {
  const { run, snapshot } = sources;
  const { manifest } = run;
  return {
    version: sources.version,
    peerId: sources.peerId,
    addresses: [...sources.addresses],
    reachability: { ...sources.reachability, relays: [...sources.reachability.relays] },
    uptimeSeconds: Math.max(0, (sources.nowMs - sources.startedAtMs) / 1000),
    run: {
      id: run.id,
      name: manifest.name,
      model: manifest.model.name,
      epoch: snapshot.epoch,
      epochsMax: snapshot.epochsMax,
      epochSeconds: manifest.schedule.epochMs / 1000,
      cohorts: snapshot.cohorts,
      nextUpdateEpoch: snapshot.nextUpdateEpoch,
      state: snapshot.state,
    },
    training: { ...snapshot.training },
    data: sources.data && dataReport(sources.data, manifest),
    privacy: snapshot.privacy && { ...snapshot.privacy },
    adapter: { ...snapshot.adapter },
    heldOutLoss: { ...snapshot.heldOutLoss, history: [...snapshot.heldOutLoss.history] },
    peers: mergePeers(sources, snapshot.members),
    filtered: snapshot.filtered.map(({ author, ...rest }) => ({ ...rest, peerId: author })),
    membership: { ...snapshot.membership },
    traffic: sources.traffic,
    updates: {
      ...snapshot.updates,
      bytes: updateBytes(run),
      denseBytes: adapterLayout(manifest.adapter).size * Float32Array.BYTES_PER_ELEMENT,
    },
    modelBytesGiven: snapshot.modelBytesGiven,
    lastRecipients: snapshot.lastRecipients,
    residualNorm: snapshot.residualNorm,
    attention: [...new Set([...sources.attention, ...snapshot.attention].map(asSentence))],
  };
}

function dataReport(stats: DataCounts, { training }: Manifest): StatusReport['data'] {
  const { files, leftOut, examples, heldOutExamples, tokens, trainedTokens } = stats;
  return {
    ...{ files, leftOut, records: examples, heldOutRecords: heldOutExamples },
    ...{ tokens, trainedTokens, sequenceLength: training.sequenceLength },
    ...{ cutRecords: stats.cutExamples, droppedTokens: stats.droppedTokens },
  };
}

function mergePeers(
  { peerId: self, connections, nowMs }: StatusSources,
  members: readonly MemberSnapshot[],
): PeerReport[] {
  // A peer can be connected twice for a moment (both dialled); the first connection is shown.
  const byPeer = new Map(connections.toReversed().map((entry) => [entry.peerId, entry]));
  const memberById = new Map(members.map((member) => [member.peerId, member]));
  const ids = new Set([...byPeer.keys(), ...memberById.keys()]);
  ids.delete(self);
  return [...ids].toSorted().map((peerId) => {
    const connection = byPeer.get(peerId);
    const member = memberById.get(peerId);
    return {
      peerId,
      address: connection?.address ?? null,
      direction: connection?.direction ?? null,
      latencyMs: connection?.latencyMs ?? null,
      clockOffsetMs: member?.clockOffsetMs ?? null,
      agreedSecondsAgo: secondsSince(member?.agreedMs ?? null, nowMs),
      lastUpdateEpoch: member?.lastUpdateEpoch ?? null,
      dueEpoch: member && member.dueEpoch >= 0 ? member.dueEpoch : null,
      updatesAccepted: member?.updatesAccepted ?? 0,
      rejected: countsOf(member?.rejected ?? {}),
    };
  });
}

/** Not below 0, also where the clock was set back. */
function secondsSince(thenMs: number | null, nowMs: number): number | null {
  return thenMs === null ? null : Math.max(0, (nowMs - thenMs) / 1000);
}

function countsOf(rejected: MemberSnapshot['rejected']): Record<string, number> {
  return Object.fromEntries(Object.entries(rejected).filter(([, times]) => times > 0));
}
