/**
 * What became of each epoch, one row an epoch: the curves of the web page, and the lines of metrics.jsonl. Made
 * by looking at the status often enough that no epoch passes unseen.
 */
import { z } from 'zod';
import type { StatusReport } from './status.js';

const count = z.number().int().nonnegative();
const measured = z.number().nullable();

export const historyRowSchema = z.object({
  time: z.string().describe('end of the epoch at this peer, ISO 8601'),
  epoch: count,
  trainingLoss: measured.describe('mean over the steps of this epoch, nats a token; null without'),
  heldOutLoss: measured.describe("of the swarm's adapter after this epoch, nats a token"),
  heldOutBase: measured.describe('of the untouched base model, nats a token'),
  heldOutPersonal: measured
    // Not in the rows of earlier versions.
    .default(null)
    .describe("of the swarm's adapter after this peer's own steps of this epoch, nats a token"),
  steps: count.describe('optimiser steps of this peer in this epoch'),
  tokensPerSecond: measured,
  updates: count.describe('folded into the adapter, over the life of the run'),
  members: count.describe('others connected at the end'),
  bytesIn: count.describe('on the wire in this epoch'),
  bytesOut: count,
  rejected: count.describe('updates and messages that were not used in this epoch'),
  epsilon: measured.describe('privacy spent so far; null without noise'),
});

/** One epoch of this peer. */
export type HistoryRow = z.infer<typeof historyRowSchema>;

/** Rows in memory: with more, every other one is left out, so that the curve stays whole and its size bounded. */
export const HISTORY_ROWS_MAX = 2048;

/** Counters at the start of an epoch. */
interface Counters {
  steps: number;
  bytesIn: number;
  bytesOut: number;
  rejected: number;
}

export class EpochHistory {
  #rows: HistoryRow[];
  /** The epoch that goes on, and its row as of the last look; null before epoch 0. */
  #open: { start: Counters; row: HistoryRow } | null = null;
  #last: Counters | null = null;
  readonly #onRow: (row: HistoryRow) => void;

  /** `rows` of earlier processes, oldest first; of several for one epoch the last counts. */
  constructor(rows: Iterable<HistoryRow>, onRow: (row: HistoryRow) => void) {
    const byEpoch = new Map([...rows].map((row) => [row.epoch, row]));
    this.#rows = [...byEpoch.values()].sort((a, b) => a.epoch - b.epoch);
    this.#onRow = onRow;
    this.#thin();
  }

  /** Of epochs that are over, oldest first; another array whenever something changed. */
  get rows(): readonly HistoryRow[] {
    return this.#rows;
  }

  /** Takes note of `report`, which is of now. */
  observe(report: StatusReport, now: Date): void {
    const counters = countersOf(report);
    const { epoch, epochsMax, state } = report.run;
    if (this.#open !== null && this.#open.row.epoch !== epoch) this.finish();
    if (epoch >= 0 && epoch < epochsMax) {
      // What came before the first look belongs to the first epoch, but for the steps of earlier processes.
      const start = this.#last ?? { steps: counters.steps, bytesIn: 0, bytesOut: 0, rejected: 0 };
      this.#open ??= { start, row: rowOf(report, start, counters, now) };
      this.#open.row = rowOf(report, this.#open.start, counters, now);
    }
    this.#last = counters;
    this.#amendLast(report, state === 'finished');
  }

  /** Ends the epoch that goes on; one in which nothing was trained leaves a row of an earlier process alone. */
  finish(): void {
    const row = this.#open?.row;
    this.#open = null;
    if (row === undefined) return;
    const isKnown = this.#rows.some(({ epoch }) => epoch === row.epoch);
    if (!isKnown || row.steps > 0) this.#add(row);
  }

  /** What was measured of the last row's epoch after that epoch; the swarm's adapter when the run is over. */
  #amendLast({ heldOutLoss }: StatusReport, isOver: boolean): void {
    const last = this.#rows.at(-1);
    if (last === undefined) return;
    const swarm = isOver ? swarmLossAt(last.epoch, heldOutLoss) : null;
    const personal = personalLossAt(last.epoch, heldOutLoss);
    const row = {
      ...last,
      heldOutLoss: swarm ?? last.heldOutLoss,
      heldOutPersonal: personal ?? last.heldOutPersonal,
    };
    const isNews =
      row.heldOutLoss !== last.heldOutLoss || row.heldOutPersonal !== last.heldOutPersonal;
    if (isNews) this.#add(row);
  }

  #add(row: HistoryRow): void {
    this.#rows = this.#rows.filter(({ epoch }) => epoch !== row.epoch);
    this.#rows.push(row);
    this.#rows.sort((a, b) => a.epoch - b.epoch);
    this.#thin();
    this.#onRow(row);
  }

  #thin(): void {
    while (this.#rows.length > HISTORY_ROWS_MAX) {
      const { length } = this.#rows;
      this.#rows = this.#rows.filter((_, i) => i === 0 || i === length - 1 || i % 2 === 0);
    }
  }
}

function countersOf({ training, traffic, peers }: StatusReport): Counters {
  const rejections = peers.flatMap(({ rejected }) => Object.values(rejected));
  return {
    steps: training.step,
    bytesIn: traffic.bytesIn.total,
    bytesOut: traffic.bytesOut.total,
    rejected: rejections.reduce((sum, times) => sum + times, 0),
  };
}

type HeldOutLoss = StatusReport['heldOutLoss'];

function swarmLossAt(epoch: number, { history }: HeldOutLoss): number | null {
  return history.find((point) => point.epoch === epoch)?.loss ?? null;
}

function personalLossAt(epoch: number, { personal, personalEpoch }: HeldOutLoss): number | null {
  return personalEpoch === epoch ? personal : null;
}

function rowOf(report: StatusReport, start: Counters, now: Counters, time: Date): HistoryRow {
  const { run, training, heldOutLoss, adapter, peers, privacy } = report;
  const steps = Math.max(0, now.steps - start.steps);
  return {
    time: time.toISOString(),
    epoch: run.epoch,
    trainingLoss: steps > 0 ? training.loss : null,
    heldOutLoss: swarmLossAt(run.epoch, heldOutLoss),
    heldOutBase: heldOutLoss.base,
    heldOutPersonal: personalLossAt(run.epoch, heldOutLoss),
    steps,
    tokensPerSecond: steps > 0 ? training.tokensPerSecond : null,
    updates: adapter.updates,
    members: peers.filter(({ address }) => address !== null).length,
    bytesIn: Math.max(0, now.bytesIn - start.bytesIn),
    bytesOut: Math.max(0, now.bytesOut - start.bytesOut),
    rejected: Math.max(0, now.rejected - start.rejected),
    epsilon: privacy?.epsilon ?? null,
  };
}
