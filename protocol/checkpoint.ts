/**
 * Checkpoints: the fold of all epochs before a multiple of a fixed spacing, in place of their updates. Equal
 * sets give equal checkpoints, whatever the order in which they came (docs/PROTOCOL.md, "Checkpoints").
 */
import { createHash } from 'node:crypto';
import { adapterLayout } from './adapter.js';
import { fromHex, littleEndian, sha256, toHex } from './bytes.js';
import { EpochFold } from './epoch-fold.js';
import { CHECKPOINT_ANCESTORS_MAX, SYNC_CHUNK_BYTES } from './limits.js';
import type { UpdateLog } from './log.js';
import type { FoldRule, Run } from './manifest.js';

/** A horizon is cut so often: the log holds at most a horizon and this share of it. */
const CUTS_PER_HORIZON = 4;

/** What peers say of a checkpoint, and agree on. */
export interface CheckpointStatement {
  /** The log goes on from here: updates of earlier epochs are in the checkpoint. */
  epoch: number;
  /** Chain over the ids of all updates that were folded: 64 hex digits. */
  digest: string;
  /** Updates that were folded. */
  contributions: number;
  /** SHA-256 over `pieceHashes`: 64 hex digits. */
  thetaSha256: string;
  /** Digests of the checkpoints before it, newest first, CHECKPOINT_ANCESTORS_MAX at most. */
  ancestors: readonly string[];
}

export interface Checkpoint extends CheckpointStatement {
  /** The sum of all epochs before `epoch` (fold.ts): [adapterSize] whole steps, not written to. */
  theta: Float64Array;
  /** SHA-256 of each SYNC_CHUNK_BYTES of theta as little-endian float64, one after the other. */
  pieceHashes: Uint8Array;
}

/** Epochs between two checkpoints. */
export function checkpointSpacing({ horizonEpochs }: FoldRule): number {
  return Math.ceil(horizonEpochs / CUTS_PER_HORIZON);
}

/**
 * The epoch of the checkpoint that a peer should have when its clock says `epoch`; 0 before the first. After
 * the last epoch the horizon stands still, so that who comes late finds the end of the log.
 */
export function checkpointEpochAt(fold: FoldRule, epoch: number, epochsMax: number): number {
  if (fold.horizonEpochs === 0) return 0;
  const spacing = checkpointSpacing(fold);
  const last = Math.min(epoch, epochsMax) - fold.horizonEpochs;
  return Math.max(0, Math.floor(last / spacing) * spacing);
}

/** Whether both say the same of what was folded. */
export function isSameCheckpoint(a: CheckpointStatement, b: CheckpointStatement): boolean {
  return checkpointName(a) === checkpointName(b);
}

/** Names a checkpoint: equal exactly when two are the same. */
export function checkpointName(statement: CheckpointStatement): string {
  const { epoch, digest, contributions, thetaSha256 } = statement;
  return `${epoch}/${digest}/${contributions}/${thetaSha256}`;
}

/** Before epoch 0: nothing folded. */
export function initialCheckpoint(run: Run): Checkpoint {
  const theta = new Float64Array(adapterLayout(run.manifest.adapter).size);
  return { epoch: 0, digest: run.id, contributions: 0, ancestors: [], ...describeTheta(theta) };
}

/** theta with its hashes. */
export function describeTheta(
  theta: Float64Array,
): Pick<Checkpoint, 'theta' | 'pieceHashes' | 'thetaSha256'> {
  const pieceHashes = new Uint8Array(32 * pieceCount(theta.length));
  for (let i = 0; 32 * i < pieceHashes.length; i++) {
    pieceHashes.set(sha256(pieceOf(theta, i)), 32 * i);
  }
  return { theta, pieceHashes, thetaSha256: toHex(sha256(pieceHashes)) };
}

/** Pieces of a theta of `size` coordinates. */
export function pieceCount(size: number): number {
  return Math.ceil((size * Float64Array.BYTES_PER_ELEMENT) / SYNC_CHUNK_BYTES);
}

/** Piece `index` of theta as bytes; on most machines a view. */
export function pieceOf(theta: Float64Array, index: number): Uint8Array {
  const length = SYNC_CHUNK_BYTES / Float64Array.BYTES_PER_ELEMENT;
  return littleEndian(theta.subarray(index * length, (index + 1) * length));
}

/**
 * The checkpoint after `from`, made of the updates that `log` holds now, in pieces that give their number of
 * coordinates. What comes later for these epochs is not in it.
 */
export function* nextCheckpoint(
  run: Run,
  from: Checkpoint,
  log: UpdateLog,
  rows = new EpochFold(run),
): Generator<number, Checkpoint> {
  const epoch = from.epoch + checkpointSpacing(run.manifest.fold);
  const epochs = Array.from({ length: epoch - from.epoch }, (_, i) => {
    return { epoch: from.epoch + i, updates: log.inEpoch(from.epoch + i) };
  });
  const theta = from.theta.slice();
  const digest = createHash('sha256').update(fromHex(from.digest)).update(uint32(epoch));
  let { contributions } = from;
  for (const { epoch: folded, updates } of epochs) {
    yield* rows.add(theta, 1, folded, updates, log);
    for (const { id } of updates) digest.update(fromHex(id));
    contributions += updates.length;
  }
  const isUnchanged = contributions === from.contributions;
  const ancestors = [from.digest, ...from.ancestors].slice(0, CHECKPOINT_ANCESTORS_MAX);
  const described = isUnchanged ? from : describeTheta(theta);
  const { pieceHashes, thetaSha256 } = described;
  return {
    epoch,
    digest: digest.digest('hex'),
    contributions,
    ancestors,
    theta: described.theta,
    pieceHashes,
    thetaSha256,
  };
}

function uint32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}
