/** The swarm of a hostile run: honest peers on the real program, hostile members, and what each has on its disk. */
import {
  createAdmission,
  createInvitation,
  oneTimeSigner,
  type Invitation,
} from '../../../protocol/admission.js';
import { sha256 } from '../../../protocol/bytes.js';
import type { Identity } from '../../../node/interfaces.js';
import type { Signer } from '../../../protocol/update.js';
import { testIdentity } from '../../support/runs.js';
import { Swarm, type SimNode as TestNode } from '../swarm.js';
import { HostileMember, type HostilePlace } from './member.js';
import { randomOf, type Plan } from './plan.js';
import { manifestOf } from './settings.js';
import { sharedDisk } from './disks.js';

export class World {
  readonly swarm: Swarm;
  readonly hostile: HostileMember[];
  /** Processes that run on a copy of an honest peer's data directory. */
  readonly copies: TestNode[] = [];
  /** Honest peers whose directory was used twice: they signed twice themselves. */
  readonly doubled = new Set<string>();

  constructor(readonly plan: Plan) {
    const { seed, settings } = plan;
    const honest = identities(settings.honest, `swarm/${seed}`);
    const hostile = identities(settings.hostile, `hostile/${seed}`);
    this.swarm = new Swarm({
      ...{ seed, peers: settings.honest, faults: settings.faults, degree: settings.degree },
      change: manifestOf(settings, [...honest, ...hostile]),
    });
    for (const node of this.swarm.nodes) node.stepMs = settings.stepMs[node.index] ?? node.stepMs;
    this.hostile = hostile.map((identity, i) => {
      const fault = { ...NEVER, index: -1 - i };
      const temper = settings.tempers[i] ?? 'careful';
      return new HostileMember(this.#place(identity), identity, temper, randomOf(plan, fault));
    });
    if (settings.mode === 'invite') this.#invite();
  }

  get honestIds(): string[] {
    return this.swarm.nodes.map(({ peerId }) => peerId);
  }

  node(index: number): TestNode {
    return this.swarm.node(index);
  }

  /** Starts everybody who is there from the beginning, and the others at their time. */
  async start(): Promise<void> {
    const { startEpochs } = this.plan.settings;
    for (const node of this.swarm.nodes) {
      const epoch = startEpochs[node.index] ?? 0;
      if (epoch === 0) await node.start();
      else this.at(epoch, () => node.start());
    }
    for (const member of this.hostile) await member.start();
  }

  /** A second process of `node` on a copy of its data directory. */
  async startCopy(node: TestNode): Promise<TestNode> {
    const disk = sharedDisk();
    disk.restore(node.disk.snapshot());
    const copy = this.swarm.copyOf(node, disk);
    this.copies.push(copy);
    this.doubled.add(node.peerId);
    await copy.start();
    return copy;
  }

  /** Does `effect` when `epoch` (which may be a fraction) of the true time begins, and `shiftMs` later. */
  at(epoch: number, effect: () => void | Promise<void>, shiftMs = 0): void {
    const { time, failures } = this.swarm;
    const dueMs = this.swarm.epochStartMs(epoch) + shiftMs;
    time.after(dueMs - time.nowMs, () => {
      void (async () => effect())().catch((error: unknown) => failures.push(error));
    });
  }

  #place({ peerId }: Identity): HostilePlace {
    const { run, network, time } = this.swarm;
    return {
      ...{ run, transport: network.transport(peerId), now: () => time.nowMs },
      sleep: (delayMs) => new Promise((resolve) => void time.after(delayMs, resolve)),
    };
  }

  #invite(): void {
    const { nodes, run } = this.swarm;
    const founder = this.node(0).identity;
    const give = (label: string): { invitation: Invitation; oneTime: Signer } => {
      const oneTime = oneTimeSigner(sha256(Buffer.from(`one-time/${label}`)));
      const { epochsMax } = run.manifest.schedule;
      return { invitation: createInvitation(run, founder, oneTime, epochsMax), oneTime };
    };
    for (const node of nodes.slice(1)) {
      const { invitation, oneTime } = give(node.peerId);
      const firstEpoch = this.plan.settings.startEpochs[node.index] ?? 0;
      node.admission = createAdmission(invitation, oneTime, node.identity, firstEpoch);
    }
    for (const member of this.hostile) member.invited = give(member.peerId);
  }
}

const NEVER = { kind: 'update', from: 0, to: 0, target: 0, shiftMs: 0 } as const;

function identities(count: number, label: string): Identity[] {
  return Array.from({ length: count }, (_, i) => testIdentity(i, label));
}
