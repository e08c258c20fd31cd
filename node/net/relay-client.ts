/**
 * Being reached through others: places reserved on relays (libp2p specs, relay/circuit-v2), for a peer that
 * nobody can dial.
 */
import { circuitRelayTransport, RELAY_V2_HOP_CODEC } from '@libp2p/circuit-relay-v2';
import type { Connection, Listener, PeerId, Transport } from '@libp2p/interface';
import { multiaddr } from '@multiformats/multiaddr';
import type { Logger } from '../interfaces.js';
import { parsePeerId, relayOf } from './addresses.js';
import { backoffMs } from './backoff.js';
import { reasonOf, UnreachableError } from './errors.js';
import type { Node } from './host.js';
import { originOf } from './origin.js';
import { overriding } from './overriding.js';

/** Relays reserved at one time: when one goes, the other still stands. */
export const RELAYS_WANTED = 2;

/** Relayed connections that one relay may open to one peer at one time. */
export const RELAYED_INBOUND_MAX = 32;

/** Relays whose refusal is remembered. */
const REFUSALS_MAX = 64;

type Components = Parameters<ReturnType<typeof circuitRelayTransport>>[0];

/**
 * The transport for relayed addresses. It reserves where RelayPlaces says and nowhere else: left alone it
 * would listen anew for every connection that any peer hands it as if it were our relay, without an end.
 */
export function relayedTransport(): (components: Components) => Transport {
  const make = circuitRelayTransport({ maxInboundStopStreams: RELAYED_INBOUND_MAX });
  return (components) => {
    const refusing = overriding(components.transportManager, {
      listen: () => Promise.reject(new UnreachableError('no place was reserved on that relay')),
    });
    return make(overriding(components, { transportManager: refusing }));
  };
}

/** The relays on which `node` has a place now: peer ids. A relay may name others; only connected ones count. */
export function relaysOf(node: Node): string[] {
  const named = new Set(node.getMultiaddrs().map((address) => relayOf(address)));
  const ids = [...named].flatMap((relay) => parsePeerId(relay ?? '') ?? []);
  return ids.filter((id) => isDirectlyConnected(node, id)).map(String);
}

function isDirectlyConnected(node: Node, id: PeerId): boolean {
  return node.getConnections(id).some(({ direct, status }) => direct && status === 'open');
}

export class RelayPlaces {
  readonly #node: Node;
  readonly #logger: Logger;
  readonly #random: () => number;
  /** libp2p's listeners, one a place. They cannot be closed one by one, so that they are used again. */
  readonly #listeners: Listener[] = [];
  readonly #refusals = new Map<string, { failures: number; nextAttemptMs: number }>();
  #busy = false;

  /** `random` gives [0, 1). */
  constructor(node: Node, logger: Logger, random: () => number) {
    this.#node = node;
    this.#logger = logger;
    this.#random = random;
  }

  /** Reserves one more place where one is missing. Never rejects; call it again and again. */
  async reserve(nowMs: number): Promise<void> {
    const held = relaysOf(this.#node);
    if (this.#busy || held.length >= RELAYS_WANTED) return;
    this.#busy = true;
    try {
      const relay = await this.#choose(held, nowMs);
      if (relay !== null) await this.#reserveOn(relay, held, nowMs);
    } finally {
      this.#busy = false;
    }
  }

  /** Gives all places back: whoever can be dialled needs none. */
  async release(): Promise<void> {
    await Promise.all(this.#listeners.splice(0).map((listener) => listener.close()));
  }

  /**
   * A relay that we are connected to directly, have no place on, and that did not refuse just now. One that we dialled
   * comes before one that came in, and one in another network than the relay that we have: two names may be one machine.
   */
  async #choose(held: readonly string[], nowMs: number): Promise<PeerId | null> {
    const direct = this.#node
      .getConnections()
      .filter((connection) => connection.direct && connection.status === 'open');
    const origin = ({ remotePeer, remoteAddr }: Connection): string =>
      originOf(remotePeer.toString(), remoteAddr.toString());
    const used = new Set(
      direct.filter(({ remotePeer }) => held.includes(remotePeer.toString())).map(origin),
    );
    const merit = (connection: Connection): number =>
      2 * Number(!used.has(origin(connection))) + Number(connection.direction === 'outbound');
    for (const { remotePeer: id } of direct.sort((a, b) => merit(b) - merit(a))) {
      const peerId = id.toString();
      if (held.includes(peerId) || (this.#refusals.get(peerId)?.nextAttemptMs ?? 0) > nowMs) {
        continue;
      }
      const known = await this.#node.peerStore.get(id).catch(() => null);
      if (known?.protocols.includes(RELAY_V2_HOP_CODEC)) return id;
    }
    return null;
  }

  async #reserveOn(relay: PeerId, held: readonly string[], nowMs: number): Promise<void> {
    const address = multiaddr(`/p2p/${relay.toString()}/p2p-circuit`);
    const { transportManager } = this.#node.services.parts;
    try {
      const free = this.#listeners.find((listener) => listener.getAddrs().length === 0);
      if (free !== undefined) {
        await free.listen(address);
      } else {
        const before = new Set(transportManager.getListeners());
        // Also one whose first place was refused is there to be used again.
        await transportManager.listen([address]).finally(() => {
          const made = transportManager.getListeners().filter((each) => !before.has(each));
          this.#listeners.push(...made);
        });
      }
      this.#refusals.delete(relay.toString());
      this.#logger.info({ relay: relay.toString(), held: held.length + 1 }, 'reserved on a relay');
    } catch (error) {
      this.#noteRefusal(relay.toString(), nowMs);
      const fields = { relay: relay.toString(), reason: reasonOf(error) };
      this.#logger.debug(fields, 'a relay gave no place');
    }
  }
  #noteRefusal(relay: string, nowMs: number): void {
    const failures = (this.#refusals.get(relay)?.failures ?? 0) + 1;
    const nextAttemptMs = nowMs + backoffMs(failures, this.#random());
    this.#refusals.delete(relay);
    this.#refusals.set(relay, { failures, nextAttemptMs });
    const [oldest = ''] = this.#refusals.keys();
    if (this.#refusals.size > REFUSALS_MAX) this.#refusals.delete(oldest);
  }
}
