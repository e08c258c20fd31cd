/** What must hold at the end of every simulated run, looked at from outside the peers. */
import assert from 'node:assert/strict';
import { adapterSha256 } from '../../protocol/adapter.js';
import { Fold } from '../../protocol/fold.js';
import { decodeGossip } from '../../protocol/gossip.js';
import { UpdateLog } from '../../protocol/log.js';
import { Slicer } from '../../protocol/slice.js';
import type { SimNode, Swarm } from './swarm.js';
import { gap } from './trainer.js';

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
  run(seed: number, peers: number): Promise<Outcome>;
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
  const union = unionOfDisks(swarm);
  assert.equal(union.proofs().length, 0, 'no honest author signs two updates for one epoch');
  const theta = Float32Array.from(new Fold(swarm.run).compute(union));
  assert.equal(
    snapshots[0]!.adapter.sha256,
    adapterSha256(theta),
    'the fold of the union of all disks',
  );
  for (const node of live)
    assert.deepEqual(diskIds(swarm, node), memoryIds(node), 'disk and memory agree');
  return {
    sha256: snapshots[0]!.adapter.sha256,
    gap: gap(swarm.problem, theta),
    updates: union.size,
  };
}

/** The set of all updates on the disks of all live peers. */
function unionOfDisks(swarm: Swarm): UpdateLog {
  const log = new UpdateLog();
  const slicer = new Slicer(swarm.run);
  for (const node of swarm.nodes.filter(({ peer }) => peer !== null)) {
    for (const record of node.disk.log) {
      const message = decodeGossip(swarm.run, slicer, record, 'disk');
      if (message.kind === 'update') log.insert(message.update);
    }
  }
  return log;
}

function diskIds(swarm: Swarm, node: SimNode): number {
  const slicer = new Slicer(swarm.run);
  const ids = node.disk.log.flatMap((record) => {
    const message = decodeGossip(swarm.run, slicer, record, 'disk');
    return message.kind === 'update' ? [message.update.id] : [];
  });
  return new Set(ids).size;
}

function memoryIds(node: SimNode): number {
  return node.peer!.snapshot().adapter.updates;
}
