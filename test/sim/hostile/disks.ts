/** What lies on simulated disks, as checkers from outside read it: updates, proofs, admissions, and their fold. */
import { SimDisk } from '../../../node/sim/store.js';
import { adapterSha256 } from '../../../protocol/adapter.js';
import { EpochFold } from '../../../protocol/epoch-fold.js';
import { UpdateRejectedError } from '../../../protocol/errors.js';
import { Fold } from '../../../protocol/fold.js';
import { decodeGossip, type GossipMessage } from '../../../protocol/gossip.js';
import { UpdateLog } from '../../../protocol/log.js';
import type { Run } from '../../../protocol/manifest.js';
import { Members } from '../../../protocol/members.js';
import { Slicer } from '../../../protocol/slice.js';
import type { Update } from '../../../protocol/update.js';
import { toHex } from '../../../protocol/bytes.js';
import { sharedRecord } from '../shared.js';

export function sharedDisk(): SimDisk {
  return new SimDisk(sharedRecord);
}

/** Equal records of all disks are one array: each is decoded, and its signatures checked, once. */
const decoded = new WeakMap<Uint8Array, GossipMessage | null>();

export class DiskReader {
  readonly #run: Run;
  readonly #slicer: Slicer;
  /** Digest of a set -> hash of its adapter. */
  readonly #folds = new Map<string, string>();

  constructor(run: Run) {
    this.#run = run;
    this.#slicer = new Slicer(run);
  }

  /** @throws UpdateRejectedError never: a record that is not valid is null, for a checker to complain about. */
  message(record: Uint8Array): GossipMessage | null {
    let message = decoded.get(record);
    if (message === undefined) {
      try {
        message = decodeGossip(this.#run, this.#slicer, record, 'disk');
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

  /** The set that these records come to, whatever their order: who is a member first, then who is evicted. */
  set(records: readonly Uint8Array[]): UpdateLog {
    const log = new UpdateLog(new Members(this.#run.manifest.membership));
    const messages = records.map((record) => this.message(record));
    const take = (effect: () => unknown): void => {
      try {
        effect();
      } catch (error) {
        // Of an author who was evicted, or is no member any more.
        if (!(error instanceof UpdateRejectedError)) throw error;
      }
    };
    for (const message of messages)
      if (message?.kind === 'admission') take(() => log.admit(message.admission));
    for (const message of messages)
      if (message?.kind === 'equivocation') take(() => log.evict(message.proof));
    for (const message of messages)
      if (message?.kind === 'update') take(() => log.insert(message.update));
    return log;
  }

  /** Hash of the adapter of a set, folded from its beginning: nothing is taken from an earlier fold. */
  adapterOf(log: UpdateLog): string {
    const digest = toHex(log.digest());
    let known = this.#folds.get(digest);
    if (known === undefined) {
      const fold = new Fold(this.#run, new EpochFold(this.#run));
      known = adapterSha256(Float32Array.from(fold.compute(log)));
      this.#folds.set(digest, known);
    }
    return known;
  }
}
