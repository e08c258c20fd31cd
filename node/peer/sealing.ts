/**
 * Seals at one peer: signs what it holds when an epoch's seal is due, collects what the others sign, and adopts a
 * certificate: from its own log where that agrees, else with the help of others (docs/PROTOCOL.md, "Seals").
 */
import { wholeBlob, type BlobSource, type Chunk } from '../../protocol/blob.js';
import { SealContentsError } from '../../protocol/errors.js';
import { encodeSeal } from '../../protocol/gossip.js';
import { FUTURE_EPOCHS_MAX, SEAL_CONTENTS_BYTES_MAX } from '../../protocol/limits.js';
import { SealContents } from '../../protocol/seal-contents.js';
import {
  createSeal,
  encodeStatement,
  sealDue,
  type Seal,
  type SealCertificate,
  type SealStatement,
} from '../../protocol/seal.js';
import type { HeldSeals } from '../../protocol/sync.js';
import type { UpdateHeader } from '../../protocol/update.js';
import * as wire from '../../protocol/wire/messages.js';
import type { Clock, Identity, Logger, Store, Transport } from '../interfaces.js';
import type { Fetcher } from './fetcher.js';
import type { Journal } from './journal.js';
import type { Replica } from './replica.js';
import { SealBox } from './seal-box.js';
import { hashSum, sumBefore, sumOf, SumShelf, type SumBefore } from './seal-sums.js';

export interface SealingComponents {
  replica: Replica;
  store: Store;
  journal: Journal;
  fetcher: Fetcher;
  transport: Transport;
  clock: Clock;
  logger: Logger;
  identity: Identity;
  epochNow: () => number;
  /** Tells the members of a seal. */
  tell: (message: Uint8Array) => void;
  /** The log goes on from a certificate now. */
  onAdopted: () => void;
  /** Bytes of the log on disk beyond which sealed updates are dropped from it. */
  logBytesMax: number;
}

/** After so many seals in a row without a certificate it is worth a word. */
const WORRY_AFTER = 3;

/** The log is compacted, or a word said, when it has this share of what it may have. */
const COMPACT_SHARE = 0.9;

/** A certificate with all that goes with it, ready to be adopted. */
interface Adoption {
  certificate: SealCertificate;
  contents: SealContents;
  /** The fold's sum before the certificate's epoch. */
  sum: Float64Array;
  /** Whether the sum was made from this peer's own log. */
  isOwn: boolean;
}

export class Sealing {
  readonly #c: SealingComponents;
  readonly #every: number;
  readonly #box: SealBox;
  readonly #shelf: SumShelf;
  /** The last epoch whose seal an earlier process may have signed. */
  #closedEpoch = 0;
  #certificate: SealCertificate | null = null;
  #contents: SealContents | null = null;
  /** Newer than the one adopted, and since when it is known here. */
  #next: { certificate: SealCertificate; sinceMs: number } | null = null;
  /** Whether the sum of #next must come from others. */
  #isFetching = false;
  /** What load() read, until begin(); without its sum where that is lost. */
  #loaded: Adoption | null = null;
  #toSum: Pick<Adoption, 'certificate' | 'contents'> | null = null;
  /** Epoch of the certificate before the one adopted, and from where on the log on disk is whole. */
  #previousEpoch = 0;
  #logStart = 0;
  /** Own updates dropped from the log because #next does not count them. */
  #excluded: UpdateHeader[] = [];
  #returned: { seal: string; updates: readonly UpdateHeader[] } | null = null;
  #isBusy = false;
  /**
   * Own seals that no certificate has overtaken. A clock that jumps ahead lets the box forget what is still open for
   * all others; when it is set back, none of these may be signed again.
   */
  readonly #own = new Map<number, Seal>();

  constructor(components: SealingComponents) {
    const { replica, store } = components;
    this.#c = components;
    this.#every = replica.run.manifest.fold.sealEvery;
    this.#box = new SealBox(replica.log.members);
    this.#shelf = new SumShelf(store);
  }

  /** False in a run that seals nothing: then nothing here ever happens. */
  get isOn(): boolean {
    return this.#every > 0;
  }

  /** What the newest certificate counts; null before the first. */
  get contents(): SealContents | null {
    return this.#contents;
  }

  /** Whether this peer would train from an adapter that is not the swarm's: it has to fetch that first. */
  get isBehind(): boolean {
    return this.#isFetching;
  }

  /** Updates before this epoch need not be fetched: a certificate counts them already. */
  get wantedFrom(): number {
    return this.#isFetching ? (this.#next?.certificate.statement.epoch ?? 0) : 0;
  }

  /** Own updates that a certificate does not count: their work is to be sent again. Null for none. */
  get returned(): { seal: string; updates: readonly UpdateHeader[] } | null {
    return this.#returned;
  }

  /** What to tell a member at the beginning of a sync session. */
  held(): HeldSeals {
    const statement = this.#certificate?.statement;
    return {
      summary: {
        sealed: statement ? { epoch: statement.epoch, statement: statement.id } : null,
        digest: this.#box.digest(),
      },
      certificate: this.#certificate?.wire ?? null,
      seals: this.#box.all().map(({ signed }) => signed),
    };
  }

  /** What is to be said of it; null when all is well. */
  get problem(): string | null {
    const { replica, store, logBytesMax } = this.#c;
    if (this.#isFetching && this.#next) {
      const { epoch } = this.#next.certificate.statement;
      return `Fetching the adapter of epoch ${epoch}, on which the members have agreed; training begins when it is here.`;
    }
    if (store.logBytes > COMPACT_SHARE * logBytesMax && this.#logStart === replica.log.floor) {
      return (
        `The log has ${store.logBytes} bytes on disk, near its bound of ${logBytesMax} (--log-disk), and nothing of it ` +
        'can be dropped: the members have not agreed on more. Give it more room, or it grows beyond.'
      );
    }
    const due = this.#due();
    if (!this.isOn || due - replica.log.floor < WORRY_AFTER * this.#every) return null;
    const { signed, silent } = this.#box.count(due);
    const names = silent.length > 0 ? ` (${silent.slice(0, 4).join(', ')})` : '';
    return (
      `The members have not agreed on the updates before epoch ${due} yet: ${signed.length} signed the same, ` +
      `${silent.length} nothing${names}. Nothing is lost: all updates are kept until members with more than two ` +
      'thirds of the weight agree.'
    );
  }

  /**
   * Reads what is on disk, before the records of the log. `startEpoch`: the slot of the clock now, or -1 where no
   * earlier process can have used this peer's key.
   */
  async load(startEpoch: number, signal: AbortSignal): Promise<void> {
    if (!this.isOn) return;
    const { store, replica } = this.#c;
    // What an earlier process signed is in the log, unless this is an older copy of its files.
    this.#closedEpoch = sealDue(replica.run, startEpoch, Infinity);
    const stored = await store.loadSeal();
    if (stored === null) return;
    const certificate = replica.decodeCertificate(stored.certificate);
    const contents = SealContents.decode(stored.contents, stored.epoch);
    const sum = await store.loadSum(stored.epoch);
    const hashes = sum === null ? null : await hashSum(sum, signal);
    [this.#previousEpoch, this.#logStart] = [stored.previousEpoch, stored.logStart];
    if (sum === null || hashes?.root !== certificate.statement.sum) {
      // A whole log gives the sum again; else the adapter before that epoch comes from others.
      if (stored.logStart === 0) this.#toSum = { certificate, contents };
      else [this.#next, this.#isFetching] = [{ certificate, sinceMs: -Infinity }, true];
      return;
    }
    this.#shelf.note(stored.epoch, sum, hashes);
    this.#loaded = { certificate, contents, sum, isOwn: false };
    replica.log.seal(stored.previousEpoch, '');
  }

  /** Goes on from what load() read, after the records of the log. `settledSeal`: see PeerState. */
  async begin(settledSeal: string | null, signal: AbortSignal): Promise<void> {
    if (this.#toSum !== null) this.#loaded = await this.#sumAgain(this.#toSum, signal);
    const loaded = this.#loaded;
    [this.#loaded, this.#toSum] = [null, null];
    if (loaded === null) return;
    this.#enter(loaded);
    if (this.#returned?.seal === settledSeal) this.#returned = null;
  }

  /** The sum of a certificate out of the whole log, where the one on disk is lost; null where the log is not whole. */
  async #sumAgain(
    { certificate, contents }: Pick<Adoption, 'certificate' | 'contents'>,
    signal: AbortSignal,
  ): Promise<Adoption | null> {
    const { replica, identity } = this.#c;
    const { epoch, sum: root } = certificate.statement;
    const others = replica
      .headersBefore(epoch)
      .filter((one) => !contents.has(one.author, one.epoch));
    // What earlier seals did not count went back into the residual then.
    const isOwn = (one: UpdateHeader): boolean =>
      one.author === identity.peerId && one.epoch >= this.#previousEpoch;
    this.#excluded.push(...others.filter(isOwn));
    replica.exclude(others);
    const { sum, hashes } = await this.#sumBefore(epoch, signal);
    if (hashes.root === root) return { certificate, contents, sum, isOwn: false };
    [this.#next, this.#isFetching] = [{ certificate, sinceMs: -Infinity }, true];
    return null;
  }

  /** Takes a checked seal. See SealBox.add. */
  add(seal: Seal): ReturnType<SealBox['add']> {
    const { replica, epochNow, identity } = this.#c;
    const { epoch } = seal.statement;
    if (seal.member === identity.peerId && epoch > replica.log.floor && !this.#own.has(epoch))
      this.#own.set(epoch, seal);
    const result = this.#box.add(seal, {
      floor: replica.log.floor,
      newest: sealDue(replica.run, epochNow() + FUTURE_EPOCHS_MAX, replica.epochsMax),
      every: this.#every,
    });
    const certificate = result === 'added' ? this.#box.certificate() : null;
    if (certificate !== null) this.addCertificate(certificate);
    return result;
  }

  /** Takes a checked certificate. Returns whether it is newer than what is known. */
  addCertificate(certificate: SealCertificate): boolean {
    const { epoch, id, previous } = certificate.statement;
    // While the log is read, the seals in it amount to the certificate that was loaded beside it.
    const loaded = this.#loaded?.certificate ?? this.#certificate;
    const known = (this.#next?.certificate ?? loaded)?.statement;
    // Of two for one epoch, which take members with a third of the weight that signed both, all take the same.
    const isNewer =
      known === undefined || epoch > known.epoch || (epoch === known.epoch && id < known.id);
    if (!isNewer) return false;
    this.#next = { certificate, sinceMs: this.#c.clock.now() };
    // What lies between the two is not in this log: training waits for the sum.
    if (previous !== (loaded?.statement.id ?? null)) this.#isFetching = true;
    return true;
  }

  /** Whether a certificate is the one adopted, or the one to be adopted: it need not be checked again. */
  isKnown(statement: string): boolean {
    const known = [this.#certificate?.statement.id, this.#next?.certificate.statement.id];
    return known.includes(statement);
  }

  /** Adopts a certificate, and signs what is due, if there is anything to do. Rejects when `signal` aborts. */
  async turn(signal: AbortSignal): Promise<void> {
    if (!this.isOn || this.#isBusy) return;
    this.#isBusy = true;
    try {
      await this.#adoptNext(signal);
      await this.#signDue(signal);
    } finally {
      this.#isBusy = false;
    }
  }

  /** What returned() said is in the residual on disk. */
  settle(seal: string): void {
    if (this.#returned?.seal === seal) this.#returned = null;
  }

  /** What others may fetch: the contents of the certificate, and sums. */
  source(root: string): BlobSource<Chunk> | undefined {
    const contents = this.#contents;
    if (contents?.name.root === root) return wholeBlob([contents.bytes], contents.hashes);
    return this.#shelf.source(root);
  }

  /** The newest epoch whose seal is due. */
  #due(): number {
    const { replica, epochNow } = this.#c;
    return sealDue(replica.run, epochNow(), replica.epochsMax);
  }

  /** Whether this peer may sign the seal of `epoch` now, and has not. */
  #maySign(epoch: number): boolean {
    const { replica, identity } = this.#c;
    const { log } = replica;
    if (epoch <= Math.max(log.floor, this.#closedEpoch) || this.#next !== null) return false;
    if (this.#own.has(epoch)) return false;
    return log.members.voters(epoch).has(identity.peerId) && !log.proofAgainst(identity.peerId);
  }

  async #signDue(signal: AbortSignal): Promise<void> {
    const { replica, identity, journal, logger } = this.#c;
    const due = this.#due();
    if (!this.#maySign(due)) return;
    const { hashes, contents } = await this.#sumBefore(due, signal);
    // The clock went on, or a certificate came meanwhile.
    if (due !== this.#due() || !this.#maySign(due)) return;
    if (contents.name.size > SEAL_CONTENTS_BYTES_MAX) return;
    const statement = encodeStatement(replica.run, {
      epoch: due,
      previous: this.#certificate?.statement.id ?? null,
      contents: contents.name,
      sum: hashes.root,
      updates: contents.updates,
    });
    const seal = createSeal(statement, identity);
    // On disk before anybody hears of it: a restart must not sign another.
    journal.append({ encode: () => encodeSeal(seal) }, signal);
    await journal.flush();
    signal.throwIfAborted();
    this.add(seal);
    this.#c.tell(encodeSeal(seal));
    logger.debug({ epoch: due, updates: statement.updates }, 'updates sealed');
  }

  async #adoptNext(signal: AbortSignal): Promise<void> {
    const next = this.#next;
    if (next === null) return;
    const adoption = await this.#prepare(next.certificate.statement, next.sinceMs, signal);
    if (adoption === null || this.#next !== next) return;
    const { store, journal, replica, logger } = this.#c;
    const { certificate } = next;
    const { epoch } = certificate.statement;
    if (!this.#shelf.has(certificate.statement.sum)) {
      await journal.persist(() => store.saveSum(epoch, adoption.sum), signal);
      this.#shelf.note(epoch, adoption.sum, await hashSum(adoption.sum, signal));
    }
    this.#previousEpoch = replica.log.floor;
    if (!adoption.isOwn) this.#logStart = epoch;
    await this.#save({ ...adoption, certificate }, signal);
    this.#enter({ ...adoption, certificate });
    if (this.#next === next) this.#next = null;
    this.#isFetching = false;
    this.#shelf.keep(epoch);
    this.#c.onAdopted();
    logger.debug({ epoch, updates: certificate.statement.updates }, 'seal adopted');
    if (store.logBytes > COMPACT_SHARE * this.#c.logBytesMax || !adoption.isOwn) {
      this.#logStart = epoch;
      await this.#save({ ...adoption, certificate }, signal);
      const returned = this.#returned?.updates ?? [];
      const seals = new Set([...this.#box.all(), ...this.#own.values()]);
      journal.compact(() => replica.compaction(returned, [...seals]), signal);
    }
  }

  async #save({ certificate, contents }: Adoption, signal: AbortSignal): Promise<void> {
    const stored = {
      certificate: wire.SealCertificate.encode(certificate.wire),
      contents: contents.bytes,
      epoch: certificate.statement.epoch,
      previousEpoch: this.#previousEpoch,
      logStart: this.#logStart,
    };
    await this.#c.journal.persist(() => this.#c.store.saveSeal(stored), signal);
  }

  /** Goes on from a certificate that is on disk. */
  #enter({ certificate, contents, sum, isOwn }: Adoption): void {
    const { replica, identity } = this.#c;
    const { log } = replica;
    const { epoch, id } = certificate.statement;
    const own = log.epochsOf(identity.peerId).flatMap((e) => log.get(identity.peerId, e) ?? []);
    const lost = [...this.#excluded, ...own].filter(
      (update) => update.epoch < epoch && !contents.has(update.author, update.epoch),
    );
    if (lost.length > 0) {
      this.#returned = { seal: id, updates: [...(this.#returned?.updates ?? []), ...lost] };
    }
    // What came for these epochs while the sum was made is as late as what comes after it.
    const isSame =
      isOwn && SealContents.of(log, this.#contents, epoch).name.root === contents.name.root;
    this.#excluded = [];
    this.#certificate = certificate;
    this.#contents = contents;
    this.#box.overtake(epoch);
    for (const old of this.#own.keys()) if (old <= epoch) this.#own.delete(old);
    replica.seal(certificate.statement, sum, { isSame, keep: lost });
  }

  /** All that goes with a certificate; null while something of it has not come yet. */
  async #prepare(
    statement: SealStatement,
    sinceMs: number,
    signal: AbortSignal,
  ): Promise<Omit<Adoption, 'certificate'> | null> {
    const { replica, clock } = this.#c;
    const { log, run } = replica;
    const { epoch, previous } = statement;
    let contents: SealContents | null = null;
    const isNext = previous === (this.#certificate?.statement.id ?? null);
    if (isNext && !this.#isFetching) {
      const own = await this.#ownSum(statement, signal);
      if (own !== null) return { contents: own.contents, sum: own.sum, isOwn: true };
      contents = await this.#fetchContents(statement);
      if (contents === null) return null;
      const ids = new Set([...contents.ids()].map(({ id }) => id));
      const missing = [...contents.ids()].filter(({ id }) => log.withId(id) === undefined);
      const isNewcomer = log.size === 0 && log.floor === 0;
      if (missing.length === 0) {
        const extras = replica.headersBefore(epoch).filter(({ id }) => !ids.has(id));
        const { peerId } = this.#c.identity;
        this.#excluded.push(...extras.filter(({ author }) => author === peerId));
        replica.exclude(extras);
        const sum = await this.#ownSum(statement, signal);
        if (sum !== null) return { contents, sum: sum.sum, isOwn: true };
      } else if (!isNewcomer && clock.now() < sinceMs + run.manifest.schedule.epochMs) {
        // What is missing may come by sync, which costs less.
        return null;
      }
    }
    this.#isFetching = true;
    contents ??= await this.#fetchContents(statement);
    const sum = contents === null ? null : await this.#fetchSum(statement);
    return contents === null || sum === null ? null : { contents, sum, isOwn: false };
  }

  /** The sum of the own log, where it is the one that the statement names. */
  async #ownSum(statement: SealStatement, signal: AbortSignal): Promise<SumBefore | null> {
    const { log } = this.#c.replica;
    const isSame = (contents: SealContents): boolean =>
      contents.name.root === statement.contents.root;
    if (!isSame(SealContents.of(log, this.#contents, statement.epoch))) return null;
    const found = await this.#sumBefore(statement.epoch, signal);
    return isSame(found.contents) && found.hashes.root === statement.sum ? found : null;
  }

  #sumBefore(epoch: number, signal: AbortSignal): Promise<SumBefore> {
    return sumBefore(this.#c.replica, this.#contents, epoch, signal);
  }

  async #fetchContents({ contents, epoch }: SealStatement): Promise<SealContents | null> {
    const bytes = await this.#c.fetcher.fetch(contents, { donors: this.#connected() });
    if (bytes === null) return null;
    try {
      return SealContents.decode(bytes, epoch);
    } catch (error) {
      if (!(error instanceof SealContentsError)) throw error;
      // Two thirds of the members have signed what nobody can read: the next certificate may be better.
      this.#c.logger.warn({ epoch, error: error.message }, 'contents of a seal cannot be read');
      return null;
    }
  }

  async #fetchSum({ sum, epoch }: SealStatement): Promise<Float64Array | null> {
    const size = Float64Array.BYTES_PER_ELEMENT * this.#c.replica.size;
    const bytes = await this.#c.fetcher.fetch({ root: sum, size }, { donors: this.#connected() });
    if (bytes === null) return null;
    const values = sumOf(bytes, epoch);
    if (values === null) this.#c.logger.warn({ epoch }, 'sum of a seal is not finite');
    return values;
  }

  #connected(): string[] {
    return [...new Set(this.#c.transport.connections().map(({ peerId }) => peerId))];
  }
}
