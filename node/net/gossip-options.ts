/**
 * Gossipsub v1.2 as every peer of a run configures it (libp2p specs, pubsub/gossipsub, v1.1 scoring and
 * v1.2 IDONTWANT). Chosen for a few updates a minute from each of a few dozen peers.
 */
import { createHash } from 'node:crypto';
import type { GossipsubOpts, Message } from '@chainsafe/libp2p-gossipsub';

/** Mesh neighbours kept: four deliver 1 MiB to 8 peers with 3 to 4 copies each, where six make six. */
const DEGREE = 4;
const DEGREE_MIN = 3;
const DEGREE_MAX = 8;

/** Of those, dialled by this peer: whoever comes in cannot take all places. At most half of DEGREE. */
const DEGREE_OUTBOUND = 2;

const HEARTBEAT_MS = 1_000;

/**
 * Protocol-wide bound of one RPC: a receiver with a smaller one would silently stop reading from a peer
 * that exceeds it. The real bound on a message (GOSSIP_BYTES_MAX) is in the validator, which blames the sender.
 */
const RPC_BYTES_MAX = 4 * 1024 * 1024;

/** Unsent bytes to a slow peer before its gossip stream is cut; the watchdog opens a new one. */
const OUTBOUND_BYTES_MAX = 16 * 1024 * 1024;

/** Saying "I have this" pays from messages of this size on. */
const IDONTWANT_BYTES_MIN = 4_096;

/** Subscriptions remembered for one peer; a peer of a run has one. */
const TOPIC_BYTES_PER_PEER_MAX = 16 * 1024;

/**
 * n invalid messages cost n^2 times this, decaying by 1 % a second each: one is below the graylist threshold
 * for 20 s, whatever good messages earn besides (at most FIRST_DELIVERIES_MAX).
 */
const INVALID_MESSAGE_WEIGHT = -100;
const INVALID_MESSAGE_DECAY = 0.99;
const GRAYLIST_SCORE = -60;
const PUBLISH_SCORE = -40;
const FIRST_DELIVERIES_MAX = 5;

/**
 * Breaches of gossipsub's manners (a graft while it is told to wait, a promised message that does not come) that
 * bad luck explains: a restart brings two, a peer that was frozen a few in a row. Beyond it n cost 10 n^2.
 */
const BREACHES_FREE = 10;
const BREACH_WEIGHT = -10;
const BREACH_DECAY = 0.9;

/** A promised message may take this long, in ms: a machine that trains answers late. */
const PROMISE_MS = 12_000;

/** Bad scores outlive a connection for so long, in ms, without decay: gossip-scores.ts. */
const RETAIN_SCORE_MS = 10 * 60_000;

const TOPIC_SCORES = {
  topicWeight: 1,
  timeInMeshWeight: 0.01,
  timeInMeshQuantum: HEARTBEAT_MS,
  timeInMeshCap: 100,
  firstMessageDeliveriesWeight: 1,
  firstMessageDeliveriesDecay: 0.9,
  firstMessageDeliveriesCap: FIRST_DELIVERIES_MAX,
  // P3 and P3b expect a steady flow and would punish peers of a run that is quiet by design.
  meshMessageDeliveriesWeight: 0,
  meshMessageDeliveriesDecay: 0.9,
  meshMessageDeliveriesCap: 10,
  meshMessageDeliveriesThreshold: 1,
  meshMessageDeliveriesWindow: 100,
  meshMessageDeliveriesActivation: 10_000,
  meshFailurePenaltyWeight: 0,
  meshFailurePenaltyDecay: 0.9,
  invalidMessageDeliveriesWeight: INVALID_MESSAGE_WEIGHT,
  invalidMessageDeliveriesDecay: INVALID_MESSAGE_DECAY,
};

/**
 * A stranger in a closed run: nothing is sent to it, nothing of what it says it has is fetched. Above the graylist,
 * so that its subscription is noted, which it sends once, perhaps before it is let in.
 */
const STRANGER_SCORE = (PUBLISH_SCORE + GRAYLIST_SCORE) / 2;

/** The options for a peer that takes part in the run of `topic`, with `isMember`, and in nothing else. */
export function gossipOptions(
  topic: string,
  isMember: (peerId: string) => boolean,
): Partial<GossipsubOpts> {
  return {
    D: DEGREE,
    Dlo: DEGREE_MIN,
    Dhi: DEGREE_MAX,
    Dout: DEGREE_OUTBOUND,
    Dscore: 2,
    heartbeatInterval: HEARTBEAT_MS,
    allowedTopics: [topic],
    maxTopicBytesPerPeer: TOPIC_BYTES_PER_PEER_MAX,
    globalSignaturePolicy: 'StrictSign',
    fallbackToFloodsub: false,
    // A peer behind a router that forwards nothing is reached through a relay or not at all.
    runOnLimitedConnection: true,
    allowPublishToZeroTopicPeers: true,
    emitSelf: false,
    floodPublish: false,
    batchPublish: true,
    idontwantMinDataSize: IDONTWANT_BYTES_MIN,
    maxInboundDataLength: RPC_BYTES_MAX,
    maxOutboundBufferSize: OUTBOUND_BYTES_MAX,
    decodeRpcLimits: {
      maxSubscriptions: 64,
      maxMessages: 1_000,
      maxIhaveMessageIDs: 5_000,
      maxIwantMessageIDs: 5_000,
      maxIdontwantMessageIDs: 512,
      maxControlMessages: 1_000,
      maxPeerInfos: 16,
    },
    // One RPC after the other: else whoever sends faster than signatures are checked piles them up here.
    awaitRpcHandler: true,
    awaitRpcMessageHandler: true,
    gossipsubIWantFollowupMs: PROMISE_MS,
    msgIdFn,
    fastMsgIdFn,
    scoreParams: {
      retainScore: RETAIN_SCORE_MS,
      behaviourPenaltyThreshold: BREACHES_FREE,
      behaviourPenaltyWeight: BREACH_WEIGHT,
      behaviourPenaltyDecay: BREACH_DECAY,
      // Many honest peers share one address: an office behind a NAT, several processes on one machine.
      IPColocationFactorWeight: 0,
      appSpecificScore: (peerId) => (isMember(peerId) ? 0 : STRANGER_SCORE),
      appSpecificWeight: 1,
      topics: {
        [topic]: TOPIC_SCORES,
      },
    },
    scoreThresholds: {
      gossipThreshold: -10,
      publishThreshold: PUBLISH_SCORE,
      graylistThreshold: GRAYLIST_SCORE,
      acceptPXThreshold: 10,
      opportunisticGraftThreshold: 5,
    },
  };
}

/**
 * SHA-256 over publisher, sequence number and data. gossipsub's own id has no data: with it a publisher could give
 * a bad and a good message one id, send the bad one here and the good one elsewhere, and have whoever passes the
 * good one on blamed for the bad one.
 */
function msgIdFn(message: Message): Uint8Array {
  const hash = createHash('sha256');
  if (message.type === 'signed') {
    const seqno = Buffer.alloc(8);
    seqno.writeBigUInt64BE(message.sequenceNumber);
    hash.update(message.from.toMultihash().bytes).update(seqno);
  }
  return Uint8Array.from(hash.update(message.data).digest());
}

/** The same over the fields as they came, which tells repeats apart before a signature is checked. */
function fastMsgIdFn(message: {
  from?: Uint8Array | undefined;
  seqno?: Uint8Array | undefined;
  data?: Uint8Array | undefined;
}): string {
  const hash = createHash('sha256');
  for (const part of [message.from, message.seqno, message.data]) {
    // The length first, so that no two messages give the same bytes.
    hash.update(`${part?.length ?? 0} `).update(part ?? new Uint8Array());
  }
  return hash.digest('base64');
}
