/**
 * The files of a base model, given to members chunk by chunk from the disk: nothing is held but hashes, and whatever
 * the disk gives is checked before it leaves, for a file that has changed would make this peer a liar.
 */
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import {
  blobRoot,
  chunkCount,
  chunkHashes,
  wholeBlob,
  type BlobSource,
  type Chunk,
} from '../../protocol/blob.js';
import { bytesEqual, fromHex, sha256 } from '../../protocol/bytes.js';
import { BLOB_CHUNK_BYTES } from '../../protocol/limits.js';
import { partsOf, type ModelPart } from '../../protocol/model-files.js';
import { UserError } from '../errors.js';
import { errnoOf, readAt } from '../files.js';
import type { ModelListing } from './model-listing.js';

const HASH_BYTES = 32;

/** Parts whose chunk hashes are kept, 4 KiB each; of a larger model some are read again. */
const PARTS_KNOWN_MAX = 1024;

/** Files open at one time: reads of one chunk each. */
const OPEN_FILES_MAX = 8;

/** A ModelSource of interfaces.ts. */
export class SharedModel {
  readonly #listing: ModelListing;
  readonly #parts: ReadonlyMap<string, ModelPart>;
  /** Chunk hashes by root of the part; null where the file is not what was listed. The oldest is dropped first. */
  readonly #hashes = new Map<string, Promise<Uint8Array | null>>();
  /** Files that are not what was listed, and why. */
  readonly #lost = new Map<string, string>();
  /** One part is hashed at a time. */
  #hashing: Promise<unknown> = Promise.resolve();
  #reading = 0;
  readonly #waiting: (() => void)[] = [];

  constructor(listing: ModelListing) {
    this.#listing = listing;
    this.#parts = new Map(partsOf(listing.files).map((part) => [part.root, part]));
  }

  /** Sentences for the status. */
  get attention(): string[] {
    return [...this.#lost].map(
      ([file, reason]) =>
        `${join(this.#listing.dir, file)} ${reason}, so it is not given to other members any more: put the file back, and start again.`,
    );
  }

  async find(root: string): Promise<BlobSource<Chunk> | undefined> {
    const { catalogue, name } = this.#listing;
    if (root === name.root) {
      // Whoever gives the catalogue is asked for all of it.
      return this.#lost.size > 0 ? undefined : wholeBlob([catalogue], chunkHashes([catalogue]));
    }
    const part = this.#parts.get(root);
    if (part === undefined || this.#lost.has(part.file)) return undefined;
    const hashes = await this.#hashesOf(part);
    if (hashes === null) return undefined;
    return {
      hashes,
      chunkCount: chunkCount(part.size),
      has: () => true,
      chunk: (index) => this.#chunk(part, hashes, index),
      onMore: () => () => undefined,
    };
  }

  /** Computed once for all who ask. */
  #hashesOf(part: ModelPart): Promise<Uint8Array | null> {
    const known = this.#hashes.get(part.root);
    if (known !== undefined) return known;
    const computing = this.#hashing.then(() => this.#readHashes(part));
    this.#hashing = computing;
    const oldest = this.#hashes.keys().next().value;
    if (this.#hashes.size >= PARTS_KNOWN_MAX && oldest !== undefined) this.#hashes.delete(oldest);
    this.#hashes.set(part.root, computing);
    return computing;
  }

  async #readHashes(part: ModelPart): Promise<Uint8Array | null> {
    const hashes = new Uint8Array(HASH_BYTES * chunkCount(part.size));
    try {
      for (let i = 0; i < chunkCount(part.size); i++) {
        hashes.set(sha256(await this.#read(part, i)), HASH_BYTES * i);
      }
    } catch (error) {
      this.#lose(part.file, error);
      return null;
    }
    if (bytesEqual(blobRoot(hashes), fromHex(part.root))) return hashes;
    this.#lose(part.file, null);
    return null;
  }

  async #chunk(part: ModelPart, hashes: Uint8Array, index: number): Promise<Uint8Array> {
    let bytes: Uint8Array;
    try {
      bytes = await this.#read(part, index);
    } catch (error) {
      this.#lose(part.file, error);
      throw error;
    }
    const expected = hashes.subarray(HASH_BYTES * index, HASH_BYTES * (index + 1));
    if (bytesEqual(sha256(bytes), expected)) return bytes;
    this.#lose(part.file, null);
    throw new UserError(`${part.file} has changed`);
  }

  #lose(file: string, error: unknown): void {
    const reason =
      error === null ? 'has changed' : `cannot be read (${errnoOf(error) ?? 'unknown error'})`;
    if (!this.#lost.has(file)) this.#lost.set(file, reason);
  }

  /** Chunk `index`, shorter where the file is. Throws what the system throws. */
  async #read({ file, offset, size }: ModelPart, index: number): Promise<Uint8Array> {
    if (this.#reading >= OPEN_FILES_MAX) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    } else this.#reading += 1;
    try {
      const start = index * BLOB_CHUNK_BYTES;
      const bytes = new Uint8Array(Math.min(BLOB_CHUNK_BYTES, size - start));
      const handle = await open(join(this.#listing.dir, file), 'r');
      try {
        return bytes.subarray(0, await readAt(handle, bytes, offset + start));
      } finally {
        await handle.close();
      }
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#reading -= 1;
      else next();
    }
  }
}
