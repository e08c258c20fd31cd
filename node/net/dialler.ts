/**
 * Keeps a peer connected to enough members of its run. libp2p neither dials the peers that it discovers nor
 * goes on after five failed attempts; this does both, for ever, with bounded memory.
 */
import type { Connection, PeerId } from '@libp2p/interface';
import { multiaddr, type Multiaddr } from '@multiformats/multiaddr';
import type { Run } from '../../protocol/manifest.js';
import type { Logger } from '../interfaces.js';
import { parseAddress, parsePeerId, peerIdOf, relayOf } from './addresses.js';
import { backoffMs } from './backoff.js';
import { Candidates, type Candidate } from './candidates.js';
import { ageMs, close, isIdle } from './connection-trimmer.js';
import { crowding, DialRule, ROAM_INTERVAL_MS } from './dial-rule.js';
import { attentionOf, type Contact, type DiallerState } from './dialler-state.js';
import { DirectUpgrade } from './direct-upgrade.js';
import { reasonOf } from './errors.js';
import type { Host } from './host.js';
import { announce } from './introduce.js';
import { originOf } from './origin.js';
import { findMembers, provideRun } from './run-routing.js';
import type { Door, PeerAddresses, RunRegistry } from './run-registry.js';

/** Between two looks at the state, in ms; losing a connection triggers one at once. */
const TICK_MS = 500;

/** One dial or exchange may take this long, in ms. */
const DIAL_TIMEOUT_MS = 8_000;

/** Announcements to bootstrap nodes: this often in ms, and more often while alone. */
const ANNOUNCE_INTERVAL_MS = 30_000;
const ANNOUNCE_ALONE_INTERVAL_MS = 5_000;

/** One random member is asked for more members this often, in ms. */
const EXCHANGE_INTERVAL_MS = 30_000;

/** DHT: provide and look up this often in ms, and more often while alone; one query may take so long. */
const DHT_INTERVAL_MS = 120_000;
const DHT_ALONE_INTERVAL_MS = 20_000;
const DHT_TIMEOUT_MS = 15_000;

/** The remembered peers are saved at most this often, in ms. */
const SAVE_INTERVAL_MS = 5_000;

export interface DiallerInit {
  host: Host;
  run: Run;
  /** The peer's own registry: members that we connect to are noted there, those it heard of are dialled. */
  registry: RunRegistry;
  /** How this peer became a member, and who else is one; null where the manifest says it all. */
  door?: Door | null;
  /** Addresses from the user: bootstrap nodes or members. */
  contacts: readonly string[];
  /** Members from the last time, or from askRuns. */
  known: readonly PeerAddresses[];
  /** Peer ids of the connected members: transport.connections(). */
  connected: () => readonly string[];
  /** Remembers members over a restart. May reject; it is called again later. */
  saveKnown: (peers: PeerAddresses[]) => Promise<void>;
  logger: Logger;
  /** In [0, 1). */
  random?: () => number;
  /** How often a peer at its degree dials one more member, in ms. */
  roamIntervalMs?: number;
}

export class Dialler {
  readonly #init: DiallerInit;
  readonly #random: () => number;
  readonly #candidates: Candidates;
  readonly #rule: DialRule;
  readonly #roamIntervalMs: number;
  readonly #upgrade: DirectUpgrade;
  readonly #contacts: Contact[];
  readonly #targets = new Map<Contact, Multiaddr>();
  readonly #work = new Set<Promise<void>>();
  /** Members that have our announcement, so that they can find us after a restart of theirs. */
  readonly #told = new Set<string>();
  /** One for each dial or exchange under way; stop() aborts them. */
  readonly #aborts = new Set<AbortController>();
  #timer: NodeJS.Timeout | null = null;
  /** Members being dialled, and where. */
  readonly #dialling = new Map<Candidate, readonly string[]>();
  #exchangeMs = 0;
  #dhtMs = 0;
  #shedMs: number;
  #saveMs = 0;
  #saved = '';
  #isSaving = false;

  /** @throws UserError for a malformed contact. */
  constructor(init: DiallerInit) {
    this.#init = init;
    this.#random = init.random ?? Math.random;
    this.#candidates = new Candidates(this.#random);
    this.#roamIntervalMs = init.roamIntervalMs ?? ROAM_INTERVAL_MS;
    this.#rule = new DialRule(this.#candidates, this.#random, {
      roamIntervalMs: this.#roamIntervalMs,
    });
    this.#shedMs = Date.now() + this.#roamIntervalMs;
    this.#upgrade = new DirectUpgrade(init.host, this.#random);
    const targets = init.contacts.map((address) => ({ address, target: parseAddress(address) }));
    // Our own address may well be on a list that is given to every peer of an office.
    const others = targets.filter(({ target }) => peerIdOf(target) !== init.host.peerId);
    this.#contacts = others.map(({ address, target }) => {
      const contact = { address, failures: 0, nextAttemptMs: 0, lastError: null, busy: false };
      this.#targets.set(contact, target);
      return contact;
    });
    this.#learn(init.known, 'the last time');
  }

  start(): void {
    this.#timer = setInterval(this.#tick, TICK_MS);
    this.#init.host.libp2p.addEventListener('peer:disconnect', this.#tick);
    this.#tick();
  }

  /** Ends all attempts and saves what is known. */
  async stop(): Promise<void> {
    if (this.#timer === null) return;
    clearInterval(this.#timer);
    this.#timer = null;
    this.#init.host.libp2p.removeEventListener('peer:disconnect', this.#tick);
    for (const abort of this.#aborts) abort.abort();
    await Promise.all(this.#work);
    await this.#save();
  }

  state(): DiallerState {
    const failing = this.#candidates.all().filter(({ lastError }) => lastError !== null);
    return {
      members: this.#init.connected().length,
      contacts: this.#contacts.map((contact) => ({ ...contact })),
      candidates: this.#candidates.size,
      unreachable: failing.map(({ peerId, lastError, nextAttemptMs }) => ({
        peerId,
        reason: lastError ?? '',
        nextAttemptMs,
      })),
    };
  }

  /** Tells everybody anew where we are, at once. */
  addressesChanged(): void {
    for (const contact of this.#contacts) {
      if (contact.lastError === null) contact.nextAttemptMs = 0;
    }
    this.#told.clear();
    this.#tick();
  }

  /** What others say of members, from elsewhere than an introduction. */
  heard(peers: readonly PeerAddresses[]): void {
    this.#learn(peers, 'elsewhere');
    this.#tick();
  }

  /** Sentences for `status`: what cannot be reached, and when it is tried again. `nowMs` since 1970. */
  attention(nowMs: number): string[] {
    return attentionOf(this.state(), nowMs);
  }

  readonly #tick = (): void => {
    if (this.#timer === null) return;
    const nowMs = Date.now();
    const connected = new Set(this.#init.connected());
    const { registry, run } = this.#init;
    for (const { peers } of registry.list(run.id)) {
      for (const peer of peers) this.#candidates.announced(peer);
    }
    this.#noteConnected(connected, nowMs);
    this.#dialDue(connected, nowMs);
    this.#shed(connected, nowMs);
    this.#upgradeDue(connected, nowMs);
    for (const contact of this.#contacts) this.#visit(contact, connected.size, nowMs);
    this.#exchange(connected, nowMs);
    this.#askDht(connected.size, nowMs);
    // On a slow disk a write takes longer: two would rename one temporary file.
    if (nowMs >= this.#saveMs && !this.#isSaving) {
      this.#saveMs = nowMs + SAVE_INTERVAL_MS;
      this.#launch(this.#save());
    }
  };

  /** Takes what `teller` says of members. */
  #learn(peers: readonly PeerAddresses[], teller: string): void {
    for (const peer of peers) {
      if (peer.peerId !== this.#init.host.peerId) this.#candidates.heard(peer, teller);
    }
  }

  #noteConnected(connected: ReadonlySet<string>, nowMs: number): void {
    const { registry, run, logger } = this.#init;
    const originOfPeer = (peerId: string): string => this.#originOf(peerId);
    const fresh = this.#candidates.markConnected(connected, nowMs, originOfPeer);
    for (const { peerId, addresses } of fresh) {
      try {
        const origin = this.#originOf(peerId);
        registry.announce(peerId, { runId: run.id, manifest: null, addresses, origin });
      } catch (error) {
        // Someone who gossips without being on the list: its messages are refused elsewhere.
        logger.debug({ peerId, reason: reasonOf(error) }, 'a connected peer is not listed');
      }
    }
    for (const peerId of this.#told) if (!connected.has(peerId)) this.#told.delete(peerId);
    for (const peerId of connected) {
      const id = this.#told.has(peerId) ? null : parsePeerId(peerId);
      if (id === null) continue;
      this.#told.add(peerId);
      this.#launch(this.#announceTo(id));
    }
  }

  #originOf(peerId: string): string {
    const id = parsePeerId(peerId);
    const [connection] = id === null ? [] : this.#init.host.libp2p.getConnections(id);
    return originOf(peerId, connection?.remoteAddr.toString() ?? '');
  }

  #dialDue(connected: ReadonlySet<string>, nowMs: number): void {
    const count = this.#dialled(connected).length;
    for (;;) {
      // Each dial counts for the next one: two at a time to one network would be one too many.
      const addresses = [...this.#outboundAddresses(connected), ...this.#dialling.values()].flat();
      const outbound = { count, addresses };
      const [next] = this.#rule.choose(connected, this.#dialling.size, nowMs, outbound);
      if (next === undefined) return;
      const targets = this.#candidates.attempt(next, nowMs, crowding(addresses));
      this.#dialling.set(next, targets);
      this.#launch(this.#dial(next, targets).finally(() => this.#dialling.delete(next)));
    }
  }

  /** Connections to members, those of each together, that this peer dialled. */
  #dialled(connected: ReadonlySet<string>): Connection[][] {
    return [...connected]
      .flatMap((peerId) => parsePeerId(peerId) ?? [])
      .map((id) => this.#init.host.libp2p.getConnections(id))
      .filter((each) => each.some(({ direction }) => direction === 'outbound'));
  }

  #outboundAddresses(connected: ReadonlySet<string>): string[] {
    const dialled = this.#dialled(connected).flat();
    return dialled.map(({ remoteAddr }) => remoteAddr.toString());
  }

  async #dial(candidate: Candidate, addresses: readonly string[]): Promise<void> {
    const { peerId } = candidate;
    const targets = addresses.map((address) => multiaddr(`${address}/p2p/${peerId}`));
    const { host, run } = this.#init;
    try {
      const { remotePeer } = await this.#within(DIAL_TIMEOUT_MS, (signal) =>
        host.libp2p.dial(targets, { signal }),
      );
      // Two that were invited do not know each other as members before they have said how.
      if (run.manifest.membership.mode === 'invite')
        this.#learn(await this.#announce(remotePeer), this.#originOf(peerId));
    } catch (error) {
      candidate.lastError = reasonOf(error);
      this.#init.logger.debug({ peerId, reason: candidate.lastError }, 'a member does not answer');
    }
  }

  /** Lets go of one member beyond the degree, about twice in a roaming interval: faster than roaming adds. */
  #shed(connected: ReadonlySet<string>, nowMs: number): void {
    if (nowMs < this.#shedMs) return;
    this.#shedMs = nowMs + this.#roamIntervalMs * (0.25 + this.#random() / 2);
    const { host } = this.#init;
    // Who relays for us is more than a neighbour: our address goes through it.
    const relays = new Set(host.libp2p.getMultiaddrs().map(relayOf));
    const dialled = this.#dialled(connected);
    const settled = dialled.filter((each) =>
      each.every(
        (connection) =>
          isIdle(connection) &&
          ageMs(connection) >= this.#roamIntervalMs &&
          !relays.has(connection.remotePeer.toString()),
      ),
    );
    const surplus = this.#rule.surplus(dialled, settled) ?? [];
    for (const connection of surplus) this.#launch(close(connection));
  }

  #upgradeDue(connected: ReadonlySet<string>, nowMs: number): void {
    const ids = [...connected].flatMap((peerId) => parsePeerId(peerId) ?? []);
    const addressesOf = (peerId: string): readonly string[] =>
      this.#candidates.all().find((candidate) => candidate.peerId === peerId)?.addresses ?? [];
    const dial = async (signal: AbortSignal): Promise<void> => {
      await Promise.all(this.#upgrade.dialDue(ids, addressesOf, nowMs, signal));
    };
    this.#launch(this.#within(DIAL_TIMEOUT_MS, dial));
  }

  /** Announces us to a bootstrap node or member that the user named, and learns whom it knows. */
  #visit(contact: Contact, members: number, nowMs: number): void {
    const target = this.#targets.get(contact);
    if (target === undefined || contact.busy || contact.nextAttemptMs > nowMs) return;
    contact.busy = true;
    const { logger } = this.#init;
    const visit = async (): Promise<void> => {
      try {
        this.#learn(await this.#announce(target), contact.address);
        contact.failures = 0;
        contact.lastError = null;
        const intervalMs = members === 0 ? ANNOUNCE_ALONE_INTERVAL_MS : ANNOUNCE_INTERVAL_MS;
        contact.nextAttemptMs = Date.now() + intervalMs * (0.75 + this.#random() / 2);
        this.#tick();
      } catch (error) {
        if (this.#timer === null) return;
        contact.failures++;
        contact.lastError = reasonOf(error);
        contact.nextAttemptMs = Date.now() + backoffMs(contact.failures, this.#random());
        const { address, lastError: reason } = contact;
        if (contact.failures === 1) logger.warn({ address, reason }, 'cannot reach an address');
      } finally {
        contact.busy = false;
      }
    };
    this.#launch(visit());
  }

  #exchange(connected: ReadonlySet<string>, nowMs: number): void {
    if (nowMs < this.#exchangeMs || connected.size === 0) return;
    this.#exchangeMs = nowMs + EXCHANGE_INTERVAL_MS * (0.75 + this.#random() / 2);
    const peerId = [...connected][Math.floor(this.#random() * connected.size)];
    const id = peerId === undefined ? null : parsePeerId(peerId);
    if (id !== null) this.#launch(this.#announceTo(id));
  }

  async #announceTo(id: PeerId): Promise<void> {
    try {
      this.#learn(await this.#announce(id), this.#originOf(id.toString()));
    } catch (error) {
      // The connection is what counts; the next exchange asks another member.
      const fields = { peerId: id.toString(), reason: reasonOf(error) };
      this.#init.logger.debug(fields, 'a member told us of nobody');
    }
  }

  #announce(target: PeerId | Multiaddr): Promise<PeerAddresses[]> {
    const { host, run, door = null } = this.#init;
    return this.#within(DIAL_TIMEOUT_MS, (signal) => announce(host, target, run, door, signal));
  }

  #askDht(members: number, nowMs: number): void {
    const { host, run, logger } = this.#init;
    if (nowMs < this.#dhtMs || host.libp2p.getConnections().length === 0) return;
    const intervalMs = members === 0 ? DHT_ALONE_INTERVAL_MS : DHT_INTERVAL_MS;
    this.#dhtMs = nowMs + intervalMs * (0.75 + this.#random() / 2);
    const ask = async (): Promise<void> => {
      try {
        await this.#within(DHT_TIMEOUT_MS, (signal) => provideRun(host, run.id, signal));
        const search = (signal: AbortSignal): Promise<PeerAddresses[]> =>
          findMembers(host, run.id, signal);
        this.#learn(await this.#within(DHT_TIMEOUT_MS, search), 'the DHT');
      } catch (error) {
        logger.debug({ reason: reasonOf(error) }, 'the DHT did not answer');
      }
    };
    this.#launch(ask());
  }

  /** Writes the known members when they have changed. */
  async #save(): Promise<void> {
    const members = this.#candidates.members();
    const text = JSON.stringify(members);
    if (text === this.#saved || members.length === 0) return;
    this.#isSaving = true;
    try {
      await this.#init.saveKnown(members);
      this.#saved = text;
    } catch (error) {
      this.#init.logger.warn({ reason: reasonOf(error) }, 'the known peers could not be saved');
    } finally {
      this.#isSaving = false;
    }
  }

  /** Runs `work` with a signal that aborts after `timeoutMs` or when the dialler stops. */
  async #within<T>(timeoutMs: number, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const abort = new AbortController();
    const timer = setTimeout(() => {
      abort.abort(new DOMException('timed out', 'TimeoutError'));
    }, timeoutMs);
    this.#aborts.add(abort);
    try {
      return await work(abort.signal);
    } finally {
      clearTimeout(timer);
      this.#aborts.delete(abort);
    }
  }

  /** Keeps track of work that must end before stop() resolves. The work handles its own failures. */
  #launch(work: Promise<void>): void {
    this.#work.add(work);
    void work.finally(() => this.#work.delete(work));
  }
}
