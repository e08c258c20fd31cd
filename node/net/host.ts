/** One libp2p node: TCP and relays, noise, yamux, identify, ping, kad-dht, and gossipsub once a run is known. */
import './polyfill.js';
import { gossipsub, type GossipSubComponents } from '@chainsafe/libp2p-gossipsub';
import type {
  CircuitRelayServerComponents,
  CircuitRelayTransportComponents,
} from '@libp2p/circuit-relay-v2';
import { identify, identifyPush, type Identify } from '@libp2p/identify';
import {
  isPeerId,
  serviceCapabilities,
  start,
  stop,
  type Address,
  type Connection,
  type PeerId,
  type Stream,
} from '@libp2p/interface';
import { kadDHT, passthroughMapper, type KadDHT } from '@libp2p/kad-dht';
import { noise } from '@libp2p/noise';
import { ping } from '@libp2p/ping';
import { tcp } from '@libp2p/tcp';
import { uPnPNAT } from '@libp2p/upnp-nat';

import type { Multiaddr } from '@multiformats/multiaddr';
import { Registry } from 'prom-client';
import { createLibp2p, type Libp2p, type Libp2pOptions } from 'libp2p';
import { DHT_PROTOCOL_ID } from '../../protocol/ids.js';
import { EXIT_USAGE, UserError } from '../errors.js';
import { isRelayed, parseAddress, parsePeerId, peerIdOf, relayOf } from './addresses.js';
import { BoundedDatastore } from './bounded-datastore.js';
import { ConnectionTrimmer } from './connection-trimmer.js';
import { NewerProtocolError, reasonOf } from './errors.js';
import { GossipIntake } from './gossip-intake.js';
import { gossipOptions } from './gossip-options.js';
import { keepScores } from './gossip-scores.js';
import { HANDSHAKES_MAX, HandshakeRoom } from './handshake-room.js';
import type { NetIdentity } from './identity.js';
import { innerOf, type InnerGossip } from './inner-gossip.js';
import { calmYamux } from './muxer.js';
import { registeringMetrics } from './libp2p-metrics.js';
import { originOf } from './origin.js';
import { overriding } from './overriding.js';
import { relayedTransport } from './relay-client.js';
import { Relay, type RelayRules } from './relay-server.js';
import type { SwarmKey } from './swarm-key.js';
import { countingMetrics, TrafficMeter, type Traffic } from './traffic.js';
import { newerVersionOf } from './versions.js';

/** Open connections; a peer needs about six, a bootstrap node one for each peer that is asking. */
const CONNECTIONS_MAX = 256;

/** Of those, such as came in: beyond it the most crowded network makes room (inbound-room.ts). */
const INBOUND_MAX = (CONNECTIONS_MAX * 3) / 4;

/** New inbound connections a second from one address: an office behind one NAT starts together. */
const INBOUND_PER_SECOND_MAX = 64;

/** One address may take this long to answer, in ms, before the next one of the same dial is tried. */
const ADDRESS_DIAL_TIMEOUT_MS = 4_000;

/** A ping goes to every connection this often, in ms; one that fails ends the connection. */
const PING_INTERVAL_MS = 5_000;

/** How long a ping may take at most, in ms: a frozen peer is given up after the interval and this. */
const PING_TIMEOUT_MAX_MS = 10_000;

/** Unread bytes of one stream before it is reset; more than one window, which may be on its way. */
const STREAM_UNREAD_BYTES_MAX = 4 * 1024 * 1024;

/** Flow-control window of one stream: 2 MiB carry 40 MB/s over 50 ms. */
const STREAM_WINDOW_BYTES_MAX = 2 * 1024 * 1024;

/** Streams that one peer may have open towards us: one or two for each protocol, and 32 for the DHT. */
const INBOUND_STREAMS_MAX = 64;

/** Where the DHT keeps what others told it, and how many entries: a provider of a run takes some 200 bytes. */
const DHT_PREFIX = '/dht';
const DHT_ENTRIES_MAX = 4_096;

/** Where libp2p keeps what it knows of peers, for ever, and how many: some sixteen times the connections. */
const PEERS_PREFIX = '/peers';
const PEERS_MAX = 4_096;

/** Delay in ms before a new protocol is told to connected peers. */
const IDENTIFY_PUSH_DELAY_MS = 50;

/** The end of a listen address that leaves the port to the system. */
const ANY_PORT = /\/tcp\/0$/;

/** The system's name for a port in use; libp2p passes it on inside a longer message. */
const PORT_TAKEN = 'EADDRINUSE';

/** What this machine alone reaches, as relays of other machines name it too. */
const LOOPBACK = /^\/(ip4\/127\.|ip6\/::1\/)/;

/** Parts of libp2p for what is started only when a run is known, or stopped and started again. */
export type NodeParts = GossipSubComponents &
  Pick<CircuitRelayTransportComponents, 'transportManager'> &
  CircuitRelayServerComponents;

/** The libp2p node under a host, for the files of this folder alone. */
export type Node = Libp2p<{ dht: KadDHT; identify: Identify; parts: NodeParts }>;

export interface HostInit {
  identity: NetIdentity;
  /** Multiaddrs, e.g. "/ip4/0.0.0.0/tcp/0" (port 0: any free one). */
  listen: readonly string[];
  /** The port of the last start: taken instead of port 0 when it is free, so that others find us again. */
  preferredPort?: number | null;
  /** Whether this node answers DHT queries (the default) or only asks. */
  dht?: 'client' | 'server';
  /** Whether to ask the router to forward our port (UPnP). */
  upnp?: boolean;
  /** Of a private network: who does not have it cannot connect. */
  swarmKey?: SwarmKey | null;
}

export class Host {
  readonly #node: Node;
  readonly #meter: TrafficMeter;
  readonly #trimmer: ConnectionTrimmer;
  readonly #relay: Relay;
  #gossip: InnerGossip | null = null;
  #intake: GossipIntake | null = null;

  /** Use createHost. `swarmKey`: with which `node` was made. */
  constructor(
    node: Node,
    meter: TrafficMeter,
    relay: Relay,
    readonly swarmKey: SwarmKey | null,
    /** libp2p's own measurements. */
    readonly registry: Registry,
  ) {
    this.#node = node;
    this.#meter = meter;
    this.#relay = relay;
    this.#trimmer = new ConnectionTrimmer(node, INBOUND_MAX);
    this.#trimmer.start();
    this.announceInterfaces();
  }

  get peerId(): string {
    return this.#node.peerId.toString();
  }

  get libp2p(): Node {
    return this.#node;
  }

  /**
   * Full multiaddrs that end in /p2p/<peer id>; for 0.0.0.0 one for each interface. Those through relays come
   * last, without what only the relay itself can reach.
   */
  addresses(): string[] {
    const all = this.#node.getMultiaddrs().map((address) => address.toString());
    const direct = all.filter((address) => !isRelayed(address));
    const relayed = all.filter(isRelayed);
    const isLocal = direct.every((address) => LOOPBACK.test(address));
    return [...direct, ...relayed.filter((address) => isLocal || !LOOPBACK.test(address))];
  }

  /**
   * Announces the addresses of all network interfaces that we listen on; again after those have changed.
   * libp2p keeps a public one to itself until four strangers have vouched for it.
   */
  announceInterfaces(): void {
    const { addressManager, transportManager } = this.#node.services.parts;
    for (const address of transportManager.getAddrs()) {
      if (relayOf(address) === null)
        addressManager.confirmObservedAddr(address, { type: 'transport' });
    }
  }

  /** The TCP port that this host listens on; null when it does not listen. */
  listenPort(): number | null {
    for (const address of this.#node.getMultiaddrs()) {
      if (relayOf(address) !== null) continue;
      const port = address.getComponents().find(({ name }) => name === 'tcp')?.value;
      if (port !== undefined) return Number(port);
    }
    return null;
  }

  /** Peer ids. */
  connectedPeers(): Set<string> {
    return new Set(this.#node.getPeers().map(String));
  }

  traffic(): Traffic {
    return this.#meter.traffic();
  }

  /**
   * A stream on an open connection to `target`, a direct one where there is one, else on a new connection.
   * Rejects with NewerProtocolError where that is why, else as libp2p does.
   */
  async openStream(
    target: PeerId | Multiaddr,
    protocol: string,
    signal: AbortSignal,
  ): Promise<Stream> {
    const id = isPeerId(target) ? target : parsePeerId(peerIdOf(target) ?? '');
    const open = this.#node
      .getConnections(id ?? undefined)
      .filter(({ status }) => id !== null && status === 'open')
      .toSorted((a, b) => Number(b.direct) - Number(a.direct));
    const options = { signal, runOnLimitedConnection: true };
    // libp2p itself would dial anew where all there is goes through a relay.
    const mayBeRelayed = isPeerId(target) || relayOf(target) !== null;
    const best = open.find(({ direct }) => direct || mayBeRelayed);
    try {
      if (best !== undefined) return await best.newStream(protocol, options);
      return await this.#node.dialProtocol(target, protocol, options);
    } catch (error) {
      const isUnknown = error instanceof Error && error.name === 'UnsupportedProtocolError';
      const version = isUnknown ? await this.#newerVersion(id, signal) : null;
      throw version === null ? error : new NewerProtocolError(version);
    }
  }

  /** The newer major version that `id`, which is connected, speaks alone; null when it does not, or does not say. */
  async #newerVersion(id: PeerId | null, signal: AbortSignal): Promise<number | null> {
    const [connection] = id === null ? [] : this.#node.getConnections(id);
    if (connection === undefined) return null;
    try {
      const { protocols } = await this.#node.services.identify.identify(connection, { signal });
      return newerVersionOf(protocols);
    } catch {
      // Then it is unknown why.
      return null;
    }
  }

  /** Starts gossipsub for one topic and no other, among members. One at a time: stopGossip ends it. */
  async startGossip(topic: string, isMember: (peerId: string) => boolean): Promise<InnerGossip> {
    await this.stopGossip();
    const { parts } = this.#node.services;
    const intake = new GossipIntake();
    const components = overriding(parts, { registrar: intake.slowing(parts.registrar) });
    const gossip = innerOf(gossipsub(gossipOptions(topic, isMember))(components));
    intake.attach(gossip);
    keepScores(gossip.score);
    await start(gossip);
    this.#gossip = gossip;
    this.#intake = intake;
    return gossip;
  }

  async stopGossip(): Promise<void> {
    const gossip = this.#gossip;
    this.#gossip = null;
    this.#intake?.stop();
    this.#intake = null;
    if (gossip !== null) await stop(gossip);
  }

  /** Passes on, from now on, what others send to each other, as far as `rules` allow. */
  async startRelay(rules: RelayRules): Promise<void> {
    await this.#relay.start(this.#node.services.parts, rules);
  }

  /** Ends gossip, relaying, all connections and listeners. */
  async stop(): Promise<void> {
    this.#trimmer.stop();
    await this.#relay.stop();
    await this.stopGossip();
    await this.#node.stop();
  }
}

/**
 * Makes and starts a host.
 * @throws UserError when an address is malformed or cannot be listened on (e.g. its port is taken).
 */
export async function createHost(init: HostInit): Promise<Host> {
  for (const address of init.listen) parseAddress(address);
  const { preferredPort = null } = init;
  if (preferredPort !== null && init.listen.some((address) => ANY_PORT.test(address))) {
    const listen = init.listen.map((a) => a.replace(ANY_PORT, `/tcp/${preferredPort}`));
    try {
      return await listenOn(listen, init);
    } catch (error) {
      // Somebody else has that port now; the user asked for any.
      if (!isPortTaken(error)) throw error;
    }
  }
  return listenOn(init.listen, init);
}

async function listenOn(listen: readonly string[], init: HostInit): Promise<Host> {
  const meter = new TrafficMeter();
  const registry = new Registry();
  const relay = new Relay();
  const datastore = new BoundedDatastore({
    [DHT_PREFIX]: DHT_ENTRIES_MAX,
    [PEERS_PREFIX]: PEERS_MAX,
  });
  try {
    const node = await createLibp2p({
      privateKey: init.identity.libp2pKey(),
      addresses: { listen: [...listen] },
      datastore,
      transports: [tcp(), relayedTransport()],
      connectionEncrypters: [noise()],
      streamMuxers: [
        calmYamux({
          streamOptions: {
            maxStreamWindowSize: STREAM_WINDOW_BYTES_MAX,
            maxReadBufferLength: STREAM_UNREAD_BYTES_MAX,
          },
          maxInboundStreams: INBOUND_STREAMS_MAX,
        }),
      ],
      ...protection(init.swarmKey ?? null),
      connectionGater: { ...relay.gater, ...new HandshakeRoom().gater },
      connectionManager: {
        maxConnections: CONNECTIONS_MAX,
        addressDialTimeout: ADDRESS_DIAL_TIMEOUT_MS,
        addressSorter: directFirst,
        inboundConnectionThreshold: INBOUND_PER_SECOND_MAX,
        maxIncomingPendingConnections: HANDSHAKES_MAX,
      },
      connectionMonitor: {
        pingInterval: PING_INTERVAL_MS,
        pingTimeout: { maxTimeout: PING_TIMEOUT_MAX_MS },
      },
      metrics: (components) => registeringMetrics(countingMetrics(meter), registry, components),
      services: {
        identify: identify(),
        identifyPush: identifyPush({ debounce: IDENTIFY_PUSH_DELAY_MS }),
        ping: ping(),
        dht: kadDHT({
          protocol: DHT_PROTOCOL_ID,
          datastorePrefix: DHT_PREFIX,
          clientMode: init.dht === 'client',
          // Keeps private addresses: a swarm in one building has no others.
          peerInfoMapper: passthroughMapper,
        }),
        parts: partsOf,
        ...(init.upnp === true ? { upnp: uPnPNAT() } : {}),
      },
    });
    attach(datastore, node);
    meter.remoteOf = (stream) => {
      const isOf = (connection: Connection): boolean =>
        connection.streams.some((one) => one === stream);
      return node.getConnections().find(isOf)?.remotePeer.toString() ?? null;
    };
    return new Host(node, meter, relay, init.swarmKey ?? null, registry);
  } catch (cause) {
    throw listenError(listen, cause);
  }
}

/** Tells `datastore` which of its entries are in use, and where those come from that they are about. */
function attach(datastore: BoundedDatastore, node: Node): void {
  datastore.isSpared = (name) => {
    const id = peerOf(name);
    if (id === null) return false;
    // One that is connected may write any number of records into the DHT, but has one entry among the peers.
    return name.startsWith(PEERS_PREFIX)
      ? id.equals(node.peerId) || node.getConnections(id).length > 0
      : id.equals(node.peerId);
  };
  datastore.originOf = (name) => {
    const id = peerOf(name);
    const [connection] = id === null ? [] : node.getConnections(id);
    return connection === undefined
      ? null
      : originOf(connection.remotePeer.toString(), connection.remoteAddr.toString());
  };
}

/** Whom an entry of the datastore is about: both kinds of keys end in a peer id. */
function peerOf(name: string): PeerId | null {
  return parsePeerId(name.slice(name.lastIndexOf('/') + 1));
}

/** What libp2p needs to know of a private network. */
export function protection(swarmKey: SwarmKey | null): Pick<Libp2pOptions, 'connectionProtector'> {
  return swarmKey === null ? {} : { connectionProtector: swarmKey.protector() };
}

/** Gossipsub takes its only topic when it is made, and `join` learns the run from a connected peer. */
function partsOf(
  components: NodeParts,
): NodeParts & { readonly [serviceCapabilities]: readonly string[] } {
  return {
    privateKey: components.privateKey,
    peerId: components.peerId,
    peerStore: components.peerStore,
    registrar: components.registrar,
    connectionManager: components.connectionManager,
    transportManager: components.transportManager,
    addressManager: components.addressManager,
    connectionGater: components.connectionGater,
    logger: components.logger,
    // uPnPNAT has its word checked by this: here that is ReachMonitor's work.
    [serviceCapabilities]: ['@libp2p/autonat'],
  };
}

/** libp2p would try a public relay before an address on the own network. */
function directFirst({ multiaddr: a }: Address, { multiaddr: b }: Address): -1 | 0 | 1 {
  const [isRelayedA, isRelayedB] = [relayOf(a) !== null, relayOf(b) !== null];
  if (isRelayedA === isRelayedB) return 0;
  return isRelayedA ? 1 : -1;
}

function isPortTaken(error: unknown): boolean {
  const cause = error instanceof UserError ? error.cause : null;
  return cause instanceof Error && cause.message.includes(PORT_TAKEN);
}

function listenError(listen: readonly string[], cause: unknown): UserError {
  const addresses = listen.join(', ');
  const text = cause instanceof Error ? cause.message : String(cause);
  if (text.includes(PORT_TAKEN)) {
    return new UserError(
      `cannot listen on ${addresses}: another program uses the port; stop it, or give another port (0 takes any free one)`,
      undefined,
      { cause },
    );
  }
  if (text.includes('EADDRNOTAVAIL')) {
    return new UserError(
      `cannot listen on ${addresses}: this machine does not have that address; listen on 0.0.0.0 or on one of its own`,
      EXIT_USAGE,
      { cause },
    );
  }
  return new UserError(`cannot listen on ${addresses}: ${reasonOf(cause)}`, undefined, { cause });
}
