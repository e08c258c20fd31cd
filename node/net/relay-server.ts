/**
 * Passing on what peers that cannot be dialled send to each other (libp2p specs, relay/circuit-v2): for members
 * of runs that are known here, and in bounded amounts, so that nobody gets a proxy for other ends.
 */
import {
  circuitRelayServer,
  type CircuitRelayService,
  type CircuitRelayServerComponents,
} from '@libp2p/circuit-relay-v2';
import { start, stop, type ConnectionGater, type PeerId } from '@libp2p/interface';
import { SYNC_SESSION_BYTES_MAX } from '../../protocol/limits.js';
import { overriding } from './overriding.js';
import { RELAYED_INBOUND_MAX } from './relay-client.js';
import { countBytes } from './traffic.js';

/** Places held at one time; each keeps a connection open, of the host's 256. */
export const RESERVATIONS_MAX = 128;

/** A place is held for so long after it was last renewed, in ms; whoever holds it renews it 5 min before. */
const RESERVATION_MS = 60 * 60_000;

/**
 * Bytes of one relayed connection, both ways together, before it is cut and dialled anew: a sync session in
 * full must fit, and one each way beside the gossip.
 */
export const RELAYED_BYTES_MAX = 4 * SYNC_SESSION_BYTES_MAX;

/** One relayed connection lasts at most this long, in ms: one that is forgotten is not held for ever. */
const RELAYED_MS_MAX = 60 * 60_000;

/** Relayed connections that one peer may have dialled at one time; it wants six members. */
const RELAYED_PER_PEER_MAX = 12;

/** Bytes passed on within HOUR_MS for one peer that dials, and for all: 512 MiB, and 4 GiB or 9.5 Mbit/s. */
export const RELAYED_BYTES_PER_PEER_MAX = 4 * RELAYED_BYTES_MAX;
export const RELAYED_BYTES_PER_HOUR_MAX = 32 * RELAYED_BYTES_MAX;
const HOUR_MS = 60 * 60_000;

/** Peers whose share is counted; more than an hour's worth of members, and whoever comes later waits. */
const COUNTED_PEERS_MAX = 4_096;

type Registrar = CircuitRelayServerComponents['registrar'];

/** Who may use a relay: decided by what runs are known to it. */
export interface RelayRules {
  /** Whether this peer is a member of a run that is known here. */
  isMember(peerId: string): boolean;
  /** Whether the two may take part in one run, of which `to` is a member. */
  mayMeet(from: string, to: string): boolean;
}

/** How much was passed on for whom in the running hour. */
export class RelayBudget {
  readonly #now: () => number;
  readonly #byPeer = new Map<string, number>();
  #total = 0;
  #sinceMs: number;

  /** `now` in ms. */
  constructor(now: () => number) {
    this.#now = now;
    this.#sinceMs = now();
  }

  add(peerId: string, bytes: number): void {
    this.#turn();
    this.#total += bytes;
    this.#byPeer.set(peerId, (this.#byPeer.get(peerId) ?? 0) + bytes);
  }

  /** Whether one more connection may be passed on for `peerId`. */
  allows(peerId: string): boolean {
    this.#turn();
    const used = this.#byPeer.get(peerId);
    if (used === undefined && this.#byPeer.size >= COUNTED_PEERS_MAX) return false;
    return (used ?? 0) < RELAYED_BYTES_PER_PEER_MAX && this.#total < RELAYED_BYTES_PER_HOUR_MAX;
  }

  /** Begins the next hour when this one is over. */
  #turn(): void {
    if (this.#now() - this.#sinceMs < HOUR_MS) return;
    this.#sinceMs = this.#now();
    this.#total = 0;
    this.#byPeer.clear();
  }
}

/** libp2p's relay service within these bounds; it passes on nothing before start(). */
export class Relay {
  readonly #budget = new RelayBudget(Date.now);
  #rules: RelayRules | null = null;
  #service: CircuitRelayService | null = null;

  /** What libp2p asks before it reserves a place or passes on a connection. */
  readonly gater: ConnectionGater = {
    denyInboundRelayReservation: (source: PeerId) =>
      this.#rules?.isMember(source.toString()) !== true,
    denyOutboundRelayedConnection: (source: PeerId, destination: PeerId) => {
      const [from, to] = [source.toString(), destination.toString()];
      return this.#rules?.mayMeet(from, to) !== true || !this.#budget.allows(from);
    },
  };

  /** `components` are those of the node that has our gater. */
  async start(components: CircuitRelayServerComponents, rules: RelayRules): Promise<void> {
    await this.stop();
    const registrar = this.#charging(components.registrar);
    this.#rules = rules;
    this.#service = circuitRelayServer({
      maxInboundHopStreams: RELAYED_PER_PEER_MAX,
      maxOutboundStopStreams: RELAYED_INBOUND_MAX,
      reservations: {
        maxReservations: RESERVATIONS_MAX,
        reservationTtl: RESERVATION_MS,
        defaultDataLimit: BigInt(RELAYED_BYTES_MAX),
        defaultDurationLimit: RELAYED_MS_MAX,
      },
    })(overriding(components, { registrar }));
    await start(this.#service);
  }

  async stop(): Promise<void> {
    const service = this.#service;
    this.#service = null;
    this.#rules = null;
    if (service !== null) await stop(service);
  }

  /** What goes through is charged to the peer that dialled. */
  #charging(registrar: Registrar): Registrar {
    const handle: Registrar['handle'] = (protocol, handler, options) =>
      registrar.handle(
        protocol,
        (stream, connection) => {
          const charge = (bytes: number): void => {
            this.#budget.add(connection.remotePeer.toString(), bytes);
          };
          countBytes(stream, charge, charge);
          return handler(stream, connection);
        },
        options,
      );
    return overriding(registrar, { handle });
  }
}
