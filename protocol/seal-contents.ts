/**
 * What a seal counts: for each author the epochs of its sealed updates since the beginning of the run, as a bitmap,
 * and the ids of those since the seal before. Equal logs give equal bytes.
 */
import { fromBitmap, toBitmap } from './bitmap.js';
import { blobRoot, chunkHashes, type BlobName } from './blob.js';
import { bytesEqual, copyOf, fromHex, toHex } from './bytes.js';
import { SealContentsError } from './errors.js';
import { peerIdFromPublicKey, publicKeyFromPeerId } from './identity.js';
import type { UpdateLog } from './log.js';
import * as wire from './wire/messages.js';

const ID_BYTES = 32;

interface SealedAuthor {
  /** All sealed epochs of the author since the beginning of the run. */
  bitmap: Uint8Array<ArrayBuffer>;
  /** Epoch -> id of its update, from `fromEpoch` on. */
  ids: ReadonlyMap<number, string>;
}

export class SealContents {
  /** The epoch of the seal before: ids begin there. */
  readonly fromEpoch: number;
  /** The seal's epoch: all entries lie before it. */
  readonly epoch: number;
  readonly #authors: ReadonlyMap<string, SealedAuthor>;
  #encoded: { bytes: Uint8Array; hashes: Uint8Array<ArrayBuffer>; name: BlobName } | null = null;

  private constructor(
    fromEpoch: number,
    epoch: number,
    authors: ReadonlyMap<string, SealedAuthor>,
  ) {
    this.fromEpoch = fromEpoch;
    this.epoch = epoch;
    this.#authors = authors;
  }

  /** What `log`, which goes on from `previous` (null: from the beginning), holds before `epoch`. */
  static of(log: UpdateLog, previous: SealContents | null, epoch: number): SealContents {
    const fromEpoch = previous?.epoch ?? 0;
    const authors = new Map<string, SealedAuthor>();
    const names = new Set([...(previous?.authors() ?? []), ...log.authors()]);
    for (const author of names) {
      const epochs = log.epochsOf(author).filter((e) => e >= fromEpoch && e < epoch);
      const all = [...(previous?.epochsOf(author) ?? []), ...epochs];
      if (all.length === 0) continue;
      const ids = new Map(epochs.map((e) => [e, log.get(author, e)?.id ?? '']));
      authors.set(author, { bitmap: toBitmap(all), ids });
    }
    return new SealContents(fromEpoch, epoch, authors);
  }

  /**
   * Reads what a statement of `epoch` names. @throws SealContentsError unless it is in canonical form and within
   * its bounds.
   */
  static decode(bytes: Uint8Array, epoch: number): SealContents {
    let message: wire.SealContents;
    try {
      message = wire.SealContents.decode(bytes);
    } catch (cause) {
      throw new SealContentsError('not a valid protobuf message', { cause });
    }
    const { fromEpoch } = message;
    if (fromEpoch >= epoch) throw new SealContentsError(`they begin with epoch ${fromEpoch}`);
    const authors = new Map<string, SealedAuthor>();
    for (const entry of message.authors) {
      if (entry.author.length !== 32) throw new SealContentsError('an entry without its author');
      // Else one set had many spellings.
      if (!entry.epochs.at(-1))
        throw new SealContentsError('an entry that does not end in an epoch');
      const epochs = fromBitmap(entry.epochs, fromEpoch);
      if ((epochs.at(-1) ?? 0) >= epoch || entry.ids.length !== ID_BYTES * epochs.length) {
        throw new SealContentsError('an entry whose ids are not those of its epochs');
      }
      const ids = new Map(
        epochs.map((e, i) => [e, toHex(entry.ids.subarray(ID_BYTES * i, ID_BYTES * (i + 1)))]),
      );
      authors.set(peerIdFromPublicKey(entry.author), { bitmap: copyOf(entry.epochs), ids });
    }
    const contents = new SealContents(fromEpoch, epoch, authors);
    if (!bytesEqual(contents.bytes, bytes)) throw new SealContentsError('not in canonical form');
    return contents;
  }

  /** The canonical encoding. */
  get bytes(): Uint8Array {
    return this.#encode().bytes;
  }

  /** As a blob: its root and size. */
  get name(): BlobName {
    return this.#encode().name;
  }

  /** SHA-256 of each chunk of `bytes`. */
  get hashes(): Uint8Array<ArrayBuffer> {
    return this.#encode().hashes;
  }

  /** Sealed updates since the beginning of the run. */
  get updates(): number {
    let count = 0;
    for (const { bitmap } of this.#authors.values()) count += fromBitmap(bitmap).length;
    return count;
  }

  /** Peer ids of the authors of sealed updates. */
  authors(): string[] {
    return [...this.#authors.keys()];
  }

  /** Whether an update of `author` for `epoch` is sealed. */
  has(author: string, epoch: number): boolean {
    const byte = this.#authors.get(author)?.bitmap[epoch >> 3] ?? 0;
    return ((byte >> (epoch & 7)) & 1) === 1;
  }

  /** Sealed epochs of `author` since the beginning of the run, ascending. */
  epochsOf(author: string): number[] {
    return fromBitmap(this.#authors.get(author)?.bitmap ?? new Uint8Array());
  }

  /** Ids of the sealed updates from `fromEpoch` on. */
  *ids(): Generator<{ author: string; epoch: number; id: string }> {
    for (const [author, { ids }] of this.#authors) {
      for (const [epoch, id] of ids) yield { author, epoch, id };
    }
  }

  #encode(): { bytes: Uint8Array; hashes: Uint8Array<ArrayBuffer>; name: BlobName } {
    if (this.#encoded !== null) return this.#encoded;
    const authors = [...this.#authors]
      .map(([author, entry]) => ({ author: publicKeyFromPeerId(author), ...entry }))
      .sort((a, b) => Buffer.compare(a.author, b.author))
      .map(({ author, bitmap, ids }) => ({
        author,
        epochs: bitmap,
        ids: Uint8Array.from(Buffer.concat([...ids.values()].map(fromHex))),
      }));
    const bytes = wire.SealContents.encode({ fromEpoch: this.fromEpoch, authors });
    const hashes = chunkHashes([bytes]);
    const name = { root: toHex(blobRoot(hashes)), size: bytes.length };
    this.#encoded = { bytes, hashes, name };
    return this.#encoded;
  }
}
