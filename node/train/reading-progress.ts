/** How far reading the data is, told now and then: large data take a long time to tokenise. */
import type { DatasetOptions } from '../data/dataset.js';
import type { DataProgress } from './messages.js';

/** Time between two words, in ms. */
export const READING_MS = 10_000;

/** Counts examples and calls `tell` every READING_MS. `nowMs`: a clock. */
export function tellReading(
  tell: (progress: DataProgress) => void,
  nowMs: () => number = () => performance.now(),
): NonNullable<DatasetOptions['onExample']> {
  const progress = { records: 0, tokens: 0 };
  let toldMs = nowMs();
  return ({ tokens }) => {
    progress.records++;
    progress.tokens += tokens.length;
    if (nowMs() - toldMs < READING_MS) return;
    toldMs = nowMs();
    tell({ ...progress });
  };
}
