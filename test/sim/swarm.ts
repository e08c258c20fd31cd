/** The swarm of the scenarios: a small run, a synthetic problem, and work that equal peers share. */
import type { VirtualClock } from '../../node/sim/clock.js';
import type { NetworkFaults } from '../../node/sim/network.js';
import { SimDisk } from '../../node/sim/store.js';
import { SimNode as AnyNode, Swarm as AnySwarm } from '../../node/sim/swarm.js';
import { makeProblem, SyntheticTrainer, type Problem } from '../../node/sim/synthetic-trainer.js';
import { sha256 } from '../../protocol/bytes.js';
import type { Manifest } from '../../protocol/manifest.js';
import { adapterSize, testIdentity, testRun } from '../support/runs.js';
import { forgetShared, sharedRecord } from './shared.js';

export type SimNode = AnyNode<SyntheticTrainer>;

export interface SwarmOptions {
  seed: number;
  peers: number;
  faults?: Partial<NetworkFaults>;
  /** Connections that a peer seeks; by default all are connected to all. */
  degree?: number;
  change?: (manifest: Manifest) => Manifest;
}

export class Swarm extends AnySwarm<SyntheticTrainer> {
  readonly problem: Problem;
  /** Of processes that draw other noise than their machine would: what is trained again comes out differently. */
  readonly noise: WeakMap<SimNode, Uint8Array>;

  constructor({ peers, change, ...options }: SwarmOptions) {
    forgetShared();
    const label = `swarm/${options.seed}`;
    const seed = sha256(new TextEncoder().encode(label));
    const identities = Array.from({ length: peers }, (_, i) => testIdentity(i, label));
    const run = testRun((base) => {
      const manifest = { ...base, founder: identities[0]!.peerId };
      return change?.(manifest) ?? manifest;
    });
    const problem = makeProblem(seed, peers, adapterSize(run));
    const noise = new WeakMap<SimNode, Uint8Array>();
    const openTrainer = (node: SimNode, clock: VirtualClock): SyntheticTrainer => {
      const { index, stepMs } = node;
      const options = { stepMs, learningRate: 0.02, seed: noise.get(node) ?? seed };
      return new SyntheticTrainer(problem, index, clock, options);
    };
    const openDisk = (): SimDisk => new SimDisk(sharedRecord);
    super({ ...options, run, identities, seed, openTrainer, openDisk });
    this.problem = problem;
    this.noise = noise;
  }

  /** A machine with the key of `original` on `disk`, which trains with other randomness, as any other process would. */
  copyOf(original: SimNode, disk: SimDisk): SimNode {
    const copy = new AnyNode<SyntheticTrainer>(this, original.index, original.identity, disk);
    copy.stepMs = original.stepMs;
    this.drawAgain(copy);
    return copy;
  }

  /** From its next start on `node` trains with other randomness. */
  drawAgain(node: SimNode): void {
    this.noise.set(node, sha256(new TextEncoder().encode(`${node.peerId}/${this.time.nowMs}`)));
  }
}
