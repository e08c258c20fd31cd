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
import { close } from './connection-trimmer.js';
import { originOf } from './origin.js';
import { overriding } from './overriding.js';
import { lotsAt, secretFrom, surplus, type Draw } from './places.js';
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

/** Bytes passed on within HOUR_MS for one peer that dials, for its network, and for all: 512 MiB, 1 GiB, 4 GiB (9.5 Mbit/s). */
export const RELAYED_BYTES_PER_PEER_MAX = 4 * RELAYED_BYTES_MAX;
export const RELAYED_BYTES_PER_ORIGIN_MAX = 8 * RELAYED_BYTES_MAX;
export const RELAYED_BYTES_PER_HOUR_MAX = 32 * RELAYED_BYTES_MAX;
const HOUR_MS = 60 * 60_000;

/** Peers, and origins, whose share is counted: more than an hour's worth of members. */
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
  readonly #byOrigin = new Map<string, number>();
  #total = 0;
  #sinceMs: number;

  /** `now` in ms. */
  constructor(now: () => number) {
    this.#now = now;
    this.#sinceMs = now();
  }

  add(peerId: string, origin: string, bytes: number): void {
    this.#turn();
    this.#total += bytes;
    count(this.#byPeer, peerId, bytes);
    count(this.#byOrigin, origin, bytes);
  }

  /** Whether one more connection may be passed on for `peerId`, which comes from `origin`. */
  allows(peerId: string, origin: string): boolean {
    this.#turn();
    const ofOrigin = this.#byOrigin.get(origin) ?? 0;
    // What is left last is for whoever has had nothing yet.
    const isScarce = this.#total >= RELAYED_BYTES_PER_HOUR_MAX - RELAYED_BYTES_PER_ORIGIN_MAX;
    return (
      (this.#byPeer.get(peerId) ?? 0) < RELAYED_BYTES_PER_PEER_MAX &&
      ofOrigin < (isScarce ? RELAYED_BYTES_MAX : RELAYED_BYTES_PER_ORIGIN_MAX) &&
      this.#total < RELAYED_BYTES_PER_HOUR_MAX
    );
  }

  /** Begins the next hour when this one is over. */
  #turn(): void {
    if (this.#now() - this.#sinceMs < HOUR_MS) return;
    this.#sinceMs = this.#now();
    this.#total = 0;
    this.#byPeer.clear();
    this.#byOrigin.clear();
  }
}

/** Adds to the count of `name`; when too many are counted, the one with the least is forgotten. */
function count(counts: Map<string, number>, name: string, bytes: number): void {
  const known = counts.get(name);
  if (known === undefined && counts.size >= COUNTED_PEERS_MAX) {
    counts.delete([...counts].reduce((a, b) => (b[1] < a[1] ? b : a))[0]);
  }
  counts.set(name, (known ?? 0) + bytes);
}

/** A place that a relay keeps. */
export interface Reserved {
  peerId: string;
  origin: string;
  sinceMs: number;
}

/** Whose place `newcomer` gets when all are taken; null when it gets none. The rule is that of all lists (places.ts). */
export function placeFor(
  newcomer: Reserved,
  reserved: readonly Reserved[],
  draw: Draw,
): Reserved | null {
  const places = [...reserved, newcomer].map((each) => ({ ...each, cost: 1, aliveMs: 0, each }));
  const room = { capacity: reserved.length, absentMs: Infinity };
  const [loser] = surplus(places, room, 0, draw);
  return loser === undefined || loser.each === newcomer ? null : loser.each;
}

/** libp2p's relay service within these bounds; it passes on nothing before start(). */
export class Relay {
  readonly #budget = new RelayBudget(Date.now);
  readonly #secret = secretFrom(Math.random);
  /** When each place was reserved. */
  readonly #sinceMs = new Map<string, number>();
  #rules: RelayRules | null = null;
  #service: CircuitRelayService | null = null;
  #connections: CircuitRelayServerComponents['connectionManager'] | null = null;

  /** What libp2p asks before it reserves a place or passes on a connection. */
  readonly gater: ConnectionGater = {
    denyInboundRelayReservation: (source: PeerId) =>
      this.#rules?.isMember(source.toString()) !== true || !this.#makeRoom(source),
    denyOutboundRelayedConnection: (source: PeerId, destination: PeerId) => {
      const [from, to] = [source.toString(), destination.toString()];
      const mayMeet = this.#rules?.mayMeet(from, to) === true;
      return !mayMeet || !this.#budget.allows(from, this.#originOf(source));
    },
  };

  /** `components` are those of the node that has our gater. */
  async start(components: CircuitRelayServerComponents, rules: RelayRules): Promise<void> {
    await this.stop();
    const registrar = this.#charging(components.registrar);
    this.#rules = rules;
    this.#connections = components.connectionManager;
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
    this.#sinceMs.clear();
    if (service !== null) await stop(service);
  }

  /** Whether there is a place for `source`. Whoever loses its own is cut off, so that it looks for another relay. */
  #makeRoom(source: PeerId): boolean {
    const places = this.#service?.reservations;
    if (places === undefined) return false;
    const nowMs = Date.now();
    const held = new Map([...places.keys()].map((id) => [id.toString(), id]));
    for (const peerId of this.#sinceMs.keys()) if (!held.has(peerId)) this.#sinceMs.delete(peerId);
    const reserved = [...held].map(([peerId, id]) => this.#reserved(peerId, id, nowMs));
    if (!places.has(source) && places.size >= RESERVATIONS_MAX) {
      const newcomer = this.#reserved(source.toString(), source, nowMs);
      const loser = placeFor(newcomer, reserved, lotsAt(this.#secret, nowMs));
      const id = held.get(loser?.peerId ?? '');
      if (id === undefined) return false;
      places.delete(id);
      for (const connection of this.#connections?.getConnections(id) ?? []) void close(connection);
    }
    if (!this.#sinceMs.has(source.toString())) this.#sinceMs.set(source.toString(), nowMs);
    return true;
  }

  #reserved(peerId: string, id: PeerId, nowMs: number): Reserved {
    const sinceMs = this.#sinceMs.get(peerId) ?? nowMs;
    return { peerId, origin: this.#originOf(id), sinceMs };
  }

  #originOf(id: PeerId): string {
    const [connection] = this.#connections?.getConnections(id) ?? [];
    return originOf(id.toString(), connection?.remoteAddr.toString() ?? '');
  }

  /** What goes through is charged to the peer that dialled. */
  #charging(registrar: Registrar): Registrar {
    const handle: Registrar['handle'] = (protocol, handler, options) =>
      registrar.handle(
        protocol,
        (stream, connection) => {
          const peerId = connection.remotePeer.toString();
          const origin = originOf(peerId, connection.remoteAddr.toString());
          const charge = (bytes: number): void => {
            this.#budget.add(peerId, origin, bytes);
          };
          countBytes(stream, charge, charge);
          return handler(stream, connection);
        },
        options,
      );
    return overriding(registrar, { handle });
  }
}
