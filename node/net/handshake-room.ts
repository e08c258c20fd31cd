/**
 * Room for handshakes of those who come in. Whoever connects and says nothing holds one for seconds without any key at
 * all, so one public network gets half of them.
 */
import type { ConnectionGater, MultiaddrConnection } from '@libp2p/interface';
import { publicNetworkOf } from './addresses.js';

/** Inbound connections in the middle of their handshake, and those of one public network. */
export const HANDSHAKES_MAX = 64;
export const HANDSHAKES_PER_NETWORK_MAX = HANDSHAKES_MAX / 2;

/** libp2p gives a handshake this long, in ms; one that failed counts for as long. */
export const HANDSHAKE_MS_MAX = 10_000;

/** Handshakes remembered; the oldest goes first. Networks that fail at many at once are refused by HANDSHAKES_MAX. */
const REMEMBERED_MAX = 1_024;

type Arriving = Pick<MultiaddrConnection, 'remoteAddr'>;

export class HandshakeRoom {
  readonly #now: () => number;
  /** By remote address with its port, the oldest first. */
  readonly #pending = new Map<string, { network: string; sinceMs: number }>();

  /** `now` in ms. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  readonly gater: ConnectionGater = {
    denyInboundConnection: (arriving) => !this.begin(arriving),
    denyInboundUpgradedConnection: (_id, arriving) => {
      this.end(arriving);
      return false;
    },
  };

  /** Whether a handshake may begin; end() counts one that succeeded no more. */
  begin({ remoteAddr }: Arriving): boolean {
    const nowMs = this.#now();
    for (const [address, { sinceMs }] of this.#pending) {
      if (nowMs - sinceMs < HANDSHAKE_MS_MAX && this.#pending.size < REMEMBERED_MAX) break;
      this.#pending.delete(address);
    }
    const address = remoteAddr.toString();
    const network = publicNetworkOf(address);
    if (network === null) return true;
    let others = 0;
    for (const pending of this.#pending.values()) if (pending.network === network) others++;
    if (others >= HANDSHAKES_PER_NETWORK_MAX) return false;
    this.#pending.set(address, { network, sinceMs: nowMs });
    return true;
  }

  end({ remoteAddr }: Arriving): void {
    this.#pending.delete(remoteAddr.toString());
  }
}
