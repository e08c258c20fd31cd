/** What must hold in a hostile run at every instant and at its end, looked at from outside the peers. */
import assert from 'node:assert/strict';
import type { Prng } from '../../../protocol/prng.js';
import type { SimNode } from '../swarm.js';
import type { SealContents } from '../../../protocol/seal-contents.js';
import { DiskReader, type CountedSet } from './disks.js';
import type { World } from './world.js';

/** A write takes 2 ms: disk and memory of a peer that has just heard something differ for so long, in ms. */
const WRITE_MS = 5;
const WRITES_MAX = 4;

export class Watch {
  readonly #world: World;
  readonly #disks: DiskReader;
  /** Update id -> numbers of the honest peers that ever held it on disk. */
  readonly #holders = new Map<string, Set<number>>();
  /** Update id of an honest author -> who and when. */
  readonly #honestWork = new Map<string, { author: string; epoch: number }>();
  /** Author -> epoch -> updates and seals that it signed for it, as far as any disk has seen them. */
  readonly #signed = new Map<string, Map<number, Set<string>>>();
  /** Records of each disk that were counted. */
  readonly #counted = new Map<object, number>();
  /** Comparisons of an adapter with its set. */
  compared = 0;

  constructor(world: World) {
    this.#world = world;
    this.#disks = new DiskReader(world.swarm.run);
  }

  /** Safety: the adapter of each honest peer is the fold of valid, signed updates of members that it holds. */
  async check(): Promise<void> {
    const { swarm } = this.#world;
    this.#count();
    // First of all disks: one may have come by a seal that goes on from another's.
    for (const { disk } of swarm.nodes) this.#disks.sealOf(disk);
    for (const node of swarm.nodes) {
      for (let tries = 0; !this.#isFold(node); tries++) {
        assert.ok(
          tries < WRITES_MAX,
          `${nameOf(node)}: its adapter is not the fold of what it holds`,
        );
        await swarm.time.advanceTo(swarm.time.nowMs + WRITE_MS);
      }
    }
  }

  /** Ids of the updates on the disks of honest peers. */
  held(): Set<string> {
    const records = this.#world.swarm.nodes.flatMap(({ disk }) => disk.log);
    return new Set(this.#disks.updates(records).map(({ id }) => id));
  }

  /** Liveness: all honest peers have one adapter now. */
  checkOneAdapter(when: string): void {
    const { nodes } = this.#world.swarm;
    const adapters = nodes.map((node) => {
      assert.ok(node.peer !== null, `${nameOf(node)} is up ${when}`);
      return node.peer.snapshot().adapter;
    });
    const said = adapters
      .map(({ sha256, updates }) => `${sha256.slice(0, 8)}:${updates}`)
      .join(' ');
    const hashes = new Set(adapters.map(({ sha256 }) => sha256));
    assert.equal(
      hashes.size,
      1,
      `one adapter at all honest peers ${when}; adapter:updates ${said}`,
    );
  }

  /** At the end: one adapter, of everything that anybody honest holds, with all acknowledged work in it once. */
  checkEnd(random: Prng): { sha256: string; updates: number } {
    const { swarm, honestIds, doubled } = this.#world;
    assert.deepEqual(swarm.failures, [], 'no honest peer ended with an error');
    this.#count();
    this.checkOneAdapter('at the end');
    const records = swarm.nodes.flatMap(({ disk }) => disk.log);
    this.#checkRecords(records);
    const seal = this.#newestSeal();
    const union = this.#disks.set(records, seal);
    const order = [...random.permutation(records.length)].map((i) => records[i]!);
    const again = this.#disks.set(order, seal);
    assert.deepEqual(again.log.digest(), union.log.digest(), 'a set has no order');
    const { sha256 } = swarm.node(0).peer!.snapshot().adapter;
    assert.equal(
      sha256,
      this.#disks.adapterOf(union),
      'the adapter is the fold of all honest disks',
    );
    const innocent = union.evicted.filter((id) => honestIds.includes(id) && !doubled.has(id));
    assert.deepEqual(innocent, [], 'no honest peer is taken for one that signed twice');
    this.#checkWork(union);
    return { sha256, updates: union.log.size };
  }

  /** Nothing that peers keep or fold breaks a rule. Said again here, for a rule that the program forgot is one. */
  #checkRecords(records: readonly Uint8Array[]): void {
    const { swarm, hostile, honestIds, plan } = this.#world;
    for (const record of records)
      assert.ok(this.#disks.message(record) !== null, 'nothing invalid lies on an honest disk');
    const members = new Set([...honestIds, ...hostile.map(({ peerId }) => peerId)]);
    for (const { author, scales, epoch, baseEpoch } of this.#disks.updates(records)) {
      if (plan.settings.mode === 'allowlist') assert.ok(members.has(author), `${author} is listed`);
      assert.ok(baseEpoch <= epoch && epoch - baseEpoch <= plan.settings.lagMax);
      // Sign, and an exponent of all ones: negative, infinite or NaN.
      const isScale = (high: number): boolean => (high & 0x80) === 0 && (high & 0x7c) !== 0x7c;
      assert.ok(
        scales.every((byte, i) => i % 2 === 0 || isScale(byte)),
        'scales are numbers',
      );
    }
    for (const { peer } of swarm.nodes)
      assert.ok(peer!.theta().every(Number.isFinite), 'every coordinate of the adapter is finite');
  }

  /** Acknowledged work: what a majority of honest peers held is counted, exactly once. */
  #checkWork({ log }: CountedSet): void {
    const { nodes } = this.#world.swarm;
    const lost: string[] = [];
    for (const [id, { author, epoch }] of this.#honestWork) {
      const holders = this.#holders.get(id)?.size ?? 0;
      if (2 * holders <= nodes.length || epoch >= this.#firstFork(author)) continue;
      if (log.get(author, epoch)?.id !== id && !this.#isReturned(author, epoch))
        lost.push(`epoch ${epoch} of ${author.slice(-6)}, which ${holders} peers held`);
    }
    assert.deepEqual(lost, [], 'all acknowledged work is counted in the end');
  }

  /** Whether a seal left an update out whose work is back in its author's residual. */
  #isReturned(author: string, epoch: number): boolean {
    const node = this.#world.swarm.nodes.find(({ peerId }) => peerId === author);
    const isSealed = epoch < (node?.disk.seal?.epoch ?? 0);
    return isSealed && node?.disk.state?.settledSeal != null;
  }

  #newestSeal(): SealContents | null {
    const seals = this.#world.swarm.nodes.map(({ disk }) => this.#disks.sealOf(disk));
    return seals.reduce((a, b) => ((b?.epoch ?? 0) > (a?.epoch ?? 0) ? b : a), null);
  }

  /** The oldest epoch up to which any honest peer has adopted a seal. */
  get sealedEpoch(): number {
    const { nodes } = this.#world.swarm;
    return Math.min(...nodes.map(({ disk }) => disk.seal?.epoch ?? 0));
  }

  /** Whether the adapter of a peer is the fold of its disk; true where it cannot be told at the moment. */
  #isFold(node: SimNode): boolean {
    const { peer, disk } = node;
    if (peer === null || disk.isFull) return true;
    const { adapter } = peer.snapshot();
    const set = this.#disks.set(disk.log, this.#disks.sealOf(disk));
    // Writing is behind: what the adapter holds is not on the disk yet.
    if (set.log.size !== adapter.updates) return true;
    this.compared += 1;
    return this.#disks.adapterOf(set) === adapter.sha256;
  }

  /** The first epoch for which a peer whose directory was used twice signed two things; Infinity for none. */
  #firstFork(author: string): number {
    const areTwo = (signed: ReadonlySet<string>): boolean =>
      ['update', 'seal'].some((kind) => [...signed].filter((s) => s.startsWith(kind)).length > 1);
    const twice = [...(this.#signed.get(author) ?? [])].filter(([, signed]) => areTwo(signed));
    return Math.min(Infinity, ...twice.map(([epoch]) => epoch));
  }

  #noteSigned(author: string, epoch: number, what: string): void {
    const epochs = this.#signed.get(author) ?? new Map<number, Set<string>>();
    this.#signed.set(author, epochs);
    epochs.set(epoch, (epochs.get(epoch) ?? new Set()).add(what));
  }

  /** Notes what has come to any disk since the last time. */
  #count(): void {
    const { swarm, copies, honestIds } = this.#world;
    for (const node of [...swarm.nodes, ...copies]) {
      const { everAppended } = node.disk;
      const counted = this.#counted.get(node) ?? 0;
      this.#counted.set(node, everAppended.length);
      const records = everAppended.slice(counted);
      for (const { member, statement } of this.#disks.seals(records))
        this.#noteSigned(member, statement.epoch, `seal ${statement.id}`);
      const updates = this.#disks.updates(records);
      this.#disks.note(updates);
      for (const { id, author, epoch } of updates) {
        if (!honestIds.includes(author)) continue;
        this.#honestWork.set(id, { author, epoch });
        this.#noteSigned(author, epoch, `update ${id}`);
        if (copies.includes(node)) continue;
        this.#holders.set(id, (this.#holders.get(id) ?? new Set()).add(node.index));
      }
    }
  }
}

function nameOf({ index, peerId }: SimNode): string {
  return `honest peer ${index} (${peerId.slice(-6)})`;
}
