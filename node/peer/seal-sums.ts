/** The fold's sum before an epoch: made from the own log, kept on disk for others, and read from their bytes. */
import { chunkCount, type BlobSource, type Chunk } from '../../protocol/blob.js';
import { swapLittleEndian } from '../../protocol/bytes.js';
import { isSumOfSteps } from '../../protocol/grid.js';
import { BLOB_CHUNK_BYTES } from '../../protocol/limits.js';
import { SealContents } from '../../protocol/seal-contents.js';
import { hashSumSteps, type SumHashes } from '../../protocol/seal.js';
import type { Store } from '../interfaces.js';
import { inPieces } from './pieces.js';
import type { Replica } from './replica.js';

/** Sums kept on disk for others: the newest, the one before for who is fetching it, and one that is being adopted. */
const SUMS_MAX = 3;

export interface SumBefore {
  /** [adapterSize] float64. */
  sum: Float64Array;
  hashes: SumHashes;
  /** What it is the sum of. */
  contents: SealContents;
}

/**
 * The sum of all epochs before `epoch`: the whole fold without the epochs from there on, which are few. It is that of
 * one moment of the log. `previous`: what the seal counts that the log goes on from.
 */
export async function sumBefore(
  replica: Replica,
  previous: SealContents | null,
  epoch: number,
  signal: AbortSignal,
): Promise<SumBefore> {
  const { sum, contents } = await replica.withLaterFold(epoch, signal, (all, later) => {
    for (let j = 0; j < later.length; j++) later[j] = (all[j] ?? 0) - (later[j] ?? 0);
    return { sum: later, contents: SealContents.of(replica.log, previous, epoch) };
  });
  return { sum, contents, hashes: await hashSum(sum, signal) };
}

/** Root and chunk hashes of a sum as a blob. Rejects when `signal` aborts. */
export function hashSum(sum: Float64Array, signal: AbortSignal): Promise<SumHashes> {
  return inPieces(hashSumSteps(sum), signal);
}

/** The values of the sum before `epoch` that came as bytes; null where one is none that a fold can have. */
export function sumOf(bytes: Uint8Array<ArrayBuffer>, epoch: number): Float64Array | null {
  const values = new Float64Array(bytes.buffer, bytes.byteOffset, bytes.length / 8);
  swapLittleEndian(bytes, Float64Array.BYTES_PER_ELEMENT);
  return isSumOfSteps(values, epoch) ? values : null;
}

interface ShelvedSum extends SumHashes {
  epoch: number;
  bytes: number;
}

/** The sums that lie on disk, as blobs. */
export class SumShelf {
  readonly #store: Store;
  #sums: ShelvedSum[] = [];

  constructor(store: Store) {
    this.#store = store;
  }

  /** `sum` lies on disk under `epoch`. */
  note(epoch: number, sum: Float64Array, hashes: SumHashes): void {
    const others = this.#sums.filter((one) => one.epoch !== epoch);
    this.#sums = [...others, { epoch, ...hashes, bytes: sum.byteLength }].slice(-SUMS_MAX);
  }

  has(root: string): boolean {
    return this.#sums.some((one) => one.root === root);
  }

  /** Forgets those that the store has dropped when a seal of `epoch` was saved. */
  keep(epoch: number): void {
    const before = this.#sums.filter((one) => one.epoch < epoch).at(-1);
    this.#sums = this.#sums.filter((one) => one.epoch >= epoch || one === before);
  }

  source(root: string): BlobSource<Chunk> | undefined {
    const sum = this.#sums.find((one) => one.root === root);
    if (sum === undefined) return undefined;
    const { epoch, bytes, hashes } = sum;
    return {
      hashes,
      chunkCount: chunkCount(bytes),
      has: () => true,
      chunk: (i) => {
        const start = i * BLOB_CHUNK_BYTES;
        return this.#store.readSum(epoch, start, Math.min(bytes, start + BLOB_CHUNK_BYTES));
      },
      onMore: () => () => undefined,
    };
  }
}
