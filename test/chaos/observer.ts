/** Asks all peers once a second: who agrees with whom, how long that takes after each fault, what it costs. */
import { setTimeout as delay } from 'node:timers/promises';
import type { StatusReport } from '../../node/status.js';
import type { Fault, FaultKind } from './plan.js';
import type { Swarm } from './swarm.js';

const POLL_MS = 1_000;

/** How long it took until all peers had one adapter, from the end of one fault on. */
export interface Agreement {
  kind: FaultKind;
  afterMs: number;
}

/** Bytes on the wire of one peer, over all its processes. */
export interface Traffic {
  bytesIn: number;
  bytesOut: number;
}

export class Observer {
  readonly #swarm: Swarm;
  readonly #active = new Set<Fault>();
  /** Ended faults after which the peers have not yet been seen to agree. */
  #open: { kind: FaultKind; endMs: number }[] = [];
  readonly agreements: Agreement[] = [];
  readonly #traffic: { ended: Traffic; last: Traffic; uptimeSeconds: number }[];
  #last: (StatusReport | null)[] = [];
  /** Peer id -> epochs of its updates that some other peer has had as its newest. */
  readonly #seen = new Map<string, Set<number>>();
  #stopped = false;
  #loop: Promise<void> | null = null;

  constructor(swarm: Swarm) {
    this.#swarm = swarm;
    this.#traffic = swarm.sites.map(() => ({
      ended: { bytesIn: 0, bytesOut: 0 },
      last: { bytesIn: 0, bytesOut: 0 },
      uptimeSeconds: 0,
    }));
  }

  start(): void {
    this.#loop = this.#watch();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#loop;
  }

  began(fault: Fault): void {
    this.#active.add(fault);
  }

  ended(fault: Fault): void {
    this.#active.delete(fault);
    this.#open.push({ kind: fault.kind, endMs: performance.now() });
  }

  /** Faults after which no agreement has been seen. */
  get unsettled(): number {
    return this.#open.length;
  }

  /** What each peer said last; null where none answered. */
  get reports(): readonly (StatusReport | null)[] {
    return this.#last;
  }

  /**
   * Epochs for which others had an update of this peer. Checkpoints name no authors, so this counts what was
   * seen: of several updates that came at once only the newest.
   */
  updatesSeen(peerId: string): number {
    return this.#seen.get(peerId)?.size ?? 0;
  }

  traffic(index: number): Traffic {
    const { ended, last } = this.#traffic[index] ?? { ended: NONE, last: NONE };
    return { bytesIn: ended.bytesIn + last.bytesIn, bytesOut: ended.bytesOut + last.bytesOut };
  }

  /** Whether all peers answer, are at the end of the run and have one adapter. */
  get isOver(): boolean {
    const states = this.#last.map((report) => report?.run.state);
    return states.every((state) => state === 'finished') && this.#isOne();
  }

  /** E.g. "epoch 22/140  7 of 8 up  adapters 6 + 1  120 updates  sealed before 32 and 48  partition 0,3 | kill 5". */
  line(): string {
    const present = this.#swarm.sites.filter(({ state }) => state !== 'absent').length;
    const answers = this.#last.filter((report) => report !== null);
    const epoch = Math.max(...answers.map(({ run }) => run.epoch));
    const groups = [...this.#groups().values()].sort((a, b) => b - a).join(' + ');
    const faults = [...this.#active].map(({ kind, peers }) => `${kind} ${peers.join(',')}`);
    const updates = Math.max(...answers.map(({ adapter }) => adapter.updates));
    const sealed = [...new Set(answers.map(({ adapter }) => adapter.sealedEpoch))];
    const seals = sealed.sort((a, b) => a - b).join(' and ');
    return (
      `epoch ${epoch}/${answers[0]?.run.epochsMax}  ${answers.length} of ${present} up  ` +
      `adapters ${groups}  ${updates} updates  sealed before ${seals}  ${faults.join(' | ')}`
    );
  }

  /** Adapter -> how many have it. */
  #groups(): Map<string, number> {
    const groups = new Map<string, number>();
    for (const report of this.#last) {
      if (report === null) continue;
      groups.set(report.adapter.sha256, (groups.get(report.adapter.sha256) ?? 0) + 1);
    }
    return groups;
  }

  /** All that should answer do, with one adapter. */
  #isOne(): boolean {
    const expected = this.#swarm.sites.filter(({ state }) => state === 'running');
    return expected.every(({ index }) => this.#last[index] != null) && this.#groups().size === 1;
  }

  async #watch(): Promise<void> {
    while (!this.#stopped) {
      this.#last = await Promise.all(this.#swarm.sites.map((site) => site.status()));
      for (const [i, report] of this.#last.entries()) if (report !== null) this.#count(i, report);
      const isSplit = [...this.#active].some(({ kind }) => kind === 'partition');
      if (!isSplit && this.#isOne()) {
        const nowMs = performance.now();
        for (const { kind, endMs } of this.#open) {
          this.agreements.push({ kind, afterMs: nowMs - endMs });
        }
        this.#open = [];
      }
      await delay(POLL_MS);
    }
  }

  #count(index: number, { uptimeSeconds, traffic, peers }: StatusReport): void {
    for (const { peerId, lastUpdateEpoch } of peers) {
      if (lastUpdateEpoch === null) continue;
      const epochs = this.#seen.get(peerId) ?? new Set();
      this.#seen.set(peerId, epochs.add(lastUpdateEpoch));
    }
    const counts = this.#traffic[index];
    if (counts === undefined) return;
    // A new process counts from 0 again.
    if (uptimeSeconds < counts.uptimeSeconds) {
      counts.ended.bytesIn += counts.last.bytesIn;
      counts.ended.bytesOut += counts.last.bytesOut;
    }
    counts.uptimeSeconds = uptimeSeconds;
    counts.last = { bytesIn: traffic.bytesIn.total, bytesOut: traffic.bytesOut.total };
  }
}

const NONE: Traffic = { bytesIn: 0, bytesOut: 0 };
