/** What this program needs of gossipsub beyond the interface that it publishes. */
import type { GossipSub } from '@chainsafe/libp2p-gossipsub';
import type { RPC } from '@chainsafe/libp2p-gossipsub/message';
import { PeerScore } from '@chainsafe/libp2p-gossipsub/score';
import type { PeerId } from '@libp2p/interface';

export type Rpc = RPC;
export type Scores = PeerScore;

export interface InnerGossip extends GossipSub {
  readonly score: Scores;
  /** Called for each RPC that was decoded, before anything else is done with it. */
  handleReceivedRpc(from: PeerId, rpc: Rpc): Promise<void>;
  /** Peer ids of the neighbours in the mesh of a topic. */
  getMeshPeers(topic: string): string[];
}

/** @throws TypeError for a version of gossipsub that has other insides: it must not run unguarded. */
export function innerOf(gossip: GossipSub): InnerGossip {
  if (!isInner(gossip)) throw new TypeError('this version of gossipsub has other insides');
  return gossip;
}

function isInner(gossip: GossipSub): gossip is InnerGossip {
  return (
    'score' in gossip &&
    gossip.score instanceof PeerScore &&
    'handleReceivedRpc' in gossip &&
    typeof gossip.handleReceivedRpc === 'function' &&
    'getMeshPeers' in gossip
  );
}
