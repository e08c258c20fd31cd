/** A whole swarm in one process: the real peer.ts over simulated time, network, disks and trainers. */
import type { Identity, Logger, PrivacyGuard } from '../../node/interfaces.js';
import { Peer } from '../../node/peer.js';
import { fromHex, sha256 } from '../../protocol/bytes.js';
import type { Manifest, Run } from '../../protocol/manifest.js';
import { Prng } from '../../protocol/prng.js';
import { adapterSize, TEST_START_MS, testIdentity, testRun } from '../support/runs.js';
import { VirtualClock, VirtualTime } from './clock.js';
import { NO_FAULTS, SimNetwork, type NetworkFaults, type SimTransport } from './network.js';
import { forgetShared } from './shared.js';
import { SimDisk, SimStore } from './store.js';
import { makeProblem, SyntheticTrainer, type Problem } from './trainer.js';

export interface SwarmOptions {
  seed: number;
  peers: number;
  faults?: Partial<NetworkFaults>;
  /** Connections that a peer seeks; by default all are connected to all. */
  degree?: number;
  change?: (manifest: Manifest) => Manifest;
}

const SILENT: Logger = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
};

/** One machine: its disk and identity survive crashes, the rest is one incarnation of the process. */
export class SimNode {
  readonly disk = new SimDisk();
  clockOffsetMs = 0;
  stepMs = 100;
  peer: Peer | null = null;
  trainer: SyntheticTrainer | null = null;
  /** Of the next start; null without privacy. */
  privacy: PrivacyGuard | null = null;
  #isResting = false;
  #clock: VirtualClock | null = null;
  #store: SimStore | null = null;
  #transport: SimTransport | null = null;

  constructor(
    readonly swarm: Swarm,
    readonly index: number,
    readonly identity: Identity,
  ) {}

  get peerId(): string {
    return this.identity.peerId;
  }

  async start(): Promise<void> {
    const { time, network, run, problem, seed } = this.swarm;
    const clock = new VirtualClock(time, this.clockOffsetMs);
    const store = new SimStore(this.disk, time);
    const transport = network.transport(this.peerId);
    const trainer = new SyntheticTrainer(problem, this.index, clock, {
      stepMs: this.stepMs,
      learningRate: 0.02,
      seed,
    });
    const components = {
      transport,
      clock,
      store,
      trainer,
      logger: SILENT,
      identity: this.identity,
      ...(this.privacy && { privacy: this.privacy }),
    };
    [this.#clock, this.#store, this.#transport] = [clock, store, transport];
    this.trainer = trainer;
    this.peer = new Peer(components, { run, isResting: this.#isResting });
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
    await peer?.stop();
  }
}

export class Swarm {
  readonly time = new VirtualTime(TEST_START_MS - 5000);
  readonly run: Run;
  readonly problem: Problem;
  readonly network: SimNetwork;
  readonly nodes: SimNode[];
  readonly seed: Uint8Array;
  /** Errors that ended a peer's life: none is ever right. */
  readonly failures: unknown[] = [];

  constructor(options: SwarmOptions) {
    forgetShared();
    this.seed = sha256(new TextEncoder().encode(`swarm/${options.seed}`));
    const identities = Array.from({ length: options.peers }, (_, i) =>
      testIdentity(i, `swarm/${options.seed}`),
    );
    this.run = testRun((base) => {
      const manifest = { ...base, founder: identities[0]!.peerId };
      return options.change?.(manifest) ?? manifest;
    });
    this.problem = makeProblem(this.seed, options.peers, adapterSize(this.run));
    const faults = { ...NO_FAULTS, ...options.faults };
    const random = new Prng(this.seed, 'network');
    this.network = new SimNetwork(this.time, random, faults, options.degree);
    this.nodes = identities.map((identity, index) => new SimNode(this, index, identity));
  }

  /** A stream of decisions for a scenario. */
  random(label: string): Prng {
    return new Prng(fromHex(this.run.id), label);
  }

  node(index: number): SimNode {
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
