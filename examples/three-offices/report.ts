/** What the demonstration found, and whether it succeeded. */

/** Mean loss on one office's held-out lines, nats per answer token. */
export interface Losses {
  /** The untouched base model. */
  base: number;
  /** After as many training tokens of its own as in the swarm, without the others. */
  alone: number;
  /** With the swarm's adapter. */
  swarm: number;
  /** With the adapter that the peer tuned from it on its own data. */
  personal: number;
}

export interface PeerResult {
  peerId: string;
  /** SHA-256 of its adapter, 64 hex digits. */
  adapterSha256: string;
  /** Office -> losses on the office's held-out lines. */
  heldOutLoss: Record<string, Losses>;
  bytesSent: number;
  bytesReceived: number;
  /** Absolute path of the exported PEFT adapter. */
  adapterDir: string;
}

/** The object that --json prints; peers in the order of OFFICES. */
export interface Report {
  /** Run id, 64 hex digits. */
  run: string;
  peers: PeerResult[];
}

/** Mean over the offices, in nats. */
export function meanLoss(peer: PeerResult, of: keyof Losses): number {
  const losses = Object.values(peer.heldOutLoss);
  return losses.reduce((sum, loss) => sum + loss[of], 0) / losses.length;
}

/** Sentences that say what did not succeed; empty means exit code 0. */
export function shortcomings(report: Report): string[] {
  const found: string[] = [];
  const hashes = new Set(report.peers.map((peer) => peer.adapterSha256));
  if (hashes.size !== 1) {
    found.push(`The peers hold ${hashes.size} different adapters; they must hold one.`);
  }
  for (const peer of report.peers) {
    const [swarm, alone] = [meanLoss(peer, 'swarm'), meanLoss(peer, 'alone')];
    // Written so that NaN counts as a failure.
    if (!(swarm < alone)) {
      found.push(
        `Peer ${peer.peerId} has a mean loss of ${swarm.toFixed(3)} with the swarm, not below its ` +
          `${alone.toFixed(3)} alone.`,
      );
    }
  }
  return found;
}
