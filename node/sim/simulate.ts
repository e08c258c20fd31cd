/** One simulated run from start to end: honest and hostile peers, faults, and what came of it. */
import { initialAdapter } from '../../protocol/adapter.js';
import type { Run } from '../../protocol/manifest.js';
import { Prng } from '../../protocol/prng.js';
import type { Identity, Logger, Trainer } from '../interfaces.js';
import { Spying } from './accomplice.js';
import { ATTACKS, type Attack, type AttackName } from './attacks.js';
import type { VirtualClock } from './clock.js';
import { blinded, HostileTrainer, WatchedTrainer } from './hostile.js';
import { NO_FAULTS } from './network.js';
import { Swarm, type SimNode } from './swarm.js';
import type { Workload } from './workload.js';

export interface Simulation {
  run: Run;
  /** The honest ones first; the first founded the run. */
  identities: readonly Identity[];
  /** How many of them are honest, 1 or more. */
  honest: number;
  attack: AttackName | null;
  workload: Workload;
  /** Whether the peers measure nothing in the course of the run. */
  isBlind: boolean;
  seed: Uint8Array;
  /** Share of gossip messages that a receiver misses, 0 to 1. */
  loss: number;
  /** Chance of each honest peer to be killed in an epoch, 0 to 1; it is back within two. */
  churn: number;
  /** How many honest peers need SLOWNESS times as long for a step. */
  slow: number;
  /** The first epoch in which two halves cannot hear each other, and the one in which they meet again. */
  partition: { from: number; to: number } | null;
  /** By default nothing is logged. */
  logger?: Logger;
}

export interface SimulationResult {
  /** Mean held-out loss of the honest peers, in nats per token (synthetic: above the optimum). */
  lossBefore: number | null;
  lossAfter: number | null;
  /** Of each honest peer, in order, after the run. */
  losses: (number | null)[];
  /** SHA-256 of each honest peer's adapter -> how many hold it. */
  hashes: Readonly<Record<string, number>>;
  /** Updates in the adapter of the first honest peer. */
  updates: number;
  /** Hostile peers that the first honest peer has evicted. */
  evicted: number;
  /** Pairs of an honest peer and an author that it named in `attention` at any time, by what the author is. */
  named: { hostile: number; honest: number };
  /** The first epoch after which each hostile peer was named by anybody; null for never. */
  namedAfter: (number | null)[];
  /** Of triggered prompts; null where nothing was to be measured. */
  backdoorSuccess: number | null;
  /** Sent by all peers together: gossip and streams. */
  bytes: number;
  /** Sentences of the first honest peer's `attention`. */
  attention: string[];
}

/** Virtual time of a slow peer's step beside that of the others. */
export const SLOWNESS = 5;

/** Epochs without faults at the end, in which anti-entropy finishes its work. */
const SETTLE_EPOCHS = 4;

/** When in an epoch hostile peers send messages of their own: when the honest have trained. */
const ACT_AT = 0.6;

/** Runs it to its end; `onEpoch` is told how many epochs have gone by. Rejects with `signal.reason`. */
export async function simulate(
  simulation: Simulation,
  onEpoch: (done: number, total: number) => void,
  signal: AbortSignal,
): Promise<SimulationResult> {
  const { run, honest } = simulation;
  const spying = new Spying();
  const swarm = openSwarm(simulation, spying);
  const hostile = swarm.nodes.slice(honest);
  const attack = attackOf(simulation);
  for (const node of hostile) node.rest(attack?.habit === 'rests');
  const ids = swarm.nodes.slice(0, honest).map(({ peerId }) => peerId);
  const { epochsMax } = run.manifest.schedule;
  const total = epochsMax + SETTLE_EPOCHS;
  const random = new Prng(simulation.seed, 'churn');
  const suspects = new Suspects(ids);
  await swarm.startAll();
  for (let epoch = 0; epoch < total; epoch++) {
    if (epoch === epochsMax) swarm.network.faults = NO_FAULTS;
    separate(swarm, simulation.partition, epoch);
    await swarm.runToEpoch(epoch);
    if (epoch < epochsMax) {
      killSome(swarm, simulation, random);
      await advance(swarm, epoch + ACT_AT, signal);
      for (const node of hostile) await attack?.act?.({ node, run, spying, honest: ids }, epoch);
    }
    await advance(swarm, epoch + 1, signal);
    suspects.note(swarm, epoch);
    onEpoch(epoch + 1, total);
  }
  const named = suspects.count();
  const namedAfter = hostile.map(({ peerId }) => suspects.firstEpochOf(peerId));
  return { ...(await report(swarm, simulation, signal)), named, namedAfter };
}

function attackOf({ attack }: Simulation): Attack | null {
  return attack === null ? null : ATTACKS[attack];
}

function openSwarm(simulation: Simulation, spying: Spying): Swarm {
  const { run, identities, honest, workload, slow, seed, loss, isBlind } = simulation;
  const attack = attackOf(simulation);
  const openTrainer = (node: SimNode, clock: VirtualClock): Trainer => {
    const seeing = workload.openTrainer(node.index, clock, swarm.time, node.stepMs);
    const inner = isBlind ? blinded(seeing) : seeing;
    if (attack === null) return inner;
    if (node.index < honest) return new WatchedTrainer(inner, spying);
    return new HostileTrainer({ inner, attack, run, peerId: node.peerId, clock, spying });
  };
  const { logger } = simulation;
  const swarm: Swarm = new Swarm({
    ...{ run, identities, seed, faults: { loss }, openTrainer },
    ...(logger && { logger }),
  });
  const { epochMs, stepsRef } = run.manifest.schedule;
  for (const node of swarm.nodes) {
    const isSlow = node.index >= honest - slow && node.index < honest;
    // Half of an epoch for training, as `start` chooses it.
    node.stepMs = (epochMs / 2 / stepsRef) * (isSlow ? SLOWNESS : 1);
  }
  return swarm;
}

/** Virtual time goes on in pieces, so that Ctrl-C is heard in between. */
async function advance(swarm: Swarm, epoch: number, signal: AbortSignal): Promise<void> {
  const endMs = swarm.epochStartMs(epoch);
  while (swarm.time.nowMs < endMs) {
    signal.throwIfAborted();
    await swarm.time.advanceTo(Math.min(endMs, swarm.time.nowMs + 100));
  }
  signal.throwIfAborted();
  if (swarm.failures.length > 0) throw swarm.failures[0];
}

function separate(swarm: Swarm, partition: Simulation['partition'], epoch: number): void {
  if (partition?.from === epoch) {
    swarm.network.partition(new Map(swarm.nodes.map(({ peerId }, i) => [peerId, i % 2])));
  }
  if (partition?.to === epoch || epoch === swarm.run.manifest.schedule.epochsMax) {
    swarm.network.partition(new Map());
  }
}

/** Kills honest peers by chance; each is back in the next two epochs. */
function killSome(swarm: Swarm, { churn, honest }: Simulation, random: Prng): void {
  const { epochMs } = swarm.run.manifest.schedule;
  for (const node of swarm.nodes.slice(0, honest)) {
    if (random.nextFloat() >= churn || node.peer === null) continue;
    swarm.time.after(random.nextFloat() * epochMs, () => {
      node.crash();
      swarm.time.after(random.nextFloat() * 2 * epochMs, () => {
        node.start().catch((error: unknown) => swarm.failures.push(error));
      });
    });
  }
}

/** Who named whom in the course of a run. */
class Suspects {
  readonly #firstEpoch = new Map<string, number>();
  readonly #pairs = new Set<string>();

  constructor(readonly honest: readonly string[]) {}

  note(swarm: Swarm, epoch: number): void {
    for (const { peerId, peer } of swarm.nodes) {
      if (peer === null || !this.honest.includes(peerId)) continue;
      for (const suspect of peer.snapshot().suspects) {
        this.#pairs.add(`${peerId} ${suspect}`);
        if (!this.#firstEpoch.has(suspect)) this.#firstEpoch.set(suspect, epoch);
      }
    }
  }

  firstEpochOf(peerId: string): number | null {
    return this.#firstEpoch.get(peerId) ?? null;
  }

  count(): SimulationResult['named'] {
    const all = [...this.#pairs].map((pair) => pair.split(' ')[1] ?? '');
    const honest = all.filter((suspect) => this.honest.includes(suspect)).length;
    return { hostile: all.length - honest, honest };
  }
}

async function report(
  swarm: Swarm,
  { workload, honest, run, attack }: Simulation,
  signal: AbortSignal,
): Promise<Omit<SimulationResult, 'named' | 'namedAfter'>> {
  const live = swarm.nodes.slice(0, honest).flatMap(({ peer, index }) => {
    return peer === null ? [] : [{ peer, index, snapshot: peer.snapshot() }];
  });
  const first = live[0];
  if (first === undefined) throw new RangeError('no honest peer is alive');
  const theta0 = initialAdapter(run.manifest.adapter);
  const before: (number | null)[] = [];
  const losses: (number | null)[] = [];
  const hashes: Record<string, number> = {};
  for (const { peer, index, snapshot } of live) {
    before.push(await workload.loss(index, theta0, signal));
    losses.push(await workload.loss(index, peer.theta(), signal));
    hashes[snapshot.adapter.sha256] = (hashes[snapshot.adapter.sha256] ?? 0) + 1;
  }
  const { bytesGossip, bytesRepair, bytesVectors } = swarm.network.counts;
  const blobs = [...swarm.network.blobBytes.values()].reduce((sum, bytes) => sum + bytes, 0);
  const evicted = first.snapshot.members.filter(({ rejected }) => rejected.equivocation);
  return {
    lossBefore: mean(before),
    lossAfter: mean(losses),
    losses,
    hashes,
    updates: first.snapshot.adapter.updates,
    evicted: evicted.length,
    backdoorSuccess:
      attack === 'backdoor' ? await workload.backdoorSuccess(first.peer.theta(), signal) : null,
    bytes: bytesGossip + bytesRepair + bytesVectors + blobs,
    attention: first.snapshot.attention,
  };
}

/** Of what was measured; null for nothing, NaN when one is not finite. */
function mean(values: readonly (number | null)[]): number | null {
  const measured = values.filter((value) => value !== null);
  if (measured.length === 0) return null;
  return measured.reduce((sum, value) => sum + value, 0) / measured.length;
}
