/**
 * Members of the run on the same network, found by multicast DNS (RFC 6762) without any address. Whoever answers
 * is a candidate and nothing more: the dialler meets it as it meets all others.
 */
import { mdns } from '@libp2p/mdns';
import { start, stop, type PeerInfo } from '@libp2p/interface';
import { RUN_PEERS_MAX } from '../../protocol/limits.js';
import { cleanAddresses, isRelayed } from './addresses.js';
import type { Host } from './host.js';
import { overriding } from './overriding.js';
import { isLoopback } from './reachability.js';
import type { PeerAddresses } from './run-registry.js';

/** Between two questions to the network, in ms. */
const QUERY_INTERVAL_MS = 10_000;

/** What was heard is told at most this often, in ms, however much somebody shouts. */
const TELL_INTERVAL_MS = 1_000;

/** Digits of the run id in the service's name, which has 15 characters at most (RFC 6763, section 7.2). */
const RUN_DIGITS = 8;

export class LocalDiscovery {
  readonly #host: Host;
  readonly #service: ReturnType<ReturnType<typeof mdns>>;
  readonly #onPeers: (peers: PeerAddresses[]) => void;
  readonly #heard = new Map<string, PeerAddresses>();
  #timer: NodeJS.Timeout | null = null;

  constructor(host: Host, runId: string, onPeers: (peers: PeerAddresses[]) => void) {
    this.#host = host;
    this.#onPeers = onPeers;
    const { addressManager, logger } = host.libp2p.services.parts;
    const getAddresses = (): ReturnType<typeof addressManager.getAddresses> =>
      addressManager
        .getAddresses()
        .filter((address) => !isLoopback(address.toString()) && !isRelayed(address.toString()));
    this.#service = mdns({ serviceTag: serviceOf(runId), interval: QUERY_INTERVAL_MS })({
      addressManager: overriding(addressManager, { getAddresses }),
      logger,
    });
  }

  /** Does nothing for a host that keeps to this machine. */
  async start(): Promise<void> {
    if (this.#timer !== null || this.#host.addresses().every(isLoopback)) return;
    this.#timer = setInterval(() => {
      if (this.#heard.size > 0) this.#onPeers([...this.#heard.values()]);
      this.#heard.clear();
    }, TELL_INTERVAL_MS);
    this.#service.addEventListener('peer', this.#onPeer);
    await start(this.#service);
  }

  async stop(): Promise<void> {
    if (this.#timer === null) return;
    clearInterval(this.#timer);
    this.#timer = null;
    this.#service.removeEventListener('peer', this.#onPeer);
    await stop(this.#service);
  }

  readonly #onPeer = ({ detail }: CustomEvent<PeerInfo>): void => {
    const peerId = detail.id.toString();
    const texts = detail.multiaddrs.map(String).filter((address) => !isLoopback(address));
    const addresses = cleanAddresses(peerId, texts);
    if (addresses.length === 0) return;
    this.#heard.set(peerId, { peerId, addresses });
    if (this.#heard.size <= RUN_PEERS_MAX) return;
    // Somebody shouts: whoever answers once has the same chance as the first ones.
    const names = [...this.#heard.keys()];
    this.#heard.delete(names[Math.floor(Math.random() * names.length)] ?? peerId);
  };
}

/** Each run has a service of its own: runs on one network, and the tests of this project, stay apart. */
export function serviceOf(runId: string): string {
  return `_murmur-${runId.slice(0, RUN_DIGITS)}._udp.local`;
}
