/** What lies on simulated disks, as checkers from outside read it: updates, proofs, seals, and the adapter of all that counts. */
import assert from 'node:assert/strict';
import type { StoredSeal } from '../../../node/interfaces.js';
import { SimDisk } from '../../../node/sim/store.js';
import { adapterSha256 } from '../../../protocol/adapter.js';
import { toHex } from '../../../protocol/bytes.js';
import { UpdateRejectedError } from '../../../protocol/errors.js';
import { foldOnce } from '../../../protocol/fold.js';
import { decodeGossip, type GossipMessage } from '../../../protocol/gossip.js';
import { UpdateLog } from '../../../protocol/log.js';
import type { Run } from '../../../protocol/manifest.js';
import { Members } from '../../../protocol/members.js';
import type { Seal } from '../../../protocol/seal.js';
import { SealContents } from '../../../protocol/seal-contents.js';
import { RowFormats } from '../../../protocol/row-format.js';
import type { Update } from '../../../protocol/update.js';
import { sharedRecord } from '../shared.js';

export function sharedDisk(): SimDisk {
  return new SimDisk(sharedRecord);
}

/** Equal records of all disks are one array: each is decoded, and its signatures checked, once. */
const decoded = new WeakMap<Uint8Array, GossipMessage | null>();

/** Whatever counts on one disk, or on several together. */
export interface CountedSet {
  /** The updates that are folded, those that a seal counts among them. */
  log: UpdateLog;
  /** Authors who signed twice, as far as these disks know. */
  evicted: string[];
}

export class DiskReader {
  readonly #run: Run;
  readonly #formats: RowFormats;
  /** Digest of a set -> hash of its adapter. */
  readonly #folds = new Map<string, string>();
  /** Every update that was ever seen on a disk, by id. */
  readonly #updates = new Map<string, Update>();
  /** "author epoch" -> id of the update that a seal counts there: one and the same in all seals ever seen. */
  readonly #sealed = new Map<string, string>();

  /** Seals of each disk that were noted. */
  readonly #seals = new WeakMap<SimDisk, number>();

  constructor(run: Run) {
    this.#run = run;
    this.#formats = new RowFormats(run);
  }

  /** Null for a record that is not valid, for a checker to complain about. */
  message(record: Uint8Array): GossipMessage | null {
    let message = decoded.get(record);
    if (message === undefined) {
      try {
        message = decodeGossip(this.#run, this.#formats, record, 'disk');
      } catch (error) {
        if (!(error instanceof UpdateRejectedError)) throw error;
        message = null;
      }
      decoded.set(record, message);
    }
    return message;
  }

  updates(records: readonly Uint8Array[]): Update[] {
    return records.flatMap((record) => {
      const message = this.message(record);
      return message?.kind === 'update' ? [message.update] : [];
    });
  }

  seals(records: readonly Uint8Array[]): Seal[] {
    return records.flatMap((record) => {
      const message = this.message(record);
      return message?.kind === 'seal' ? [message.seal] : [];
    });
  }

  /** Notes what came to a disk, so that a seal that counts it can be read after it was dropped. */
  note(updates: readonly Update[]): void {
    for (const update of updates) this.#updates.set(update.id, update);
  }

  /**
   * The newest seal on a disk; notes all that it ever had. Two seals that count different updates for one slot would
   * be two adapters for ever.
   */
  sealOf(disk: SimDisk): SealContents | null {
    const read = this.#seals.get(disk) ?? 0;
    this.#seals.set(disk, disk.everSealed.length);
    for (const stored of disk.everSealed.slice(read)) this.#noteSeal(stored);
    return disk.seal && SealContents.decode(disk.seal.contents, disk.seal.epoch);
  }

  #noteSeal(stored: StoredSeal): void {
    for (const { author, epoch, id } of SealContents.decode(stored.contents, stored.epoch).ids()) {
      const slot = `${author} ${epoch}`;
      const known = this.#sealed.get(slot) ?? id;
      assert.equal(known, id, `two seals count different updates of ${author} for epoch ${epoch}`);
      this.#sealed.set(slot, id);
    }
  }

  /** What these disks come to, in any order of their records; `seal`: the newest certificate's contents. */
  set(records: readonly Uint8Array[], seal: SealContents | null): CountedSet {
    const messages = records.map((record) => this.message(record));
    const live = this.#emptyLog();
    const take = (effect: () => unknown): void => {
      try {
        effect();
      } catch (error) {
        // Of an author who was evicted, or is no member any more.
        if (!(error instanceof UpdateRejectedError)) throw error;
      }
    };
    for (const message of messages)
      if (message?.kind === 'admission') take(() => live.admit(message.admission));
    const floor = seal?.epoch ?? 0;
    // Of an open run a proof counts against those who have sent something: updates first, then proofs.
    for (const message of messages) {
      if (message?.kind !== 'update' || message.update.epoch < floor) continue;
      take(() => live.insert(message.update));
    }
    for (const message of messages)
      if (message?.kind === 'equivocation') take(() => live.evict(message.proof));
    // Who is a member was decided above; sealed updates count also of one whose invitation was used twice since.
    const log = new UpdateLog({ runId: this.#run.id });
    for (const author of live.authors())
      for (const epoch of live.epochsOf(author))
        log.insert(this.#update(live.get(author, epoch)?.id));
    for (const author of seal?.authors() ?? [])
      for (const epoch of seal?.epochsOf(author) ?? [])
        take(() => log.insert(this.#update(this.#sealed.get(`${author} ${epoch}`))));
    return { log, evicted: live.proofs().map((proof) => proof.author) };
  }

  /** Hash of the adapter of a set, folded from the beginning of the run: nothing is taken from an earlier fold. */
  adapterOf({ log }: CountedSet): string {
    const digest = toHex(log.digest());
    let known = this.#folds.get(digest);
    if (known === undefined) {
      known = adapterSha256(foldOnce(this.#run, log));
      this.#folds.set(digest, known);
    }
    return known;
  }

  #update(id: string | undefined): Update {
    const update = this.#updates.get(id ?? '');
    assert.ok(update !== undefined, `a seal counts an update that no honest peer ever held: ${id}`);
    return update;
  }

  #emptyLog(): UpdateLog {
    return new UpdateLog({
      members: new Members(this.#run.manifest.membership),
      runId: this.#run.id,
    });
  }
}
