/** From the history and the newest status to curves over epochs. */
import type { HistoryRow } from '../../history.js';
import type { StatusReport } from '../../status.js';

type Values = (number | null)[];

export interface Curves {
  /** Rising. */
  epochs: number[];
  /** One value an epoch, null where there is none; losses in nats a token. */
  base: Values;
  training: Values;
  swarm: Values;
  /** Of the swarm's adapter after this peer's own steps of that epoch. */
  personal: Values;
  tokensPerSecond: Values;
}

/** Runs of so many epochs are drawn on an axis of their whole length. */
const WHOLE_RUN_EPOCHS = 60;

/** The status knows the newest held-out losses, the history what was before it. */
export function curvesOf(history: readonly HistoryRow[], report: StatusReport): Curves {
  const rows = new Map(history.map((row) => [row.epoch, row]));
  const { personal, personalEpoch } = report.heldOutLoss;
  const measured = new Map(report.heldOutLoss.history.map(({ epoch, loss }) => [epoch, loss]));
  const epochs = [...new Set([...rows.keys(), ...measured.keys()])].sort((a, b) => a - b);
  return {
    epochs,
    base: epochs.map(() => report.heldOutLoss.base),
    training: epochs.map((epoch) => rows.get(epoch)?.trainingLoss ?? null),
    swarm: epochs.map((epoch) => measured.get(epoch) ?? rows.get(epoch)?.heldOutLoss ?? null),
    personal: epochs.map((epoch) =>
      epoch === personalEpoch ? personal : (rows.get(epoch)?.heldOutPersonal ?? null),
    ),
    tokensPerSecond: epochs.map((epoch) => rows.get(epoch)?.tokensPerSecond ?? null),
  };
}

/** The last epoch on the axis: the run's where it is short, so that nothing moves; else a bit beyond the newest. */
export function lastEpochShown(curves: Curves, epochsMax: number): number {
  if (epochsMax <= WHOLE_RUN_EPOCHS) return Math.max(1, epochsMax - 1);
  const newest = curves.epochs.at(-1) ?? 0;
  // In steps, so that the axis stands still most of the time.
  const step = 10 ** Math.max(1, Math.floor(Math.log10(Math.max(1, newest))));
  return Math.min(epochsMax - 1, (Math.floor(newest / step) + 1) * step);
}

/** The last value that is there, or null. */
export function lastOf(values: Values): number | null {
  return values.findLast((value) => value !== null) ?? null;
}
