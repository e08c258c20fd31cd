/**
 * What a peer owes the swarm after a rebase. The fold averages the rows of an epoch, so when each author of
 * the half that gave way sends the whole difference once, the swarm moves towards that half's adapter by the
 * share of its authors: what the fold of both halves together would have done. An author that was there for
 * a part of the time sends that part (docs/PROTOCOL.md, "Rebase").
 */
import type { CheckpointStatement, Checkpoint } from '../../protocol/checkpoint.js';
import { GRID } from '../../protocol/grid.js';
import type { Debt } from '../interfaces.js';

/**
 * The share of the epochs since the last checkpoint that both had, in which this peer made an update, 0 to 1.
 * `own`: its updates in the epochs of each checkpoint, newest first; `spacing`: epochs between two.
 */
export function shareOfWork(
  mine: CheckpointStatement,
  theirs: CheckpointStatement,
  own: readonly number[],
  spacing: number,
): number {
  const shared = mine.ancestors.findIndex((digest, i) => digest === theirs.ancestors[i]);
  const segments = shared === -1 ? Math.max(1, mine.ancestors.length) : shared + 1;
  const updates = own.slice(0, segments).reduce((sum, count) => sum + count, 0);
  return Math.min(1, updates / (segments * spacing));
}

/** `before` and share x (theirs - mine), in the sign of a delta: what training from theirs would subtract. */
export function debtOf(
  before: Debt | null,
  mine: Checkpoint,
  theirs: Checkpoint,
  share: number,
): Debt | null {
  if (share === 0) return before;
  const vector = before?.vector.slice() ?? new Float64Array(mine.theta.length);
  for (let i = 0; i < vector.length; i++) {
    // Sums are subtracted from theta0.
    const difference = ((mine.theta[i] ?? 0) - (theirs.theta[i] ?? 0)) / GRID;
    vector[i] = (vector[i] ?? 0) + share * difference;
  }
  return { name: `${mine.digest} ${theirs.digest}`, vector };
}
