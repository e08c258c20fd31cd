/** Updates too large for gossip: fetches the bodies of announced ones as blobs, and serves those of the log. */
import { chunkHashes, wholeBlob, type BlobName, type BlobSource } from '../../protocol/blob.js';
import { toHex } from '../../protocol/bytes.js';
import { equivocationProof } from '../../protocol/equivocation.js';
import { BLOBS_WAITING_MAX } from '../../protocol/limits.js';
import { bodyBytes } from '../../protocol/row-format.js';
import type { UpdateHeader } from '../../protocol/update.js';
import type { Transport } from '../interfaces.js';
import type { Fetcher } from './fetcher.js';
import type { Replica } from './replica.js';

/** Announced updates that are remembered: those being fetched, and as many whose fetching failed. */
const REMEMBERED_MAX = 2 * BLOBS_WAITING_MAX;

export interface UpdateFetcherComponents {
  transport: Transport;
  replica: Replica;
  fetcher: Fetcher;
  /** Whether a sync session is fetching the update of a slot. */
  isSyncing: (slot: string) => boolean;
  /** Nobody gave an update that `from` announced: sync may. */
  onFailed: (from: string) => void;
}

interface Announced {
  header: UpdateHeader;
  isActive: boolean;
  /** Its body is here and not valid: nobody needs to be asked for it again. */
  isRefused: boolean;
  /** Members of whom it was asked in vain. */
  tried: Set<string>;
}

export class UpdateFetcher {
  readonly #c: UpdateFetcherComponents;
  readonly #announced = new Map<string, Announced>();
  /** SHA-256 of each chunk of bodies that were given last, by the update's id. */
  readonly #hashes = new Map<string, Uint8Array>();
  #fetched = 0;

  constructor(components: UpdateFetcherComponents) {
    this.#c = components;
  }

  /** Updates that came this way and were new. */
  get fetched(): number {
    return this.#fetched;
  }

  /** `from` passed on the announcement of an update that is lacking here. */
  onAnnounced(header: UpdateHeader, from: string): void {
    const slot = slotOf(header);
    const known = this.#announced.get(slot);
    if (known !== undefined && known.header.id !== header.id) {
      this.#c.replica.onProofFound(equivocationProof(known.header, header));
      return;
    }
    if (known === undefined && this.#c.isSyncing(slot)) return;
    const announced = known ?? {
      header,
      isActive: false,
      isRefused: false,
      tried: new Set<string>(),
    };
    if (announced.isRefused) return;
    if (known === undefined) this.#remember(slot, announced);
    if (!this.#draw(announced, from)) this.#c.onFailed(from);
  }

  /**
   * A sync partner holds the update of this slot, which is lacking here. Returns whether it comes, or can
   * come, this way, so that the session need not ask for it.
   */
  offer(slot: string, peerId: string): boolean {
    const announced = this.#announced.get(slot);
    if (announced === undefined || announced.isRefused) return false;
    return this.#draw(announced, peerId) || announced.isActive;
  }

  /** A member that left may do better when it comes back. */
  forget(peerId: string): void {
    for (const { tried } of this.#announced.values()) tried.delete(peerId);
  }

  /** What this peer can give of the blob with this root (hex). */
  source(root: string): BlobSource | undefined {
    const { log } = this.#c.replica;
    const header = log.withBody(root);
    if (header !== undefined) {
      const { scales, codes } = log.read(header);
      return wholeBlob([scales, codes], this.#hashesOf(header, [scales, codes]));
    }
    return this.#c.fetcher.source(root);
  }

  /** Several members ask for the same new updates at one time: their hashes are computed once. */
  #hashesOf({ id }: UpdateHeader, body: readonly Uint8Array[]): Uint8Array {
    const known = this.#hashes.get(id);
    if (known !== undefined) return known;
    const hashes = chunkHashes(body);
    const oldest = this.#hashes.keys().next().value;
    if (this.#hashes.size >= REMEMBERED_MAX && oldest !== undefined) this.#hashes.delete(oldest);
    this.#hashes.set(id, hashes);
    return hashes;
  }

  /** Begins or helps to fetch the update from `peerId`; false when that was in vain before. */
  #draw(announced: Announced, peerId: string): boolean {
    if (announced.isActive) return this.#c.fetcher.addDonor(this.#nameOf(announced), peerId);
    if (announced.tried.has(peerId) || this.#c.fetcher.isLiar(peerId)) return false;
    announced.isActive = true;
    announced.tried.add(peerId);
    void this.#fetch(announced, peerId);
    return true;
  }

  async #fetch(announced: Announced, from: string): Promise<void> {
    const { replica, fetcher, transport } = this.#c;
    const { author, epoch, signed } = announced.header;
    // The author has all the others to serve: who passed the word on is fetching too, and shares.
    const isConnected = transport.connections().some(({ peerId }) => peerId === author);
    const bytes = await fetcher.fetch(this.#nameOf(announced), {
      donors: [from],
      reserve: isConnected ? [author] : [],
      isUrgent: replica.log.epochsOf(author).length > 0,
    });
    announced.isActive = false;
    if (replica.log.get(author, epoch) !== undefined) this.#forgetSlot(announced);
    else if (bytes === null) this.#c.onFailed(from);
    else this.#enter(announced, bytes, signed);
  }

  #enter(announced: Announced, bytes: Uint8Array<ArrayBuffer>, signed: UpdateHeader['signed']) {
    const { replica } = this.#c;
    const { author, epoch } = announced.header;
    const { scales } = bodyBytes(replica.formats.at(epoch));
    const body = { scales: bytes.subarray(0, scales), codes: bytes.subarray(scales) };
    // Whoever gave the chunks is not to blame for what the author signed.
    const verdict = replica.onSynced({ ...signed, ...body }, author);
    if (verdict === 'accept') this.#fetched += 1;
    if (verdict === 'reject') announced.isRefused = true;
    else this.#forgetSlot(announced);
  }

  #nameOf({ header }: Announced): BlobName {
    const { scales, codes } = bodyBytes(this.#c.replica.formats.at(header.epoch));
    return { root: toHex(header.bodyRoot), size: scales + codes };
  }

  #forgetSlot({ header }: Announced): void {
    this.#announced.delete(slotOf(header));
  }

  #remember(slot: string, announced: Announced): void {
    for (const [oldest, { isActive }] of this.#announced) {
      if (this.#announced.size < REMEMBERED_MAX) break;
      if (!isActive) this.#announced.delete(oldest);
    }
    this.#announced.set(slot, announced);
  }
}

function slotOf({ author, epoch }: UpdateHeader): string {
  return `${author}/${epoch}`;
}
