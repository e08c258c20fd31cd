/** What must hold at the end of every simulated run, looked at from outside the peers. */
import assert from 'node:assert/strict';
import { adapterSha256 } from '../../protocol/adapter.js';
import { Fold } from '../../protocol/fold.js';
import { decodeGossip } from '../../protocol/gossip.js';
import { UpdateLog } from '../../protocol/log.js';
import { Slicer } from '../../protocol/slice.js';
import type { Update } from '../../protocol/update.js';
import type { Swarm } from './swarm.js';
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
  const onDisks = updatesOnDisks(swarm);
  const union = new UpdateLog();
  for (const update of onDisks.values()) union.insert(update);
  assert.equal(union.proofs().length, 0, 'no honest author signs two updates for one epoch');
  const theta = Float32Array.from(new Fold(swarm.run).compute(union));
  assert.equal(
    snapshots[0]!.adapter.sha256,
    adapterSha256(theta),
    'the fold of the union of all disks',
  );
  for (const [i, { disk }] of live.entries()) {
    const ids = new Set(disk.log.flatMap((record) => onDisks.get(record)?.id ?? []));
    assert.equal(ids.size, snapshots[i]!.adapter.updates, 'disk and memory agree');
  }
  return {
    sha256: snapshots[0]!.adapter.sha256,
    gap: gap(swarm.problem, theta),
    updates: union.size,
  };
}

/** Every record on a live peer's disk that is an update, decoded once however many disks hold it. */
function updatesOnDisks(swarm: Swarm): Map<Uint8Array, Update> {
  const slicer = new Slicer(swarm.run);
  const records = new Set(
    swarm.nodes.filter(({ peer }) => peer !== null).flatMap(({ disk }) => disk.log),
  );
  const updates = new Map<Uint8Array, Update>();
  for (const record of records) {
    const message = decodeGossip(swarm.run, slicer, record, 'disk');
    if (message.kind === 'update') updates.set(record, message.update);
  }
  return updates;
}
