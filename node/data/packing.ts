/**
 * Packs tokenised examples into rows of T positions: best-fit decreasing bin packing, so that little of
 * a batch is padding, with segment numbers that keep the examples of one row apart.
 *
 * An example of n tokens is n - 1 pairs (token, next token): the last token is only ever a target. An
 * example of more than T pairs is cut into chunks of T, counted from its end, so that an answer keeps as
 * much of its prompt as fits; chunks in which nothing is trained are dropped.
 */
import { IGNORED_TARGET, type TokenBatch } from '../model/token-batch.js';
import { Prng } from '../../protocol/prng.js';
import { growTo, type TokenStore } from './token-store.js';

/**
 * One batch of B rows of T positions, row after row. Tokens are the pad id where segments is 0; segments
 * are 1, 2, 3... for the examples of a row.
 */
export interface Batch extends TokenBatch {
  /** Targets that are not ignored, over the whole batch. */
  trainedTokens: number;
  /** Positions that are not padding, over the whole batch. */
  inputTokens: number;
}

/** Pairs [from, from + length) of a text of the store, in one row. */
export interface Chunk {
  text: number;
  from: number;
  length: number;
}

/** How the examples of one store lie in rows. */
export interface Packing {
  rows: ChunkRows;
  /** Examples of more than T pairs, which were cut. */
  cutExamples: number;
  /** Tokens of prompts that lie in no row, because they were too far before the answer. */
  droppedTokens: number;
  /** Targets that are not ignored, over all rows. */
  trainedTokens: number;
}

/**
 * Example `example` in chunks of at most `sequenceLength` pairs in which something is trained, each of its texts from
 * its end.
 */
export function chunksOf(store: TokenStore, example: number, sequenceLength: number): Chunk[] {
  const chunks: Chunk[] = [];
  const [first, last] = store.textsOf(example);
  for (let text = first; text < last; text++) {
    for (let end = store.lengthOf(text) - 1; end > 0; end -= sequenceLength) {
      const from = Math.max(0, end - sequenceLength);
      if (store.trainedIn(text, from + 1, end + 1) > 0) {
        chunks.push({ text, from, length: end - from });
      }
    }
  }
  return chunks;
}

/** A batch of `size` positions of padding. */
export function emptyBatch(size: number, padTokenId: number): Batch {
  return {
    tokens: new Int32Array(size).fill(padTokenId),
    targets: new Int32Array(size).fill(IGNORED_TARGET),
    segments: new Int32Array(size),
    trainedTokens: 0,
    inputTokens: 0,
  };
}

/** Writes `chunk` into `batch`, from position `at` on. */
export function fillChunk(
  batch: Batch,
  store: TokenStore,
  { text, from, length }: Chunk,
  { at, segment }: { at: number; segment: number },
): void {
  batch.segments.fill(segment, at, at + length);
  for (let i = 0; i < length; i++) {
    batch.tokens[at + i] = store.token(text, from + i);
    if (!store.isTrained(text, from + i + 1)) continue;
    batch.targets[at + i] = store.token(text, from + i + 1);
    batch.trainedTokens++;
  }
  batch.inputTokens += length;
}

/** Packs every example of `store` into rows of `sequenceLength` (T) positions. Deterministic in `seed`. */
export function packRows(store: TokenStore, sequenceLength: number, seed: Uint8Array): Packing {
  const chunks = new ChunkList();
  let [cutExamples, droppedTokens, trainedTokens] = [0, 0, 0];
  for (let example = 0; example < store.examples; example++) {
    const [first, last] = store.textsOf(example);
    let isCut = false;
    for (let text = first; text < last; text++) {
      const pairs = store.lengthOf(text) - 1;
      isCut ||= pairs > sequenceLength;
      droppedTokens += pairs;
    }
    if (isCut) cutExamples++;
    for (const chunk of chunksOf(store, example, sequenceLength)) {
      droppedTokens -= chunk.length;
      trainedTokens += store.trainedIn(chunk.text, chunk.from + 1, chunk.from + chunk.length + 1);
      chunks.push(chunk);
    }
  }
  // Chunks of one length stay in this order, so that neighbours in the file spread.
  const shuffled = new Prng(seed, 'packing').permutation(chunks.count);
  const rows = bestFit(chunks, byLength(chunks, shuffled, sequenceLength), sequenceLength);
  return { rows, cutExamples, droppedTokens, trainedTokens };
}

/** Chunks in flat arrays, 12 bytes each: a million small objects would take ten times as much. */
class ChunkList {
  count = 0;
  #texts = new Uint32Array(1 << 10);
  #froms = new Uint32Array(1 << 10);
  #lengths = new Uint32Array(1 << 10);

  push({ text, from, length }: Chunk): void {
    this.#texts = growTo(this.#texts, this.count + 1);
    this.#froms = growTo(this.#froms, this.count + 1);
    this.#lengths = growTo(this.#lengths, this.count + 1);
    this.#texts[this.count] = text;
    this.#froms[this.count] = from;
    this.#lengths[this.count] = length;
    this.count++;
  }

  length(index: number): number {
    return this.#lengths[index] ?? 0;
  }

  get(index: number): Chunk {
    const text = this.#texts[index] ?? 0;
    return { text, from: this.#froms[index] ?? 0, length: this.length(index) };
  }
}

/** `order` sorted by length, the longest first; equal ones stay as they are (counting sort). */
function byLength(chunks: ChunkList, order: Uint32Array, sequenceLength: number): Uint32Array {
  /** Where the chunks of each length begin. */
  const starts = new Uint32Array(sequenceLength + 1);
  for (const index of order) {
    const shorter = chunks.length(index) - 1;
    if (shorter >= 0) starts[shorter] = (starts[shorter] ?? 0) + 1;
  }
  for (let length = sequenceLength - 1; length >= 0; length--) {
    starts[length] = (starts[length] ?? 0) + (starts[length + 1] ?? 0);
  }
  const sorted = new Uint32Array(order.length);
  for (const index of order) {
    const length = chunks.length(index);
    const at = starts[length] ?? 0;
    sorted[at] = index;
    starts[length] = at + 1;
  }
  return sorted;
}

/** Each chunk goes into the fullest row that still has room for it. */
function bestFit(chunks: ChunkList, sorted: Uint32Array, sequenceLength: number): ChunkRows {
  const none = 0xffff_ffff;
  /** Rows by the positions that they have left: the last one put there, and to each the one before it. */
  const last = new Uint32Array(sequenceLength + 1).fill(none);
  const before = new Uint32Array(sorted.length);
  const rowOf = new Uint32Array(sorted.length);
  let rows = 0;
  for (const [i, index] of sorted.entries()) {
    const length = chunks.length(index);
    let room = length;
    while (room < sequenceLength && last[room] === none) room++;
    // A row with all its room left is a new one: room = sequenceLength has no rows of its own.
    let row = last[room] ?? none;
    if (row === none) row = rows++;
    else last[room] = before[row] ?? none;
    rowOf[i] = row;
    before[row] = last[room - length] ?? none;
    last[room - length] = row;
  }
  return new ChunkRows(chunks, sorted, rowOf, rows);
}

/** The chunks of each row: 8 bytes a chunk, 4 a row. */
export class ChunkRows {
  readonly #chunks: ChunkList;
  /** Row r has the chunks #order[#starts[r]] to #order[#starts[r + 1] - 1]. */
  readonly #order: Uint32Array;
  readonly #starts: Uint32Array;

  /** `sorted`: chunks by index, of which the i-th lies in row `rowOf[i]`, from 0 to `length` - 1. */
  constructor(
    chunks: ChunkList,
    sorted: Uint32Array,
    rowOf: Uint32Array,
    readonly length: number,
  ) {
    this.#chunks = chunks;
    this.#starts = new Uint32Array(length + 1);
    for (const row of rowOf) this.#starts[row + 1] = (this.#starts[row + 1] ?? 0) + 1;
    for (let row = 0; row < length; row++) {
      this.#starts[row + 1] = (this.#starts[row + 1] ?? 0) + (this.#starts[row] ?? 0);
    }
    this.#order = new Uint32Array(sorted.length);
    const next = this.#starts.slice();
    for (const [i, index] of sorted.entries()) {
      const row = rowOf[i] ?? 0;
      const at = next[row] ?? 0;
      this.#order[at] = index;
      next[row] = at + 1;
    }
  }

  /** The chunks of a row, in the order in which they lie there. */
  *row(row: number): Generator<Chunk, void, undefined> {
    const end = this.#starts[row + 1] ?? 0;
    for (let at = this.#starts[row] ?? 0; at < end; at++) {
      yield this.#chunks.get(this.#order[at] ?? 0);
    }
  }
}

/** The rows of a packing in some order, as batches. */
export class PackedRows {
  readonly #store: TokenStore;
  readonly #rows: Packing['rows'];
  readonly #sequenceLength: number;
  readonly #padTokenId: number;
  readonly #seed: Uint8Array;
  /** The last permutations drawn, by pass: a batch may lie across two passes. */
  readonly #orders = new Map<number, Uint32Array>();

  constructor(
    store: TokenStore,
    packing: Packing,
    init: { sequenceLength: number; padTokenId: number; seed: Uint8Array },
  ) {
    this.#store = store;
    this.#rows = packing.rows;
    this.#sequenceLength = init.sequenceLength;
    this.#padTokenId = init.padTokenId;
    this.#seed = init.seed;
  }

  /** Rows in one pass, at least 1. */
  get rows(): number {
    return this.#rows.length;
  }

  /**
   * Batch number `step` (from 0) of an endless sequence in which every row comes once a pass, in an
   * order that is new for each pass. A pure function of the data, the seed, `step` and `batchSize`.
   */
  batch(step: number, batchSize: number): Batch {
    const batch = this.#empty(batchSize);
    for (let i = 0; i < batchSize; i++) {
      const position = step * batchSize + i;
      const pass = Math.floor(position / this.rows);
      this.#fill(batch, i, this.#order(pass)[position % this.rows] ?? 0);
    }
    return batch;
  }

  /**
   * One pass in a fixed order, until `inputTokensMax` positions were given out (at least one batch).
   * The last batch is filled up with rows of padding.
   */
  *batches(batchSize: number, inputTokensMax: number): Generator<Batch, void, undefined> {
    const order = this.#order(0);
    let given = 0;
    for (let first = 0; first < order.length && given < inputTokensMax; first += batchSize) {
      const batch = this.#empty(batchSize);
      const last = Math.min(first + batchSize, order.length);
      for (let i = first; i < last; i++) this.#fill(batch, i - first, order[i] ?? 0);
      given += batch.inputTokens;
      yield batch;
    }
  }

  #empty(batchSize: number): Batch {
    return emptyBatch(batchSize * this.#sequenceLength, this.#padTokenId);
  }

  /** Writes row `row` into place `index` of the batch. */
  #fill(batch: Batch, index: number, row: number): void {
    let at = index * this.#sequenceLength;
    let segment = 1;
    for (const chunk of this.#rows.row(row)) {
      fillChunk(batch, this.#store, chunk, { at, segment });
      at += chunk.length;
      segment++;
    }
  }

  #order(pass: number): Uint32Array {
    const known = this.#orders.get(pass);
    if (known !== undefined) return known;
    const order = new Prng(this.#seed, `rows/${pass}`).permutation(this.rows);
    this.#orders.set(pass, order);
    if (this.#orders.size > 2) {
      const oldest = this.#orders.keys().next().value;
      if (oldest !== undefined) this.#orders.delete(oldest);
    }
    return order;
  }
}
