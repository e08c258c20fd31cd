/** Reads the examples of a data file, whatever its format. */
import { UserError } from '../errors.js';
import { recordOf, USUAL_COLUMNS, type ColumnNames } from './columns.js';
import { readCsv } from './csv.js';
import { readJson, type OnFault } from './json.js';
import { readParquet } from './parquet.js';
import { readPlainText } from './plain-text.js';
import type { DataRecord, Row } from './records.js';
import { formatOf, unknownKind, type DataFormat } from './sources.js';

export interface ReadingOptions {
  /** Default: the usual names. Plain text has no columns. */
  columns?: ColumnNames;
  /**
   * Told of rows that are left out because they cannot be used; without it the first one is thrown. What makes the
   * rest of the file unreadable is thrown in any case.
   */
  onFault?: OnFault;
}

type TableReader = (file: string, columns: ColumnNames, onFault: OnFault) => AsyncIterable<Row>;

const TABLES: Readonly<Record<Exclude<DataFormat, 'text'>, TableReader>> = {
  json: (file, _, onFault) => readJson(file, onFault),
  csv: readCsv,
  parquet: readParquet,
};

/**
 * Yields the examples of one file in order. Throws UserError: unknown kind of file (wrong usage), file without an
 * example, and whatever the format's reader and recordOf refuse, with the file and the line.
 */
export async function* readRecords(
  file: string,
  { columns = USUAL_COLUMNS, onFault }: ReadingOptions = {},
): AsyncGenerator<DataRecord, void, undefined> {
  const format = formatOf(file);
  if (format === null) throw unknownKind(file);
  let empty = true;
  const note: OnFault = (fault) => {
    if (onFault === undefined) throw fault;
    empty = false;
    onFault(fault);
  };
  const records =
    format === 'text'
      ? readPlainText(file)
      : recordsOf(TABLES[format](file, columns, note), file, columns, note);
  for await (const record of records) {
    empty = false;
    yield record;
  }
  if (empty) throw new UserError(`${file}: is empty: give a file with at least one example`);
}

async function* recordsOf(
  rows: AsyncIterable<Row>,
  file: string,
  columns: ColumnNames,
  onFault: OnFault,
): AsyncGenerator<DataRecord, void, undefined> {
  for await (const row of rows) {
    let record: DataRecord;
    try {
      record = recordOf(row, file, columns);
    } catch (fault) {
      if (!(fault instanceof UserError)) throw fault;
      onFault(fault);
      continue;
    }
    yield record;
  }
}
