/** A swarm of many peers on a gossip mesh, which reports what it costs: convergence, bytes, time and memory. */
import { checkAgreement, type Outcome, type Scenario } from './checkers.js';
import { Swarm } from './swarm.js';
import { gap } from '../../node/sim/synthetic-trainer.js';

/** Few, because each peer holds every update: time and memory grow with peers x peers x epochs. */
const EPOCHS = 8;

/** Those of a swarm of more than MANY_PEERS. */
const EPOCHS_OF_MANY = 4;
const MANY_PEERS = 200;

/** Peers dial until they have so many connections; with those that dialled them it is about twice that. */
const DEGREE = 4;

/** Loss of one hop of gossip, in a mesh where most messages come by several. */
const FAULTS = { loss: 0.05, delayMsMin: 10, delayMsMax: 150 };

const KB = 1e3;
const MB = 1e6;

export const LARGE: Scenario = {
  title: 'a mesh of many peers with loss, late joiners and crashes ends in one adapter',
  run: (seed, peers, print) => {
    const epochs = peers > MANY_PEERS ? EPOCHS_OF_MANY : EPOCHS;
    return runLarge({ seed, peers, epochs, cohorts: 1 }, print);
  },
};

export const LARGE_COHORTS: Scenario = {
  title: 'the same where each member publishes once in eight epochs',
  run: (seed, peers, print) => runLarge({ seed, peers, epochs: EPOCHS, cohorts: EPOCHS }, print),
};

async function runLarge(
  options: { seed: number; peers: number; epochs: number; cohorts: number },
  print: (line: string) => void = () => undefined,
): Promise<Outcome> {
  const { seed, peers, epochs, cohorts } = options;
  const swarm = new Swarm({
    ...{ seed, peers, faults: FAULTS, degree: DEGREE },
    change: (manifest) => ({
      ...manifest,
      schedule: { ...manifest.schedule, epochMs: 60_000, epochsMax: epochs, cohorts },
    }),
  });
  const late = swarm.nodes.slice(-Math.ceil(peers / 100));
  for (const node of swarm.nodes) if (!late.includes(node)) await node.start();
  const startMs = performance.now();
  for (let epoch = 1; epoch <= epochs; epoch++) {
    await swarm.runToEpoch(epoch);
    print(describe(swarm, epoch, (performance.now() - startMs) / 1000));
    if (epoch === epochs / 4) for (const node of late) await node.start();
    if (epoch === epochs / 2) for (const node of late) node.crash();
    if (epoch === epochs / 2 + 1) for (const node of late) await node.start();
  }
  await swarm.runToEnd(2);
  print(describe(swarm, epochs + 2, (performance.now() - startMs) / 1000));
  return checkAgreement(swarm);
}

/** One line of figures: totals of the swarm so far, per peer where it says so. */
function describe(swarm: Swarm, epoch: number, seconds: number): string {
  const { counts } = swarm.network;
  const peers = swarm.nodes.length;
  const theta = swarm.node(0).peer?.theta() ?? new Float32Array();
  const perPeer = (bytes: number): string => `${(bytes / peers / KB).toFixed(1)} kB`;
  return [
    `epoch ${epoch}`.padEnd(9),
    `gap ${gap(swarm.problem, theta).toFixed(5)}`,
    `each peer: gossip ${perPeer(counts.bytesGossip)}`,
    `repair ${perPeer(counts.bytesRepair)}`,
    `vectors ${perPeer(counts.bytesVectors)}`,
    `copies sent per copy used ${(counts.sent / Math.max(1, counts.delivered)).toFixed(2)}`,
    `${seconds.toFixed(0)} s`,
    `${(process.memoryUsage.rss() / MB).toFixed(0)} MB`,
  ].join('  ');
}
