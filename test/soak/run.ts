/** A soak from start to end: peers in this process whose connections break and that restart, for hours. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { startBootstrap, type BootstrapNode } from '../../bootstrap/bootstrap-node.js';
import type { Logger } from '../../node/interfaces.js';
import type { StatusReport } from '../../node/status.js';
import { adapterSha256, initialAdapter } from '../../protocol/adapter.js';
import type { Run } from '../../protocol/manifest.js';
import { Prng } from '../../protocol/prng.js';
import { makeProblem } from '../../node/sim/synthetic-trainer.js';
import { adapterSize, testRun } from '../support/runs.js';
import { SoakNode, type SoakNodeInit } from './node.js';
import { takeSample, type Sample } from './sample.js';

const EPOCH_MS = 2_000;

const LAG_MAX = 8;

/** One connection breaks this often, in ms. */
const BREAK_INTERVAL_MS = 15_000;

/** One peer restarts this often, in ms. */
const RESTART_INTERVAL_MS = 120_000;

/** How long a restarted peer is away, in ms. */
const AWAY_MS = 3_000;

/** The last epoch ends so long after the last fault, in ms. */
const CALM_MS = 20_000;

/** A peer that has no newer update than this, in ms, does not take part any more: the soak shows nothing. */
const STANDSTILL_MS_MAX = 60_000;

/** All must have one adapter so long after the last epoch, in ms. */
const SETTLE_MS_MAX = 60_000;

const START_MS = 3_000;

/** 65,536 coordinates: a theta that is forgotten somewhere shows at once. */
const ADAPTER = {
  ...{ rank: 8, alpha: 16, seed: new Uint8Array(32), targetModules: ['q_proj'] },
  modules: Array.from({ length: 4 }, (_, i) => ({
    ...{ name: `layers.${i}.q_proj`, inFeatures: 1024, outFeatures: 1024 },
  })),
};

export interface SoakOptions {
  peers: number;
  durationMs: number;
  intervalMs: number;
  seed: number;
  onSample: (atMs: number, sample: Sample, note: string) => void;
  logger: Logger;
  signal: AbortSignal;
}

/** Rejects when a peer stops, when training stands still, when no one adapter comes of it. */
export async function soak(options: SoakOptions): Promise<void> {
  const dir = await mkdtemp(join(tmpdir(), 'murmurate-soak-'));
  try {
    const { logger } = options;
    const listen = ['/ip4/127.0.0.1/tcp/0'];
    const bootstrap = await startBootstrap({ dir: join(dir, 'bootstrap'), listen, logger });
    try {
      await new Soak(options, dir, bootstrap).run();
    } finally {
      await bootstrap.stop();
    }
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

class Soak {
  readonly #options: SoakOptions;
  readonly #random: Prng;
  readonly #inits: SoakNodeInit[];
  /** Null while a peer restarts. */
  readonly #nodes: (SoakNode | null)[];
  /** Aborts with Ctrl-C, or with the first fault of a peer as its reason. */
  readonly #over = new AbortController();
  readonly #signal: AbortSignal;
  #breaks = 0;
  #restarts = 0;

  constructor(options: SoakOptions, dir: string, bootstrap: BootstrapNode) {
    const { seed, peers, durationMs, logger, signal } = options;
    this.#options = options;
    this.#signal = AbortSignal.any([signal, this.#over.signal]);
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setFloat64(0, seed);
    this.#random = new Prng(bytes, 'soak');
    const run = runOf(durationMs);
    const problem = makeProblem(bytes, peers, adapterSize(run));
    const contacts = bootstrap.addresses();
    this.#inits = Array.from({ length: peers }, (_, index) => {
      return { index, dir: join(dir, String(index)), run, problem, contacts, logger };
    });
    this.#nodes = this.#inits.map(() => null);
  }

  async run(): Promise<void> {
    const { durationMs, intervalMs } = this.#options;
    try {
      for (const { index } of this.#inits) await this.#start(index);
      const beginMs = performance.now();
      await Promise.all([
        this.#every(RESTART_INTERVAL_MS, durationMs, () => this.#restart()),
        this.#every(BREAK_INTERVAL_MS, durationMs, async () => this.#break()),
        this.#every(intervalMs, durationMs, () => this.#sample(performance.now() - beginMs)),
      ]).catch((error: unknown) => this.#over.abort(error));
      this.#signal.throwIfAborted();
      await this.#settle();
    } finally {
      this.#over.abort();
      for (const index of this.#nodes.keys()) await this.#stop(index);
    }
  }

  /** Calls `act` again and again until `durationMs` from now; a call that takes long delays the next one. */
  async #every(intervalMs: number, durationMs: number, act: () => Promise<void>): Promise<void> {
    const endMs = performance.now() + durationMs;
    while (performance.now() + intervalMs <= endMs) {
      await delay(intervalMs, undefined, { signal: this.#signal });
      await act();
    }
  }

  async #start(index: number): Promise<void> {
    const init = this.#inits[index];
    if (init === undefined) throw new RangeError(`no peer ${index}`);
    const node = await SoakNode.start(init);
    this.#nodes[index] = node;
    node.done.catch((error: unknown) => this.#over.abort(error));
  }

  async #stop(index: number): Promise<void> {
    const node = this.#nodes[index];
    this.#nodes[index] = null;
    await node?.stop();
  }

  async #restart(): Promise<void> {
    const index = this.#random.nextBelow(this.#nodes.length);
    await this.#stop(index);
    await delay(AWAY_MS, undefined, { signal: this.#signal });
    await this.#start(index);
    this.#restarts++;
  }

  /** As a cable does: without a word to the other side. */
  #break(): void {
    const all = this.#running.flatMap(({ host }) => host.libp2p.getConnections());
    if (all.length === 0) return;
    all[this.#random.nextBelow(all.length)]?.abort(new TypeError('broken by the soak'));
    this.#breaks++;
  }

  /** None when a peer is away: what it holds would be missing. */
  async #sample(atMs: number): Promise<void> {
    if (this.#isOneAway()) return;
    const hosts = this.#running.map(({ host }) => host);
    const sample = await takeSample(hosts, EPOCH_MS, this.#signal);
    if (this.#isOneAway()) return;
    const reports = await this.#reports();
    const epoch = Math.max(...reports.map(({ run }) => run.epoch));
    for (const { peerId, adapter } of reports) {
      if ((epoch - adapter.epoch) * EPOCH_MS < STANDSTILL_MS_MAX) continue;
      throw new TypeError(`${peerId} has no update since epoch ${adapter.epoch}; now is ${epoch}`);
    }
    const note = `epoch ${epoch}, ${this.#breaks} breaks, ${this.#restarts} restarts`;
    this.#options.onSample(atMs, sample, note);
  }

  #isOneAway(): boolean {
    return this.#nodes.includes(null);
  }

  get #running(): SoakNode[] {
    return this.#nodes.filter((node) => node !== null);
  }

  async #reports(): Promise<StatusReport[]> {
    return Promise.all(this.#running.map((node) => node.status()));
  }

  async #settle(): Promise<void> {
    const endMs = performance.now() + CALM_MS + SETTLE_MS_MAX;
    let said = '';
    while (performance.now() < endMs) {
      const reports = await this.#reports();
      const isFinished = reports.every(({ run }) => run.state === 'finished');
      said = reports
        .map(({ run, adapter }) => `${run.state} ${JSON.stringify(adapter)}`)
        .join('\n');
      if (isFinished && new Set(reports.map(({ adapter }) => adapter.sha256)).size === 1) return;
      await delay(500, undefined, { signal: this.#signal });
    }
    throw new TypeError(`not one adapter ${SETTLE_MS_MAX / 1000} s after the last epoch:\n${said}`);
  }
}

/** A run that ends soon after the last fault of a soak of `durationMs`. */
function runOf(durationMs: number): Run {
  const epochsMax = Math.ceil((durationMs + START_MS + CALM_MS) / EPOCH_MS);
  return testRun((manifest) => ({
    ...manifest,
    name: 'soak',
    adapter: { ...ADAPTER, initialSha256: adapterSha256(initialAdapter(ADAPTER)) },
    schedule: {
      ...manifest.schedule,
      startMs: Date.now() + START_MS,
      epochMs: EPOCH_MS,
      epochsMax,
    },
    compression: { ...manifest.compression, phases: [{ fromEpoch: 0, slices: 1, bits: 1 }] },
    fold: { ...manifest.fold, lagMax: LAG_MAX },
  }));
}
