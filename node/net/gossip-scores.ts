/**
 * Scores that a peer cannot shed by connecting anew. gossipsub keeps those of peers that left, as the specification
 * asks, but begins a new one when such a peer comes back, and decides by a cached score whether to keep it.
 */
import type { Scores } from './inner-gossip.js';

/** Scores kept, of connected peers and of others; of the latter the one that left first is forgotten first. */
export const SCORES_MAX = 4_096;

/** Makes `scores` keep what it has against peers that left, and nothing else. */
export function keepScores(scores: Scores): void {
  const { peerStats, scoreCache } = scores;
  const addPeer = scores.addPeer.bind(scores);
  const removePeer = scores.removePeer.bind(scores);
  scores.addPeer = (id) => {
    const kept = peerStats.get(id);
    scoreCache.delete(id);
    if (kept === undefined) {
      addPeer(id);
    } else {
      kept.connected = true;
      kept.expire = 0;
    }
  };
  scores.removePeer = (id) => {
    scoreCache.delete(id);
    removePeer(id);
    scoreCache.delete(id);
    if (scores.score(id) < 0) makeRoom(scores);
    else forget(scores, id);
  };
}

function makeRoom(scores: Scores): void {
  const { peerStats } = scores;
  for (const [id, { connected }] of peerStats) {
    if (peerStats.size <= SCORES_MAX) return;
    if (!connected) forget(scores, id);
  }
}

function forget(scores: Scores, id: string): void {
  for (const ip of scores.peerStats.get(id)?.knownIPs ?? []) scores.removeIP(id, ip);
  scores.peerStats.delete(id);
  scores.scoreCache.delete(id);
}
