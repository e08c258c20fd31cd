/**
 * Drops connections whose gossip stream has died. Gossipsub never reopens a stream while its connection
 * stays up (a slow peer over the outbound bound, a reset, an oversize RPC): both sides then look healthy
 * and silently miss messages. The dialler makes a new connection.
 */
import type { GossipSub } from '@chainsafe/libp2p-gossipsub';
import type { Connection, PeerId } from '@libp2p/interface';
import type { Logger } from '../interfaces.js';
import { close } from './connection-trimmer.js';
import type { Node } from './host.js';

const GOSSIP_PROTOCOL_PREFIX = '/meshsub/';

/** Between two looks, in ms. */
const CHECK_INTERVAL_MS = 2_000;

/** A connection this young may still be opening its streams, in ms. */
const GRACE_MS = 4_000;

/** Whether we can send gossip over `connection`. */
export function hasGossipStream(connection: Connection): boolean {
  return connection.streams.some(
    ({ direction, protocol, status }) =>
      direction === 'outbound' && status === 'open' && protocol.startsWith(GOSSIP_PROTOCOL_PREFIX),
  );
}

export class GossipWatchdog {
  readonly #node: Node;
  readonly #gossip: GossipSub;
  readonly #logger: Logger;
  /** Peers without a gossip stream at the last look: a stream that is just opening gets until the next. */
  readonly #suspects = new Set<string>();
  #timer: NodeJS.Timeout | null = null;

  constructor(node: Node, gossip: GossipSub, logger: Logger) {
    this.#node = node;
    this.#gossip = gossip;
    this.#logger = logger;
  }

  start(): void {
    this.stop();
    this.#timer = setInterval(() => {
      const peers = this.#node.getPeers();
      for (const suspect of this.#suspects) {
        if (!peers.some((id) => id.toString() === suspect)) this.#suspects.delete(suspect);
      }
      for (const id of peers) void this.#check(id);
    }, CHECK_INTERVAL_MS);
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
  }

  async #check(id: PeerId): Promise<void> {
    const connections = this.#node.getConnections(id);
    // Gossipsub forgets a peer whose inbound stream failed.
    const routed = this.#gossip.getPeers().some((peer) => peer.equals(id));
    if (routed && connections.some(hasGossipStream)) {
      this.#suspects.delete(id.toString());
      return;
    }
    const young = ({ timeline }: Connection): boolean => Date.now() - timeline.open < GRACE_MS;
    if (connections.length === 0 || connections.some(young)) return;
    // A bootstrap node has no gossip, and none is missing.
    const known = await this.#node.peerStore.get(id).catch(() => null);
    if (!known?.protocols.some((name) => name.startsWith(GOSSIP_PROTOCOL_PREFIX))) return;
    if (!this.#suspects.delete(id.toString())) {
      this.#suspects.add(id.toString());
      return;
    }
    this.#logger.warn({ peerId: id.toString() }, 'its gossip stream died: connecting anew');
    await Promise.all(connections.map(close));
  }
}
