/** A whole swarm in one process: the real peer.ts over simulated time, network and disks. */
import type { Admission } from '../../protocol/admission.js';
import { fromHex } from '../../protocol/bytes.js';
import type { Run } from '../../protocol/manifest.js';
import { Prng } from '../../protocol/prng.js';
import type { Identity, Logger, PrivacyGuard, Trainer } from '../interfaces.js';
import { Peer } from '../peer.js';
import { VirtualClock, VirtualTime } from './clock.js';
import { NO_FAULTS, SimNetwork, type NetworkFaults, type SimTransport } from './network.js';
import { SimDisk, SimStore } from './store.js';

export interface SwarmInit<T extends Trainer> {
  run: Run;
  /** One for each machine. */
  identities: readonly Identity[];
  /** 32 bytes: of all that the network does by chance. */
  seed: Uint8Array;
  faults?: Partial<NetworkFaults>;
  /** Connections that a peer seeks; by default all are connected to all. */
  degree?: number;
  /** The trainer of one incarnation of a machine's process. */
  openTrainer: (node: SimNode<T>, clock: VirtualClock) => T;
  /** By default nothing is logged. */
  logger?: Logger;
  /** By default each machine keeps its own records. */
  openDisk?: () => SimDisk;
}

/** A peer that stops has this long in virtual time before it is waited for in vain. */
const STOP_MS_MAX = 10_000;

/** From the start of a swarm to that of its run, in ms. */
const LEAD_MS = 5000;

const SILENT: Logger = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
};

/** One machine: its disk and identity survive crashes, the rest is one incarnation of the process. */
export class SimNode<T extends Trainer = Trainer> {
  readonly disk: SimDisk;
  clockOffsetMs = 0;
  stepMs = 100;
  peer: Peer | null = null;
  trainer: T | null = null;
  /** Of the next start; null without privacy. */
  privacy: PrivacyGuard | null = null;
  /** By which it comes into a run with invites. */
  admission: Admission | null = null;
  /** See PeerInit; of the next start. */
  measuresPersonal = true;
  #isResting = false;
  #hasStarted = false;
  #clock: VirtualClock | null = null;
  #store: SimStore | null = null;
  #transport: SimTransport | null = null;

  constructor(
    readonly swarm: Swarm<T>,
    readonly index: number,
    readonly identity: Identity,
    disk: SimDisk,
  ) {
    this.disk = disk;
  }

  get peerId(): string {
    return this.identity.peerId;
  }

  /** Of the incarnation that was started last; null before the first. */
  get transport(): SimTransport | null {
    return this.#transport;
  }

  async start(): Promise<void> {
    const { time, network, run } = this.swarm;
    const clock = new VirtualClock(time, this.clockOffsetMs);
    const store = new SimStore(this.disk, time);
    const transport = network.transport(this.peerId);
    const trainer = this.swarm.openTrainer(this, clock);
    const components = {
      transport,
      clock,
      store,
      trainer,
      logger: this.swarm.logger,
      identity: this.identity,
      ...(this.privacy && { privacy: this.privacy }),
    };
    [this.#clock, this.#store, this.#transport] = [clock, store, transport];
    this.trainer = trainer;
    this.peer = new Peer(components, {
      run,
      isResting: this.#isResting,
      admission: this.admission,
      measuresPersonal: this.measuresPersonal,
      isNewKey: !this.#hasStarted,
    });
    this.#hasStarted = true;
    await this.peer.start();
    this.peer.done.catch((error: unknown) => this.swarm.failures.push(error));
  }

  /** Sets the running machine's clock to `offsetMs` from the true time. */
  setClock(offsetMs: number): void {
    this.clockOffsetMs = offsetMs;
    if (this.#clock) this.#clock.offsetMs = offsetMs;
  }

  /** Pauses training or goes on; remembered over a restart. */
  rest(isResting: boolean): void {
    this.#isResting = isResting;
    this.peer?.rest(isResting);
  }

  /** kill -9: what was not on the disk is gone. */
  crash(): void {
    this.#transport?.kill();
    this.#store?.kill();
    this.#clock?.kill();
    this.peer = null;
  }

  /** Ctrl-C. */
  async stop(): Promise<void> {
    const peer = this.peer;
    this.peer = null;
    let isOver = false;
    const stopping = peer?.stop().finally(() => (isOver = true));
    // It writes to its disk, which takes time.
    const { time } = this.swarm;
    for (let i = 0; i < STOP_MS_MAX && stopping && !isOver; i++)
      await time.advanceTo(time.nowMs + 1);
    await stopping;
  }
}

export class Swarm<T extends Trainer = Trainer> {
  readonly time: VirtualTime;
  readonly run: Run;
  readonly network: SimNetwork;
  readonly nodes: SimNode<T>[];
  readonly openTrainer: SwarmInit<T>['openTrainer'];
  readonly logger: Logger;
  /** Errors that ended a peer's life: none is ever right. */
  readonly failures: unknown[] = [];

  constructor(init: SwarmInit<T>) {
    this.run = init.run;
    this.openTrainer = init.openTrainer;
    this.logger = init.logger ?? SILENT;
    this.time = new VirtualTime(init.run.manifest.schedule.startMs - LEAD_MS);
    const faults = { ...NO_FAULTS, ...init.faults };
    const random = new Prng(init.seed, 'network');
    this.network = new SimNetwork(this.time, random, faults, init.degree);
    const openDisk = init.openDisk ?? (() => new SimDisk());
    this.nodes = init.identities.map((identity, i) => new SimNode(this, i, identity, openDisk()));
  }

  /** A stream of decisions for a scenario. */
  random(label: string): Prng {
    return new Prng(fromHex(this.run.id), label);
  }

  node(index: number): SimNode<T> {
    const node = this.nodes[index];
    if (!node) throw new RangeError(`no node ${index}`);
    return node;
  }

  async startAll(): Promise<void> {
    for (const node of this.nodes) await node.start();
  }

  /** Virtual time of the start of `epoch`. */
  epochStartMs(epoch: number): number {
    const { startMs, epochMs } = this.run.manifest.schedule;
    return startMs + epoch * epochMs;
  }

  async runToEpoch(epoch: number): Promise<void> {
    await this.time.advanceTo(this.epochStartMs(epoch));
  }

  /** Past the last epoch, and `settleEpochs` more for anti-entropy to do its work without faults. */
  async runToEnd(settleEpochs = 6): Promise<void> {
    const { epochsMax } = this.run.manifest.schedule;
    await this.runToEpoch(epochsMax);
    this.network.faults = NO_FAULTS;
    await this.runToEpoch(epochsMax + settleEpochs);
  }
}
