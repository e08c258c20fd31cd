/**
 * Records one by one, each in a row of its own: what private training reads. A packed row mixes records, so that none of
 * them could be left out of a step, or clipped, without the others. A record of several texts, as a conversation may be,
 * is one record all the same: one of its chunks is drawn.
 */
import type { BatchShape } from '../model/family.js';
import { IGNORED_TARGET } from '../model/token-batch.js';
import { chunksOf, emptyBatch, fillChunk, type Batch } from './packing.js';
import type { TokenStore } from './token-store.js';

/** A batch and the trained targets of each of its records. */
export interface SingleBatch extends Batch {
  rowTargets: number[];
}

export class SingleRows {
  readonly #store: TokenStore;
  readonly #sequenceLength: number;
  readonly #padTokenId: number;
  /** Positions that the longest record takes in a row: 1 to sequenceLength. */
  readonly longest: number;

  constructor(store: TokenStore, init: { sequenceLength: number; padTokenId: number }) {
    this.#store = store;
    this.#sequenceLength = init.sequenceLength;
    this.#padTokenId = init.padTokenId;
    let longest = 1;
    for (let text = 0; text < store.texts; text++) {
      longest = Math.max(longest, store.lengthOf(text) - 1);
    }
    this.longest = Math.min(init.sequenceLength, longest);
  }

  /** Records, one more than the largest index. */
  get count(): number {
    return this.#store.examples;
  }

  /**
   * `records` (by index, at most shape.batchSize) in rows of shape.sequenceLength positions, `longest` or more; rows of
   * padding follow. Of a record of several chunks `choose(chunks)` says which one, from 0.
   */
  batch(
    records: readonly number[],
    shape: BatchShape,
    choose: (chunks: number) => number,
  ): SingleBatch {
    const length = shape.sequenceLength;
    const batch = emptyBatch(shape.batchSize * length, this.#padTokenId);
    const rowTargets = records.map((record, i) => {
      const chunks = chunksOf(this.#store, record, this.#sequenceLength);
      const chunk = chunks[chunks.length > 1 ? choose(chunks.length) : 0];
      // Nothing to train, as when an answer has no token.
      if (chunk === undefined) return 0;
      fillChunk(batch, this.#store, chunk, { at: i * length, segment: 1 });
      const row = batch.targets.subarray(i * length, (i + 1) * length);
      return row.reduce((count, target) => count + (target === IGNORED_TARGET ? 0 : 1), 0);
    });
    return { ...batch, rowTargets };
  }
}
