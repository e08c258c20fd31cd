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

/** Tokens that one data set may hold: 64 Mi tokens are 320 MiB in memory. */
export const TOKENS_MAX = 1 << 26;

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

/** Growing store of tokenised examples: flat arrays, because a million small ones cost far more. */
export class TokenStore {
  #tokens = new Int32Array(1 << 12);
  #trained = new Uint8Array(1 << 12);
  readonly #starts: number[] = [0];

  /** Examples held. */
  get examples(): number {
    return this.#starts.length - 1;
  }

  /** Tokens held, over all examples. */
  get size(): number {
    return this.#starts.at(-1) ?? 0;
  }

  /** `trained[i]` is 1 where tokens[i] is a target that counts. False, and nothing added, beyond TOKENS_MAX. */
  append(tokens: readonly number[], trained: readonly (0 | 1)[]): boolean {
    const end = this.size + tokens.length;
    if (end > TOKENS_MAX) return false;
    if (end > this.#tokens.length) this.#grow(end);
    this.#tokens.set(tokens, this.size);
    this.#trained.set(trained, this.size);
    this.#starts.push(end);
    return true;
  }

  /** Views of example `index`, [n] each. */
  example(index: number): { tokens: Int32Array; trained: Uint8Array } {
    const start = this.#starts[index] ?? 0;
    const end = this.#starts[index + 1] ?? start;
    return {
      tokens: this.#tokens.subarray(start, end),
      trained: this.#trained.subarray(start, end),
    };
  }

  #grow(least: number): void {
    const capacity = Math.max(least, 2 * this.#tokens.length);
    const tokens = new Int32Array(capacity);
    const trained = new Uint8Array(capacity);
    tokens.set(this.#tokens);
    trained.set(this.#trained);
    this.#tokens = tokens;
    this.#trained = trained;
  }
}

/** Pairs [from, from + length) of an example, in one row. */
export interface Chunk {
  example: number;
  from: number;
  length: number;
  /** Pairs that are trained, at least 1. */
  targets: number;
}

/** How the examples of one store lie in rows. */
export interface Packing {
  rows: readonly (readonly Chunk[])[];
  /** Examples of more than T pairs, which were cut. */
  cutExamples: number;
  /** Tokens of prompts that lie in no row, because they were too far before the answer. */
  droppedTokens: number;
  /** Targets that are not ignored, over all rows. */
  trainedTokens: number;
}

/** Example `example` in chunks of at most `sequenceLength` pairs in which something is trained, from its end. */
export function chunksOf(store: TokenStore, example: number, sequenceLength: number): Chunk[] {
  const { trained } = store.example(example);
  const chunks: Chunk[] = [];
  for (let end = trained.length - 1; end > 0; end -= sequenceLength) {
    const from = Math.max(0, end - sequenceLength);
    const targets = trained.subarray(from + 1, end + 1).reduce((sum, flag) => sum + flag, 0);
    if (targets > 0) chunks.push({ example, from, length: end - from, targets });
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
  { example, from, length, targets }: Chunk,
  { at, segment }: { at: number; segment: number },
): void {
  const { tokens, trained } = store.example(example);
  batch.tokens.set(tokens.subarray(from, from + length), at);
  batch.segments.fill(segment, at, at + length);
  for (let i = 0; i < length; i++) {
    if (trained[from + i + 1] === 1) batch.targets[at + i] = tokens[from + i + 1] ?? IGNORED_TARGET;
  }
  batch.trainedTokens += targets;
  batch.inputTokens += length;
}

/** Packs every example of `store` into rows of `sequenceLength` (T) positions. Deterministic in `seed`. */
export function packRows(store: TokenStore, sequenceLength: number, seed: Uint8Array): Packing {
  const chunks: Chunk[] = [];
  let [cutExamples, droppedTokens, trainedTokens] = [0, 0, 0];
  for (let example = 0; example < store.examples; example++) {
    const pairs = store.example(example).tokens.length - 1;
    if (pairs > sequenceLength) cutExamples++;
    const own = chunksOf(store, example, sequenceLength);
    droppedTokens += own.reduce((left, { length }) => left - length, pairs);
    trainedTokens += own.reduce((sum, { targets }) => sum + targets, 0);
    chunks.push(...own);
  }
  // The sort is stable: chunks of one length stay in this order, so that neighbours in the file spread.
  const order = new Prng(seed, 'packing').permutation(chunks.length);
  const shuffled = Array.from(order, (i) => chunks[i]).filter((chunk) => chunk !== undefined);
  shuffled.sort((a, b) => b.length - a.length);
  return { rows: bestFit(shuffled, sequenceLength), cutExamples, droppedTokens, trainedTokens };
}

/** Each chunk goes into the fullest row that still has room for it. */
function bestFit(chunks: readonly Chunk[], sequenceLength: number): Chunk[][] {
  const rows: Chunk[][] = [];
  /** Rows by the positions that they have left. */
  const byRoom: number[][] = Array.from({ length: sequenceLength + 1 }, () => []);
  for (const chunk of chunks) {
    let room = chunk.length;
    while (room < sequenceLength && byRoom[room]?.length === 0) room++;
    // A row with all its room left is a new one: room = sequenceLength has no rows of its own.
    let row = byRoom[room]?.pop();
    if (row === undefined) row = rows.push([]) - 1;
    rows[row]?.push(chunk);
    byRoom[room - chunk.length]?.push(row);
  }
  return rows;
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
    for (const chunk of this.#rows[row] ?? []) {
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
