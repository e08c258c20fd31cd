/**
 * Checkpoints on the wire: what is said of one, and the fetching of its theta in pieces, each of which is
 * checked against its hash, so that pieces may come from several peers and in any order.
 */
import { bytesEqual, fromHex, sha256, swapLittleEndian, toHex } from './bytes.js';
import {
  checkpointSpacing,
  pieceCount,
  type Checkpoint,
  type CheckpointStatement,
} from './checkpoint.js';
import { SyncProtocolError } from './errors.js';
import { isSumOfSteps } from './grid.js';
import { AUTHORS_MAX, CHECKPOINT_ANCESTORS_MAX, EPOCHS_MAX, SYNC_CHUNK_BYTES } from './limits.js';
import type { Run } from './manifest.js';
import type * as wire from './wire/messages.js';

/** What to ask a peer for: hashes of the pieces, and pieces in ascending order. */
export interface CheckpointWish {
  thetaSha256: string;
  hashes: boolean;
  pieces: readonly number[];
}

export function statementToWire(statement: CheckpointStatement): wire.Checkpoint {
  return {
    epoch: statement.epoch,
    digest: fromHex(statement.digest),
    contributions: statement.contributions,
    theta: fromHex(statement.thetaSha256),
    ancestors: statement.ancestors.map(fromHex),
  };
}

/** @throws SyncProtocolError for what no peer of this run can hold. */
export function statementFromWire(
  { manifest }: Run,
  message: wire.Checkpoint,
): CheckpointStatement {
  const { epoch, digest, contributions, theta, ancestors } = message;
  const { horizonEpochs } = manifest.fold;
  if (horizonEpochs === 0) throw new SyncProtocolError('a checkpoint in a run that keeps all');
  const spacing = checkpointSpacing(manifest.fold);
  // An amendment that this peer does not know yet may have made the run longer.
  if (epoch % spacing !== 0 || epoch > Math.max(0, EPOCHS_MAX - horizonEpochs)) {
    throw new SyncProtocolError(`a checkpoint of epoch ${epoch}`);
  }
  if (contributions > epoch * AUTHORS_MAX) {
    throw new SyncProtocolError(`${contributions} updates in a checkpoint of epoch ${epoch}`);
  }
  const hashes = [digest, theta, ...ancestors];
  if (hashes.some(({ length }) => length !== 32) || ancestors.length > CHECKPOINT_ANCESTORS_MAX) {
    throw new SyncProtocolError('a checkpoint whose hashes have not 32 bytes, or too many of them');
  }
  return {
    epoch,
    digest: toHex(digest),
    contributions,
    thetaSha256: toHex(theta),
    ancestors: ancestors.map(toHex),
  };
}

/** Collects the theta of one checkpoint. Memory: theta once, from the first piece on. */
export class CheckpointTransfer {
  readonly #size: number;
  readonly #count: number;
  #hashes: Uint8Array | null = null;
  #theta: Float64Array | null = null;
  /** Pieces not here yet, and those of them that some session is to bring. */
  readonly #missing: Set<number>;
  readonly #reserved = new Set<number>();

  /** `size`: coordinates of the adapter. */
  constructor(
    readonly statement: CheckpointStatement,
    size: number,
  ) {
    this.#size = size;
    this.#count = pieceCount(size);
    this.#missing = new Set(Array.from({ length: this.#count }, (_, i) => i));
  }

  /** Pieces that are here, and in all. */
  get progress(): { pieces: number; of: number } {
    return { pieces: this.#count - this.#missing.size, of: this.#count };
  }

  /** Up to `piecesMax` pieces that nobody is asked for; null when there is nothing to ask for. */
  reserve(piecesMax: number): CheckpointWish | null {
    const free = [...this.#missing].filter((index) => !this.#reserved.has(index));
    const pieces = free.slice(0, piecesMax);
    if (pieces.length === 0) return null;
    for (const index of pieces) this.#reserved.add(index);
    const { thetaSha256 } = this.statement;
    return { thetaSha256, hashes: this.#hashes === null, pieces };
  }

  /** Lets others be asked for what did not come. */
  release({ pieces }: CheckpointWish): void {
    for (const index of pieces) this.#reserved.delete(index);
  }

  /** @throws SyncProtocolError when they are not the hashes that were stated. */
  addHashes(hashes: Uint8Array): void {
    const isStated = toHex(sha256(hashes)) === this.statement.thetaSha256;
    if (hashes.length !== 32 * this.#count || !isStated) {
      throw new SyncProtocolError('hashes that are not those of the checkpoint');
    }
    this.#hashes = Uint8Array.from(hashes);
  }

  /** @throws SyncProtocolError when the piece is not the one with the stated hash. */
  addPiece(index: number, bytes: Uint8Array): void {
    const hash = this.#hashes?.subarray(32 * index, 32 * (index + 1));
    if (!hash || index >= this.#count || !bytesEqual(sha256(bytes), hash)) {
      throw new SyncProtocolError(`piece ${index} of a checkpoint without its hash`);
    }
    this.#theta ??= new Float64Array(this.#size);
    const target = new Uint8Array(this.#theta.buffer);
    if (index * SYNC_CHUNK_BYTES + bytes.length > target.length) {
      throw new SyncProtocolError('a piece longer than the adapter');
    }
    target.set(bytes, index * SYNC_CHUNK_BYTES);
    this.#missing.delete(index);
  }

  /** The checkpoint when all pieces are here; null before. Not to be used afterwards. */
  complete(): Checkpoint | null {
    if (this.#missing.size > 0 || !this.#hashes || !this.#theta) return null;
    swapLittleEndian(new Uint8Array(this.#theta.buffer), Float64Array.BYTES_PER_ELEMENT);
    if (!isSumOfSteps(this.#theta, this.statement.epoch))
      throw new SyncProtocolError('a checkpoint that is no sum of steps');
    return { ...this.statement, theta: this.#theta, pieceHashes: this.#hashes };
  }
}
