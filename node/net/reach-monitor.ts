/**
 * Finds out whether others can dial this peer, and does what follows: announces an address that works through
 * the router, reserves on relays where none does, and asks the DHT instead of serving it.
 */
import { multiaddr, type Multiaddr } from '@multiformats/multiaddr';
import type { PeerId } from '@libp2p/interface';
import { REACH_PROTOCOL_ID } from '../../protocol/ids.js';
import { REACH_PORTS_MAX } from '../../protocol/limits.js';
import type { Connection, Logger, Reachability } from '../interfaces.js';
import { isRelayed, relayOf } from './addresses.js';
import { reasonOf } from './errors.js';
import type { Host } from './host.js';
import { originOf } from './origin.js';
import { checkReach } from './reach.js';
import { isLoopback, judge, type Check } from './reachability.js';
import { RelayPlaces, relaysOf } from './relay-client.js';

const TICK_MS = 1_000;

/** One check may take this long, in ms. */
const CHECK_TIMEOUT_MS = 20_000;

/** A peer that reached us is asked again after this, in ms, and one that did not or was busy after that. */
const AGAIN_MS = 10 * 60_000;
const AGAIN_FAILED_MS = 60_000;

/** Answers that count; more peers are not asked while these are fresh. */
const CHECKS_MAX = 4;

export interface ReachMonitorInit {
  host: Host;
  logger: Logger;
  /** Called when the addresses that others should know have changed. */
  onAddresses: () => void;
  /** In [0, 1). */
  random?: () => number;
}

export class ReachMonitor {
  readonly #init: ReachMonitorInit;
  readonly #random: () => number;
  readonly #places: RelayPlaces;
  /** By peer id; the newest last. A null answer was none. */
  readonly #asked = new Map<string, { check: Check | null; againMs: number }>();
  /** Addresses that a router forwards to us, as others found out. */
  readonly #confirmed = new Set<string>();
  readonly #abort = new AbortController();
  readonly #work = new Set<Promise<void>>();
  #timer: NodeJS.Timeout | null = null;
  #checking = false;
  #shown = '';
  #networks = '';
  #dhtClient = false;

  constructor(init: ReachMonitorInit) {
    this.#init = init;
    this.#random = init.random ?? Math.random;
    this.#places = new RelayPlaces(init.host.libp2p, init.logger, this.#random);
  }

  start(): void {
    this.#timer = setInterval(() => void this.#tick(), TICK_MS);
  }

  /** Ends the checks. A reservation under way ends with the host: waiting for it would keep a user waiting. */
  async stop(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
    this.#abort.abort();
    await Promise.all(this.#work);
  }

  verdict(): Reachability {
    const direct = this.#listening();
    return judge({
      checks: [...this.#asked.values()].flatMap(({ check }) => check ?? []),
      relays: relaysOf(this.#init.host.libp2p),
      interfaces: [...new Set(direct.map(interfaceOf))],
      port: this.#init.host.listenPort(),
    });
  }

  /** Sentences for `status`, where being reached the way it is puts the run at risk. */
  attention(members: readonly Connection[]): string[] {
    const { state, evidence, relays, fix } = this.verdict();
    if (state === 'private-unreachable') {
      return [
        `nobody can dial this peer (${evidence}), and no relay has a place for it: it meets only peers ` +
          `that can be dialled; ${fix ?? ''}, or name a relay: --bootstrap ADDRESS of a bootstrap node or of ` +
          'a peer that was started with --relay',
      ];
    }
    if (members.length === 0 || !members.every(({ address }) => isRelayed(address))) return [];
    const used = new Set(members.map(({ address }) => relayOf(multiaddr(address))));
    if (used.size > 1 || relays.length > 1) return [];
    return [
      `everybody is connected through the relay ${[...used].join()} alone: when it ends, this peer trains ` +
        `alone until there is another relay; ${fix ?? 'have a peer that can be dialled join'}, or start ` +
        'a peer that can be dialled with --relay',
    ];
  }

  async #tick(): Promise<void> {
    const nowMs = Date.now();
    const networks = this.#listening().map(interfaceOf).join(' ');
    if (networks !== this.#networks) {
      // On another network nothing holds that was found on the last one.
      this.#asked.clear();
      this.#init.host.announceInterfaces();
      this.#networks = networks;
    }
    this.#checkNext(nowMs);
    const { state } = this.verdict();
    const isPrivate = state === 'private-relayed' || state === 'private-unreachable';
    try {
      if (isPrivate) await this.#places.reserve(nowMs);
      else if (state === 'public') await this.#places.release();
      if (state !== 'unknown') await this.#setDht(isPrivate);
    } catch (error) {
      this.#init.logger.debug({ reason: reasonOf(error) }, 'the network refused to be arranged');
    }
    const shown = this.#init.host.addresses().join(' ');
    if (this.#timer === null) return;
    if (shown === this.#shown) return;
    if (this.#shown !== '') this.#init.onAddresses();
    this.#shown = shown;
  }

  /** A node that nobody can dial would only keep those waiting who ask the DHT. */
  async #setDht(isPrivate: boolean): Promise<void> {
    if (isPrivate === this.#dhtClient) return;
    this.#dhtClient = isPrivate;
    await this.#init.host.libp2p.services.dht.setMode(isPrivate ? 'client' : 'server');
  }

  #checkNext(nowMs: number): void {
    if (this.#checking || this.#listening().every((address) => isLoopback(address.toString())))
      return;
    const fresh = [...this.#asked.values()].filter(
      ({ check, againMs }) => check !== null && againMs > nowMs,
    );
    if (fresh.length >= CHECKS_MAX) return;
    this.#checking = true;
    const check = async (): Promise<void> => {
      try {
        const next = await this.#nextToAsk(nowMs);
        if (next !== null) await this.#ask(next);
      } finally {
        this.#checking = false;
      }
    };
    this.#launch(check());
  }

  /** One to ask: whom we dialled before who came in, and nobody from a network that has had its say. */
  async #nextToAsk(nowMs: number): Promise<PeerId | null> {
    const node = this.#init.host.libp2p;
    const direct = node.getConnections().filter((each) => each.direct && each.status === 'open');
    const heard = new Set<string>();
    for (const { remotePeer, remoteAddr } of direct) {
      const asked = this.#asked.get(remotePeer.toString());
      if (asked === undefined || asked.check === null || asked.againMs <= nowMs) continue;
      heard.add(originOf(remotePeer.toString(), remoteAddr.toString()));
    }
    const isOutbound = ({ direction }: { direction: string }): number =>
      Number(direction === 'outbound');
    for (const { remotePeer: id, remoteAddr } of direct.sort(
      (a, b) => isOutbound(b) - isOutbound(a),
    )) {
      if ((this.#asked.get(id.toString())?.againMs ?? 0) > nowMs) continue;
      if (heard.has(originOf(id.toString(), remoteAddr.toString()))) continue;
      const known = await node.peerStore.get(id).catch(() => null);
      if (known?.protocols.includes(REACH_PROTOCOL_ID)) return id;
    }
    return null;
  }

  async #ask(id: PeerId): Promise<void> {
    const { host, logger } = this.#init;
    const by = id.toString();
    let check: Check | null = null;
    try {
      const timeout = AbortSignal.timeout(CHECK_TIMEOUT_MS);
      const signal = AbortSignal.any([this.#abort.signal, timeout]);
      check = { by, ...(await checkReach(host, id, this.#ports(), signal)) };
      this.#confirm(check);
    } catch (error) {
      logger.debug({ peerId: by, reason: reasonOf(error) }, 'a reach check was not answered');
    }
    const againMs = check !== null && check.ports.length > 0 ? AGAIN_MS : AGAIN_FAILED_MS;
    this.#asked.delete(by);
    this.#asked.set(by, { check, againMs: Date.now() + againMs * (0.75 + this.#random() / 2) });
    // Old answers make room: what was true when they were given may be so no more.
    while (this.#asked.size > 2 * CHECKS_MAX) {
      const [oldest = ''] = this.#asked.keys();
      this.#asked.delete(oldest);
    }
  }

  /** Announces where we were reached, when a router stands in between; forgets what works no more. */
  #confirm({ seen, ports }: Check): void {
    const { addressManager } = this.#init.host.libp2p.services.parts;
    if (this.#listening().some((address) => interfaceOf(address) === seen)) return;
    for (const port of this.#ports()) {
      const text = `${seen}/tcp/${port}`;
      const address = multiaddr(text);
      if (ports.includes(port)) {
        this.#confirmed.add(text);
        addressManager.confirmObservedAddr(address, { type: 'observed' });
      } else if (this.#confirmed.delete(text)) {
        addressManager.removeObservedAddr(address);
      }
    }
  }

  /** Our addresses that need no relay. */
  #listening(): Multiaddr[] {
    const { transportManager } = this.#init.host.libp2p.services.parts;
    return transportManager.getAddrs().filter((address) => relayOf(address) === null);
  }

  /** Where a check could reach us: the ports that we listen on, and those that a router promised us. */
  #ports(): number[] {
    const { addressManager } = this.#init.host.libp2p.services.parts;
    const promised = addressManager
      .getAddressesWithMetadata()
      .filter(({ type }) => type === 'ip-mapping')
      .map(({ multiaddr: address }) => address);
    const ports = [...this.#listening(), ...promised]
      .flatMap((address) => address.getComponents().find(({ name }) => name === 'tcp')?.value ?? [])
      .map(Number);
    return [...new Set(ports)].slice(0, REACH_PORTS_MAX);
  }

  #launch(work: Promise<void>): void {
    this.#work.add(work);
    void work.finally(() => this.#work.delete(work));
  }
}

function interfaceOf(address: Multiaddr): string {
  const [network] = address.getComponents();
  return `/${network?.name ?? ''}/${network?.value ?? ''}`;
}
