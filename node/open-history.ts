/** The history of a peer with its file: rows of earlier processes come back, new ones are written. */
import { EpochHistory, historyRowSchema, type HistoryRow } from './history.js';
import type { StatusReport } from './status.js';
import type { DataDirectory } from './store/directory.js';
import { MetricsFile } from './store/metrics-file.js';

export interface OpenHistory {
  /** See PeerView. */
  rows(): readonly HistoryRow[];
  observe(report: StatusReport): void;
  /** `report` with a sentence when the file could not be written. */
  withProblem(report: StatusReport): StatusReport;
  /** Ends the epoch that goes on. Resolves when all is written. */
  close(): Promise<void>;
}

/** Throws StoreUnavailableError. */
export async function openHistory(directory: DataDirectory): Promise<OpenHistory> {
  const { file, values } = await MetricsFile.open(directory.pathOf('metrics'));
  const rows = values.flatMap((value) => historyRowSchema.safeParse(value).data ?? []);
  const history = new EpochHistory(rows, (row) => file.append(row));
  return {
    rows: () => history.rows,
    observe: (report) => history.observe(report, new Date()),
    withProblem: (report) =>
      file.problem === null
        ? report
        : { ...report, attention: [...report.attention, `${file.problem}.`] },
    close: async () => {
      history.finish();
      await file.flush();
    },
  };
}
