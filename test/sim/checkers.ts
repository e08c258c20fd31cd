/** What must hold at the end of every simulated run, looked at from outside the peers. */
import assert from 'node:assert/strict';
import { adapterSha256 } from '../../protocol/adapter.js';
import { Fold, foldOnce } from '../../protocol/fold.js';
import { decodeGossip } from '../../protocol/gossip.js';
import { UpdateLog } from '../../protocol/log.js';
import { SealContents } from '../../protocol/seal-contents.js';
import { RowFormats } from '../../protocol/row-format.js';
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
  /** `print` gets lines about a long run while it goes on; `only`: the faults of a drawn plan that happen, by index. */
  run(
    seed: number,
    peers: number,
    print?: (line: string) => void,
    only?: ReadonlySet<number> | null,
  ): Promise<Outcome>;
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
  const sealed = sealOfDisks(swarm);
  const union = unionOfDisks(swarm, sealed);
  assert.equal(union.proofs().length, 0, 'no honest author signs two updates for one epoch');
  if (sealed !== null) {
    const count = union.authors().flatMap((author) => union.epochsOf(author));
    const held = count.filter((epoch) => epoch < sealed.epoch).length;
    assert.equal(held, sealed.updates, 'a seal counts only what was on a disk');
  }
  const fold = new Fold(swarm.run);
  fold.compute(union);
  const theta = fold.theta();
  assert.equal(
    snapshots[0]!.adapter.sha256,
    adapterSha256(theta),
    'the fold of all that counts on any disk, from the beginning of the run',
  );
  for (const { adapter } of snapshots) assert.equal(adapter.updates, union.size);
  for (const node of live) checkDisk(swarm, node, union);
  return {
    sha256: snapshots[0]!.adapter.sha256,
    gap: gap(swarm.problem, theta),
    updates: union.size,
  };
}

/** The newest seal on the disks of all live peers: one and the same; null where nothing is sealed. */
function sealOfDisks(swarm: Swarm): SealContents | null {
  const live = swarm.nodes.filter(({ peer }) => peer !== null);
  const [first, ...others] = live.map(({ disk }) => disk.seal);
  for (const other of others) {
    assert.equal(other?.epoch, first?.epoch, 'one seal on all disks');
    assert.deepEqual(other?.contents, first?.contents, 'one seal on all disks');
  }
  return first ? SealContents.decode(first.contents, first.epoch) : null;
}

/** Every update that counts is on the disk of `node`, if it came after the seal or was not dropped since. */
function checkDisk(swarm: Swarm, node: SimNode, union: UpdateLog): void {
  const ids = new Set(updatesIn(swarm, node.disk.log).map(({ id }) => id));
  const { logStart = 0, epoch = 0 } = node.disk.seal ?? {};
  for (const author of union.authors()) {
    for (const at of union.epochsOf(author)) {
      const isDropped = at < epoch && logStart > 0;
      assert.ok(isDropped || ids.has(union.get(author, at)!.id), 'disk and memory agree');
    }
  }
}

/** The fold of all that was ever on a disk, from the start of the run: what a log kept whole would give. */
export function foldOfEverything(swarm: Swarm): string {
  const log = new UpdateLog();
  for (const { disk } of swarm.nodes)
    for (const update of updatesIn(swarm, disk.everAppended)) log.insert(update);
  return adapterSha256(foldOnce(swarm.run, log));
}

/** All updates that were ever on the disks of live peers, and that count: of sealed epochs those in the seal. */
function unionOfDisks(swarm: Swarm, sealed: SealContents | null): UpdateLog {
  const log = new UpdateLog();
  for (const { disk } of swarm.nodes.filter(({ peer }) => peer !== null)) {
    for (const update of updatesIn(swarm, disk.everAppended)) {
      const { author, epoch } = update;
      if (epoch >= (sealed?.epoch ?? 0) || sealed?.has(author, epoch)) log.insert(update);
    }
  }
  return log;
}

/** Disks share one array for equal records, so that each is decoded once; null for a proof. */
const decoded = new WeakMap<Uint8Array, Update | null>();

function updatesIn(swarm: Swarm, records: readonly Uint8Array[]): Update[] {
  const formats = new RowFormats(swarm.run);
  return records.flatMap((record) => {
    let update = decoded.get(record);
    if (update === undefined) {
      const message = decodeGossip(swarm.run, formats, record, 'disk');
      update = message.kind === 'update' ? message.update : null;
      decoded.set(record, update);
    }
    return update ?? [];
  });
}
