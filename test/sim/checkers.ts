/** What must hold at the end of every simulated run, looked at from outside the peers. */
import assert from 'node:assert/strict';
import { adapterSha256 } from '../../protocol/adapter.js';
import { checkpointName, initialCheckpoint, type Checkpoint } from '../../protocol/checkpoint.js';
import { EpochFold } from '../../protocol/epoch-fold.js';
import { Fold, foldOnce } from '../../protocol/fold.js';
import { decodeGossip } from '../../protocol/gossip.js';
import { UpdateLog } from '../../protocol/log.js';
import { Slicer } from '../../protocol/slice.js';
import type { Update } from '../../protocol/update.js';
import type { SimNode, Swarm } from './swarm.js';
import { gap } from '../../node/sim/synthetic-trainer.js';

export interface Outcome {
  /** The one hash of all live peers. */
  sha256: string;
  /** Mean loss of the swarm's adapter above the optimum. */
  gap: number;
  updates: number;
}

export interface Scenario {
  /** The property, for test names. */
  title: string;
  /** `print` gets lines about a long run while it goes on. */
  run(seed: number, peers: number, print?: (line: string) => void): Promise<Outcome>;
}

/**
 * All live peers hold one adapter; it is the fold of everything that any disk holds; nobody failed; and
 * no author ever signed two updates for one epoch.
 */
export function checkAgreement(swarm: Swarm): Outcome {
  assert.deepEqual(swarm.failures, [], 'a peer ended with an error');
  const live = swarm.nodes.filter((node) => node.peer !== null);
  assert.ok(live.length > 0, 'at least one peer lives');
  const snapshots = live.map((node) => node.peer!.snapshot());
  const hashes = new Set(snapshots.map(({ adapter }) => adapter.sha256));
  const sizes = snapshots.map(({ adapter }) => adapter.updates).join(' ');
  assert.equal(
    hashes.size,
    1,
    `one adapter at all ${live.length} live peers; updates held: ${sizes}`,
  );
  const base = checkpointOfDisks(swarm);
  const union = unionOfDisks(swarm, base.epoch);
  assert.equal(union.proofs().length, 0, 'no honest author signs two updates for one epoch');
  const { epoch, theta: sum } = base;
  const fold = new Fold(swarm.run, new EpochFold(swarm.run), { epoch, sum });
  fold.compute(union);
  const theta = fold.theta();
  assert.equal(
    snapshots[0]!.adapter.sha256,
    adapterSha256(theta),
    'the fold of the union of all disks, from the checkpoint that they share',
  );
  for (const node of live)
    assert.equal(
      diskIds(swarm, node, base.epoch),
      memoryIds(node) - base.contributions,
      'disk and memory agree',
    );
  return {
    sha256: snapshots[0]!.adapter.sha256,
    gap: gap(swarm.problem, theta),
    updates: base.contributions + union.size,
  };
}

/** The checkpoint on the disks of all live peers: one and the same. */
function checkpointOfDisks(swarm: Swarm): Checkpoint {
  const live = swarm.nodes.filter(({ peer }) => peer !== null);
  const checkpoints = live.map(
    ({ disk }) => disk.checkpoint?.checkpoint ?? initialCheckpoint(swarm.run),
  );
  const names = new Set(checkpoints.map((checkpoint) => checkpointName(checkpoint)));
  assert.deepEqual([...names].slice(1), [], 'one checkpoint on all disks');
  return checkpoints[0]!;
}

/** The fold of all that was ever on a disk, from the start of the run: what a log kept whole would give. */
export function foldOfEverything(swarm: Swarm): string {
  const log = new UpdateLog();
  for (const { disk } of swarm.nodes)
    for (const update of updatesIn(swarm, disk.everAppended)) log.insert(update);
  return adapterSha256(foldOnce(swarm.run, log));
}

/** The set of all updates on the disks of all live peers from epoch `floor` on. */
function unionOfDisks(swarm: Swarm, floor: number): UpdateLog {
  const log = new UpdateLog();
  for (const { disk } of swarm.nodes.filter(({ peer }) => peer !== null)) {
    for (const update of updatesIn(swarm, disk.log)) if (update.epoch >= floor) log.insert(update);
  }
  return log;
}

function diskIds(swarm: Swarm, node: SimNode, floor: number): number {
  const updates = updatesIn(swarm, node.disk.log).filter(({ epoch }) => epoch >= floor);
  return new Set(updates.map(({ id }) => id)).size;
}

function memoryIds(node: SimNode): number {
  return node.peer!.snapshot().adapter.updates;
}

/** Disks share one array for equal records, so that each is decoded once; null for a proof. */
const decoded = new WeakMap<Uint8Array, Update | null>();

function updatesIn(swarm: Swarm, records: readonly Uint8Array[]): Update[] {
  const slicer = new Slicer(swarm.run);
  return records.flatMap((record) => {
    let update = decoded.get(record);
    if (update === undefined) {
      const message = decodeGossip(swarm.run, slicer, record, 'disk');
      update = message.kind === 'update' ? message.update : null;
      decoded.set(record, update);
    }
    return update ?? [];
  });
}
