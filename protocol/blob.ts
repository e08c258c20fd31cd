/**
 * Blobs: bytes named by a root, the SHA-256 over the concatenated SHA-256 of their chunks, so that each chunk
 * can be checked by itself and come from anyone. Here are the root, the frames of a blob stream and what
 * each end of one may say; no I/O. The size is never taken from the network: whoever fetches knows it.
 */
import { bytesEqual, fromHex, sha256, toHex, viewOf } from './bytes.js';
import { BlobProtocolError, messageOf } from './errors.js';
import { BLOB_BYTES_MAX, BLOB_CHUNK_BYTES } from './limits.js';
import * as wire from './wire/messages.js';

const HASH_BYTES = 32;

/** What to fetch. */
export interface BlobName {
  /** 64 hex digits. */
  root: string;
  /** Bytes: 0 to BLOB_BYTES_MAX. */
  size: number;
}

/** A chunk that is here, or is read first: that rejects where it is gone by then. */
export type Chunk = Uint8Array | Promise<Uint8Array>;

/** Something that can be served, whole or as far as it is here. */
export interface BlobSource<C extends Chunk = Uint8Array> {
  /** Of the whole blob, 32 bytes each; null while they are not known. */
  readonly hashes: Uint8Array | null;
  readonly chunkCount: number;
  has(index: number): boolean;
  /** Only of a chunk that it has. */
  chunk(index: number): C;
  /** Calls `listener` whenever there is more to give; returns how to end that. */
  onMore(listener: () => void): () => void;
}

export function chunkCount(size: number): number {
  return Math.ceil(size / BLOB_CHUNK_BYTES);
}

/** Bytes of chunk `index` of a blob of `size` bytes. */
function chunkBytes(size: number, index: number): number {
  return Math.min(BLOB_CHUNK_BYTES, size - index * BLOB_CHUNK_BYTES);
}

/** Bytes `start` to `end` of the concatenation of `parts`: a view where one part holds them all. */
export function sliceOf(parts: readonly Uint8Array[], start: number, end: number): Uint8Array {
  const pieces: Uint8Array[] = [];
  let offset = 0;
  for (const part of parts) {
    const piece = part.subarray(Math.max(0, start - offset), Math.max(0, end - offset));
    if (piece.length > 0) pieces.push(piece);
    offset += part.length;
  }
  return pieces.length === 1 && pieces[0] ? pieces[0] : Buffer.concat(pieces);
}

/** SHA-256 of each chunk of the concatenation of `parts`: 32 bytes each, nothing for an empty blob. */
export function chunkHashes(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const size = parts.reduce((sum, part) => sum + part.length, 0);
  const hashes = new Uint8Array(HASH_BYTES * chunkCount(size));
  for (let i = 0; i < chunkCount(size); i++) {
    const start = i * BLOB_CHUNK_BYTES;
    hashes.set(sha256(sliceOf(parts, start, start + chunkBytes(size, i))), HASH_BYTES * i);
  }
  return hashes;
}

export function blobRoot(hashes: Uint8Array): Uint8Array<ArrayBuffer> {
  return sha256(hashes);
}

/** A source of the concatenation of `parts`, whose hashes are known already. */
export function wholeBlob(parts: readonly Uint8Array[], hashes: Uint8Array): BlobSource {
  return {
    hashes,
    chunkCount: hashes.length / HASH_BYTES,
    has: () => true,
    chunk: (i) => sliceOf(parts, i * BLOB_CHUNK_BYTES, (i + 1) * BLOB_CHUNK_BYTES),
    onMore: () => () => undefined,
  };
}

/** A blob that comes chunk by chunk. What is in it has been checked. */
export class PartialBlob implements BlobSource {
  readonly root: string;
  readonly size: number;
  readonly chunkCount: number;
  readonly #listeners = new Set<() => void>();
  readonly #has: Uint8Array;
  #hashes: Uint8Array | null = null;
  /** Made with the first chunk, so that a name alone costs nothing. */
  #bytes: Uint8Array<ArrayBuffer> | null = null;
  #held = 0;

  /** @throws RangeError for a size out of bounds: the caller knows what it wants. */
  constructor({ root, size }: BlobName) {
    if (!(size >= 0 && size <= BLOB_BYTES_MAX)) throw new RangeError(`a blob of ${size} bytes`);
    this.root = root;
    this.size = size;
    this.chunkCount = chunkCount(size);
    this.#has = new Uint8Array(this.chunkCount);
    if (size === 0) this.#bytes = new Uint8Array();
  }

  get hashes(): Uint8Array | null {
    return this.#hashes;
  }

  /** Chunks that are here. */
  get held(): number {
    return this.#held;
  }

  /** The whole blob; null until all chunks are here. */
  get bytes(): Uint8Array<ArrayBuffer> | null {
    return this.#held === this.chunkCount ? this.#bytes : null;
  }

  has(index: number): boolean {
    return this.#has[index] === 1;
  }

  chunk(index: number): Uint8Array {
    const start = index * BLOB_CHUNK_BYTES;
    return (this.#bytes ?? new Uint8Array()).subarray(start, start + BLOB_CHUNK_BYTES);
  }

  onMore(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** @throws BlobProtocolError unless these are the hashes that the root names. */
  takeHashes(hashes: Uint8Array): void {
    const isRight =
      hashes.length === HASH_BYTES * this.chunkCount &&
      bytesEqual(blobRoot(hashes), fromHex(this.root));
    if (!isRight) throw new BlobProtocolError('hashes that the root does not name');
    this.#hashes ??= Uint8Array.from(hashes);
  }

  /** @throws BlobProtocolError unless these are the bytes of chunk `index`, whose hash must be known. */
  takeChunk(index: number, bytes: Uint8Array): void {
    const expected = this.#hashes?.subarray(HASH_BYTES * index, HASH_BYTES * (index + 1));
    const isRight =
      expected !== undefined &&
      index < this.chunkCount &&
      bytes.length === chunkBytes(this.size, index) &&
      bytesEqual(sha256(bytes), expected);
    if (!isRight) throw new BlobProtocolError(`a chunk ${index} that its hash does not name`);
    if (this.has(index)) return;
    this.#bytes ??= new Uint8Array(this.size);
    this.#bytes.set(bytes, index * BLOB_CHUNK_BYTES);
    this.#has[index] = 1;
    this.#held += 1;
    for (const listener of [...this.#listeners]) listener();
  }
}

/** What the one who asks hears on one stream. */
export type BlobAnswer =
  | { kind: 'offer' }
  | { kind: 'chunk'; index: number }
  /** The remote has nothing of the blob; the stream is over. */
  | { kind: 'absent' };

/** The asking end of one stream: checks that answers come in turn. */
export class BlobAsker {
  readonly #blob: PartialBlob;
  readonly #open = new Set<number>();
  #held = new Uint8Array();
  #heldCount = -1;

  constructor(blob: PartialBlob) {
    this.#blob = blob;
  }

  /** The frame to open with. */
  hello(runId: string): Uint8Array {
    return wire.BlobFrame.encode({
      open: { runId: fromHex(runId), root: fromHex(this.#blob.root) },
    });
  }

  /** Chunks asked for and not here yet. */
  get asked(): number {
    return this.#open.size;
  }

  /** Whether the remote offers chunk `index` and it was not asked for. */
  canAsk(index: number): boolean {
    const isOffered = (((this.#held[index >> 3] ?? 0) >> (index & 7)) & 1) === 1;
    return isOffered && this.#blob.hashes !== null && !this.#open.has(index);
  }

  /** The frame that asks for one chunk. */
  ask(index: number): Uint8Array {
    this.#open.add(index);
    return wire.BlobFrame.encode({ want: { index } });
  }

  /** Checks one frame and enters what it holds into the blob. @throws BlobProtocolError. */
  receive(frame: Uint8Array): BlobAnswer {
    const { offer, chunk, absent } = decodeBlobFrame(frame);
    if (offer) return this.#onOffer(offer);
    if (absent && this.#heldCount < 0) return { kind: 'absent' };
    if (!chunk) throw new BlobProtocolError('a frame that answers nothing');
    if (!this.#open.delete(chunk.index)) throw new BlobProtocolError('a chunk not asked for');
    this.#blob.takeChunk(chunk.index, chunk.bytes);
    return { kind: 'chunk', index: chunk.index };
  }

  #onOffer({ hashes, held }: wire.BlobOffer): BlobAnswer {
    const { chunkCount } = this.#blob;
    if (8 * held.length >= chunkCount + 8)
      throw new BlobProtocolError('an offer of too many chunks');
    if (hashes.length > 0) this.#blob.takeHashes(hashes);
    let count = 0;
    const end = Math.min(chunkCount, 8 * held.length);
    for (let i = 0; i < end; i++) count += ((held[i >> 3] ?? 0) >> (i & 7)) & 1;
    // Each offer grows, so there are no more than chunks, and one that is empty.
    if (count <= this.#heldCount) throw new BlobProtocolError('an offer of nothing new');
    if (count > 0 && this.#blob.hashes === null) throw new BlobProtocolError('chunks, no hashes');
    this.#heldCount = count;
    this.#held = Uint8Array.from(held);
    return { kind: 'offer' };
  }
}

/** The giving end of one stream: checks that requests come in turn. */
export class BlobGiver<C extends Chunk = Uint8Array> {
  readonly #source: BlobSource<C>;
  readonly #given = new Set<number>();
  #areHashesSent = false;
  #offered = -1;

  constructor(source: BlobSource<C>) {
    this.#source = source;
  }

  /** The next offer; null while there is nothing new to say. The first may be empty: "it is on its way". */
  offer(): Uint8Array | null {
    const { hashes, chunkCount } = this.#source;
    const held = new Uint8Array(Math.ceil(chunkCount / 8));
    let count = 0;
    for (let i = 0; i < chunkCount; i++) {
      if (!this.#source.has(i)) continue;
      count += 1;
      held[i >> 3] = (held[i >> 3] ?? 0) | (1 << (i & 7));
    }
    if (count <= this.#offered) return null;
    this.#offered = count;
    const isFirst = !this.#areHashesSent && hashes !== null;
    if (isFirst) this.#areHashesSent = true;
    return wire.BlobFrame.encode({
      offer: { hashes: isFirst ? Uint8Array.from(hashes) : new Uint8Array(), held },
    });
  }

  /** The chunk that a frame asks for. @throws BlobProtocolError unless it was offered, and is asked for once. */
  receive(frame: Uint8Array): { index: number; bytes: C } {
    const { want } = decodeBlobFrame(frame);
    if (!want) throw new BlobProtocolError('a frame that asks for nothing');
    const { index } = want;
    const isHeld = index < this.#source.chunkCount && this.#source.has(index);
    if (!isHeld) throw new BlobProtocolError('a chunk that was not offered');
    if (this.#given.has(index)) throw new BlobProtocolError('a chunk that was given already');
    this.#given.add(index);
    return { index, bytes: this.#source.chunk(index) };
  }
}

/** What the first frame of a stream asks for. @throws BlobProtocolError unless it opens a blob of this run. */
export function decodeBlobOpen(runId: string, frame: Uint8Array): string {
  const { open } = decodeBlobFrame(frame);
  if (!open) throw new BlobProtocolError('a stream that does not say what it wants');
  if (toHex(open.runId) !== runId) throw new BlobProtocolError('another run');
  if (open.root.length !== HASH_BYTES) {
    throw new BlobProtocolError(`a root of ${open.root.length} bytes`);
  }
  return toHex(open.root);
}

export function encodeBlobChunk(index: number, bytes: Uint8Array): Uint8Array {
  return wire.BlobFrame.encode({ chunk: { index, bytes: viewOf(bytes) } });
}

export function encodeBlobAbsent(): Uint8Array {
  return wire.BlobFrame.encode({ absent: {} });
}

function decodeBlobFrame(bytes: Uint8Array): wire.BlobFrame {
  let frame: wire.BlobFrame;
  try {
    frame = wire.BlobFrame.decode(bytes);
  } catch (cause) {
    throw new BlobProtocolError(`a frame that is not valid: ${messageOf(cause)}`, { cause });
  }
  const kinds = Object.keys(frame).length;
  if (kinds !== 1) throw new BlobProtocolError(`a frame of ${kinds} kinds; exactly one is allowed`);
  return frame;
}
