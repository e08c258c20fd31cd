/**
 * One connection for each peer. Two peers that dial each other at the same moment get two, and libp2p keeps
 * both. A direct one stays rather than one through a relay, and else the one that the peer with the smaller id
 * dialled, so that both sides agree without a word.
 */
import type { Identify } from '@libp2p/identify';
import type { Connection, Libp2p } from '@libp2p/interface';
import { surplusOf } from './inbound-room.js';
import { lotsAt, secretFrom } from './places.js';

/** Between two looks, in ms. */
const CHECK_INTERVAL_MS = 1_000;

/** A connection this young may still be opening its streams, in ms. */
const GRACE_MS = 1_000;

/** The peer that dialled a surplus connection closes it only when the other has not done so after this, in ms. */
const FALLBACK_MS = 5_000;

/** How long a polite close may take, in ms, before the connection is cut. */
const CLOSE_TIMEOUT_MS = 2_000;

/** Starting the protocols again on the connection that stays may take so long, in ms. */
const IDENTIFY_TIMEOUT_MS = 5_000;

/** Protocols whose streams last as long as their connection; any other stream is work under way. */
const LASTING = ['/meshsub/', '/ipfs/ping/'];

/** What decides which of several connections to one peer stays. */
type Candidate = Pick<Connection, 'direct' | 'direction' | 'timeline'>;

/** The connection that both `self` and `remote` keep; undefined of an empty list. Peer ids in base58. */
export function connectionToKeep<C extends Candidate>(
  connections: readonly C[],
  self: string,
  remote: string,
): C | undefined {
  const wanted = self < remote ? 'outbound' : 'inbound';
  const direct = connections.filter((connection) => connection.direct);
  const best = direct.length > 0 ? direct : connections;
  const dialled = best.filter(({ direction }) => direction === wanted);
  const eligible = dialled.length > 0 ? dialled : best;
  // Who dials again has lost the older one, even when this side has not noticed yet.
  return eligible.toSorted((a, b) => b.timeline.open - a.timeline.open)[0];
}

export class ConnectionTrimmer {
  readonly #node: Libp2p<{ identify: Identify }>;
  #timer: NodeJS.Timeout | null = null;

  readonly #inboundMax: number;
  readonly #secret = secretFrom(Math.random);

  /** `inboundMax`: connections kept that came in; fewer than the node takes, which would refuse whoever comes then. */
  constructor(node: Libp2p<{ identify: Identify }>, inboundMax: number) {
    this.#node = node;
    this.#inboundMax = inboundMax;
  }

  start(): void {
    this.stop();
    this.#timer = setInterval(() => {
      this.#trim();
    }, CHECK_INTERVAL_MS);
    this.#node.addEventListener('connection:open', this.#makeRoom);
    this.#node.addEventListener('connection:close', this.#revive);
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
    this.#node.removeEventListener('connection:close', this.#revive);
    this.#node.removeEventListener('connection:open', this.#makeRoom);
  }

  readonly #makeRoom = (): void => {
    const open = this.#node.getConnections().filter(({ status }) => status === 'open');
    const lots = lotsAt(this.#secret, Date.now());
    for (const connection of surplusOf(open, this.#inboundMax, lots)) void close(connection);
  };

  #trim(): void {
    const self = this.#node.peerId.toString();
    for (const id of this.#node.getPeers()) {
      const open = this.#node.getConnections(id).filter(({ status }) => status === 'open');
      const keep = connectionToKeep(open, self, id.toString());
      const graceMs = self < id.toString() ? GRACE_MS : FALLBACK_MS;
      if (open.length < 2 || open.some((connection) => ageMs(connection) < graceMs)) continue;
      for (const connection of open) {
        if (connection !== keep && isIdle(connection)) void close(connection);
      }
    }
  }

  /** Streams that died with `event.detail` open again on a connection that is left, which identify announces. */
  readonly #revive = (event: CustomEvent<Connection>): void => {
    const id = event.detail.remotePeer;
    const left = this.#node.getConnections(id).find(({ status }) => status === 'open');
    if (left === undefined) return;
    const signal = AbortSignal.timeout(IDENTIFY_TIMEOUT_MS);
    // Should this fail, the connection itself is in trouble: ping and the gossip watchdog look after it.
    this.#node.services.identify.identify(left, { signal }).catch(() => undefined);
  };
}

export function ageMs({ timeline }: Connection): number {
  return Date.now() - timeline.open;
}

/** Whether no work is under way on the connection. */
export function isIdle({ streams }: Connection): boolean {
  return streams.every(({ protocol }) => LASTING.some((prefix) => protocol.startsWith(prefix)));
}

/** Closes `connection`, politely if that is quick. Never rejects. */
export async function close(connection: Connection): Promise<void> {
  try {
    await connection.close({ signal: AbortSignal.timeout(CLOSE_TIMEOUT_MS) });
  } catch (error) {
    connection.abort(error instanceof Error ? error : new TypeError(String(error)));
  }
}
