/** What one sync session fetches of a checkpoint that is to be adopted. */
import type { CheckpointTransfer, CheckpointWish } from '../../protocol/checkpoint-transfer.js';
import { SyncProtocolError } from '../../protocol/errors.js';
import type { Horizon } from './horizon.js';

export class CheckpointParts {
  readonly #horizon: Horizon;
  #wanted: { wish: CheckpointWish; transfer: CheckpointTransfer } | null = null;
  /** Pieces that came. */
  count = 0;

  constructor(horizon: Horizon) {
    this.#horizon = horizon;
  }

  /** What to ask `peerId` for, if it holds what this peer is to adopt. */
  wishFor(peerId: string): CheckpointWish | null {
    this.#wanted = this.#horizon.wishFor(peerId);
    return this.#wanted?.wish ?? null;
  }

  /** @throws SyncProtocolError when they are not what was asked for. */
  addHashes(hashes: Uint8Array): void {
    this.#transfer().addHashes(hashes);
  }

  /** @throws SyncProtocolError when it is not what was asked for. */
  addPiece(index: number, bytes: Uint8Array): void {
    const transfer = this.#transfer();
    transfer.addPiece(index, bytes);
    this.count += 1;
    this.#horizon.adopt(transfer);
  }

  /** The session is over: what did not come may be fetched from others. */
  release(): void {
    if (this.#wanted) this.#wanted.transfer.release(this.#wanted.wish);
    this.#wanted = null;
  }

  #transfer(): CheckpointTransfer {
    if (!this.#wanted) throw new SyncProtocolError('a part of a checkpoint that was not asked for');
    return this.#wanted.transfer;
  }
}
