/** A running peer put together from its parts: directory, host, trainer, peer, dialler, reachability, status. */
import { SystemClock } from './clock.js';
import type { Home } from './home.js';
import type { Logger, ModelSource, PrivacyGuard, Trainer } from './interfaces.js';
import { cleanAddresses } from './net/addresses.js';
import { Dialler } from './net/dialler.js';
import { GossipTransport } from './net/gossip-transport.js';
import type { Host } from './net/host.js';
import { serveIntroductions } from './net/introduce.js';
import { LocalDiscovery } from './net/local-discovery.js';
import { loadKnownPeers, saveKnownPeers } from './net/known-peers.js';
import { ReachMonitor } from './net/reach-monitor.js';
import { serveReach } from './net/reach.js';
import { RunRegistry, type PeerAddresses } from './net/run-registry.js';
import { makeInvite } from './invite.js';
import { Peer } from './peer.js';
import { epochAt } from './peer/slots.js';
import { buildStatus, type DataCounts, type StatusReport } from './status.js';
import { FileStore } from './store/file-store.js';
import { VERSION } from './version.js';
import type { Admission } from '../protocol/admission.js';
import type { Run } from '../protocol/manifest.js';

/** A trainer that ends with its peer. */
export interface ClosableTrainer extends Trainer {
  /** Sentences for the status. */
  readonly attention: readonly string[];
  /** What became of the private data; absent where nothing is known. */
  readonly stats?: DataCounts;
  close(): Promise<void>;
}

/** Files of the base model for other members. */
export interface SharedModelSource extends ModelSource {
  /** Sentences for the status. */
  readonly attention: readonly string[];
}

export interface RunningPeerInit {
  home: Home;
  run: Run;
  /** Whether it was told to pause its training. */
  isResting: boolean;
  /** See PeerInit. */
  measuresPersonal: boolean;
  /** By which it comes into the run, where it was just invited. */
  admission?: Admission | null;
  host: Host;
  trainer: ClosableTrainer;
  /** The budget of private training; null without noise. */
  privacy: PrivacyGuard | null;
  /** See PeerInit. */
  logBytesMax: number;
  /** Null where the base model is not shared. */
  sharedModel: SharedModelSource | null;
  /** Multiaddrs to dial: bootstrap nodes and peers. */
  contacts: readonly string[];
  /** Members that askRuns named. */
  members: readonly PeerAddresses[];
  /** Whether to pass on what members send to each other that cannot be dialled. */
  relay: boolean;
  /** Whether to look for members on the own network, and answer those who do. */
  mdns: boolean;
  logger: Logger;
}

/** Owns everything in its init but the home: stop() ends it all. */
export class RunningPeer {
  readonly #init: RunningPeerInit;
  readonly #clock = new SystemClock();
  readonly #startedAtMs: number;
  readonly #transport: GossipTransport;
  readonly #store: FileStore;
  readonly #peer: Peer;
  readonly #warnings: string[] = [];
  readonly #reach: ReachMonitor;
  /** What start() began and stop() ends, the last one first. */
  readonly #services: (() => Promise<void>)[] = [];
  #dialler: Dialler | null = null;

  /** Throws InvalidManifestError; see Peer. */
  constructor(init: RunningPeerInit) {
    const { home, run, isResting, admission = null, host, trainer, privacy, logger } = init;
    const { measuresPersonal, sharedModel, logBytesMax } = init;
    const { identity } = home;
    this.#init = init;
    this.#startedAtMs = this.#clock.now();
    const transport = new GossipTransport(host, run.id, logger);
    const store = new FileStore(home.directory, run.id);
    this.#transport = transport;
    this.#store = store;
    const onAddresses = (): void => this.#dialler?.addressesChanged();
    this.#reach = new ReachMonitor({ host, logger, onAddresses });
    this.#peer = new Peer(
      {
        ...{ transport, clock: this.#clock, store, trainer, logger, identity },
        ...(privacy && { privacy }),
      },
      {
        ...{ run, isResting, admission, measuresPersonal, sharedModel, logBytesMax },
        isNewKey: identity.isNew,
      },
    );
  }

  /** Resolves when the peer is on the network and training. Throws StoreUnavailableError, ForeignLogError. */
  async start(): Promise<void> {
    const { host, run, logger, home, contacts, members, relay, mdns } = this.#init;
    await this.#peer.start();
    const { door } = this.#peer;
    const registry = new RunRegistry({ own: run, door, connected: () => host.connectedPeers() });
    const self = (): PeerAddresses => ({
      peerId: host.peerId,
      addresses: cleanAddresses(host.peerId, host.addresses()),
    });
    this.#services.push(
      await serveIntroductions(host, { registry, self, door }, logger),
      await serveReach(host, logger),
    );
    if (relay) await host.startRelay(registry);
    const path = home.directory.pathOf('peers');
    const known = await loadKnownPeers(path);
    if (known === null) {
      this.#warnings.push(`${path} is damaged; the peers in it are found again through the others`);
    }
    this.#dialler = new Dialler({
      host,
      run,
      registry,
      door,
      contacts,
      known: [...members, ...(known ?? [])],
      connected: () => this.#transport.connections().map(({ peerId }) => peerId),
      saveKnown: (peers) => saveKnownPeers(path, peers),
      logger,
    });
    this.#dialler.start();
    this.#reach.start();
    if (mdns) {
      const local = new LocalDiscovery(host, run.id, (peers) => this.#dialler?.heard(peers));
      this.#services.push(() => local.stop());
      await local.start();
    }
    for (const warning of [...this.#store.warnings, ...this.#warnings]) logger.warn({}, warning);
  }

  /** Settles when the peer has stopped; rejects when it cannot go on. */
  get done(): Promise<void> {
    return this.#peer.done;
  }

  /** See Peer.rest. */
  rest(isResting: boolean): void {
    this.#peer.rest(isResting);
  }

  /** See Peer.extend. */
  extend(epochsMax: number): Promise<string | null> {
    return this.#peer.extend(epochsMax);
  }

  /** An invite for one peer, good for `epochs` more epochs. Throws UserError where there can be none. */
  invite(epochs: number): string {
    const { run, home, host, contacts } = this.#init;
    const { identity } = home;
    const epoch = epochAt(run, this.#clock.now());
    const addresses = host.addresses();
    const { swarmKey } = host;
    return makeInvite({ run, identity, addresses, contacts, swarmKey, epoch }, epochs);
  }

  status(): StatusReport {
    const { home, run, host, trainer, sharedModel } = this.#init;
    const nowMs = this.#clock.now();
    const connections = this.#transport.connections();
    return buildStatus({
      version: VERSION,
      run,
      peerId: home.identity.peerId,
      addresses: host.addresses(),
      startedAtMs: this.#startedAtMs,
      nowMs,
      snapshot: this.#peer.snapshot(),
      connections,
      reachability: this.#reach.verdict(),
      traffic: host.traffic(),
      data: trainer.stats ?? null,
      attention: [
        ...this.#store.warnings,
        ...this.#warnings,
        ...trainer.attention,
        ...(sharedModel?.attention ?? []),
        ...(this.#dialler?.attention(nowMs) ?? []),
        ...this.#reach.attention(connections),
      ],
    });
  }

  /** Leaves the run: what is worth keeping is on disk when it resolves. */
  async stop(): Promise<void> {
    await this.#reach.stop();
    await this.#dialler?.stop();
    for (const stop of this.#services.splice(0).reverse()) await stop();
    await this.#peer.stop();
    await this.#init.trainer.close();
    await this.#init.host.stop();
  }
}
