/** Tables of text: CSV and TSV, by csv-parse. The first row names the columns. */
import { CsvError, parse, type Parser } from 'csv-parse';
import { UserError } from '../errors.js';
import type { ColumnNames } from './columns.js';
import {
  checkHeader,
  dialectOf,
  isHeaderAgain,
  isSeparatorLine,
  splitAtMark,
  type Dialect,
} from './csv-dialect.js';
import type { OnFault } from './json.js';
import { LINE_BYTES_MAX, readLines } from './lines.js';
import { placeText, type Row } from './records.js';
import { readTextBytes } from './text-bytes.js';

/**
 * Yields a row for each line of the table, but for headers (the first, and again where files were joined), `sep=`
 * lines of Excel and blank lines. Throws UserError with the line (of a row over several lines, the first): a quote
 * that is not closed or stands within a field, a row with more or fewer fields than the header, one beyond
 * LINE_BYTES_MAX, a header that cannot be used, and what readTextBytes throws.
 */
export async function* readCsv(
  file: string,
  columns: ColumnNames,
  onFault: OnFault,
): AsyncGenerator<Row, void, undefined> {
  const chunks = readTextBytes(file);
  try {
    const head = await headOf(chunks);
    if (head === null) return;
    const dialect = dialectOf(head.toString('utf8'), file, columns);
    const table = new Table(dialect, file, onFault);
    yield* table.rowsOf(await table.write(head.subarray(dialect.skippedBytes)));
    for await (const chunk of chunks) yield* table.rowsOf(await table.write(chunk));
    yield* table.rowsOf(await table.end());
  } finally {
    await chunks.return();
  }
}

/** The file as far as its first line that is not blank, and more; null where there is none. */
async function headOf(chunks: AsyncGenerator<Buffer, void, undefined>): Promise<Buffer | null> {
  let head: Buffer = Buffer.alloc(0);
  // Bounded: csv-parse refuses a longer row in any case.
  while (!/\S[^\n]*\n/.test(head.toString('latin1')) && head.length <= LINE_BYTES_MAX) {
    const next = await chunks.next();
    if (next.done === true) break;
    head = Buffer.concat([head, next.value]);
  }
  return head.length === 0 ? null : head;
}

interface CsvRecord {
  fields: string[];
  line: number;
}

/** csv-parse, written to by hand: as a stream it would drop rows that it has read when it meets a fault. */
class Table {
  #header: string[] | null = null;
  /** Where the next row begins. */
  #line: number;
  #records: CsvRecord[] = [];
  readonly #parser: Parser;

  constructor(
    readonly dialect: Dialect,
    readonly file: string,
    readonly onFault: OnFault,
  ) {
    this.#line = 1 + dialect.skippedLines;
    this.#parser = parse({
      delimiter: dialect.delimiter,
      record_delimiter: '\n',
      relax_column_count: true,
      max_record_size: LINE_BYTES_MAX,
      on_record: (fields: string[]) => {
        this.#records.push({ fields, line: this.#line });
        // A blank line is a row of one empty field.
        this.#line += fields.join('').split('\n').length;
        return null;
      },
    });
    // Also told to the callbacks below.
    this.#parser.on('error', () => undefined);
  }

  /** Resolves with what is wrong with the table, if anything. */
  write(chunk: Buffer): Promise<Error | null> {
    return new Promise((resolve) => {
      this.#parser.write(chunk, (error) => resolve(error ?? null));
    });
  }

  /** As write, at the end of the file. */
  end(): Promise<Error | null> {
    return new Promise((resolve) => {
      this.#parser.once('error', resolve);
      this.#parser.end(() => resolve(null));
    });
  }

  /** The rows read since it was last asked; then throws `failure`. What comes before a fault is given out first. */
  async *rowsOf(failure: Error | null): AsyncGenerator<Row, void, undefined> {
    const records = this.#records;
    this.#records = [];
    for (const record of records) yield* this.#rowOf(record);
    if (failure instanceof CsvError) throw await explain(failure, this.file, this.#line);
    if (failure !== null) throw failure;
  }

  *#rowOf({ fields, line }: CsvRecord): Generator<Row, void, undefined> {
    const isBlank = fields.every((field) => field.trim() === '');
    if (isBlank || isSeparatorLine(fields, this.dialect.delimiter)) return;
    const where = placeText(this.file, { line });
    if (this.#header === null) {
      this.#header = checkHeader(fields, where);
      return;
    }
    // Files that were joined: the header of the second one, its columns perhaps in another order.
    if (isHeaderAgain(fields, this.#header)) {
      this.#header = checkHeader(fields, where);
      return;
    }
    const header = this.#header;
    const last = splitAtMark(fields, header);
    const row = last ?? fields;
    if (row.length !== header.length) {
      this.onFault(raggedRow(where, row, header.length));
      return;
    }
    yield { fields: Object.fromEntries(header.map((name, i) => [name, row[i]] as const)), line };
  }
}

function raggedRow(where: string, row: readonly string[], columns: number): UserError {
  if (row.some((field) => field.includes('\ufeff'))) return joinedWithin(where);
  const fields = `${row.length} ${row.length === 1 ? 'field' : 'fields'}`;
  return new UserError(
    `${where}: has ${fields}, but the header has ${columns}: put a field with a comma, a semicolon, a tab or a line break in quotes`,
  );
}

function joinedWithin(where: string): UserError {
  return new UserError(
    `${where}: has a byte order mark within the line, where two files were joined: put a line break there`,
  );
}

/** The sentence for what csv-parse found; its own would quote private text. `line`: where the row began. */
async function explain(error: CsvError, file: string, line: number): Promise<UserError> {
  const place = (at: number): string => placeText(file, { line: at });
  switch (error.code) {
    case 'CSV_QUOTE_NOT_CLOSED':
      return new UserError(
        `${place(await openQuoteLine(file, line))}: opens a quote (") that is never closed: close it, and write a quote within a field twice ("")`,
      );
    case 'CSV_MAX_RECORD_SIZE':
      return new UserError(
        `${place(line)}: the row that begins here is longer than ${LINE_BYTES_MAX} bytes: break it up, or close the quote (") that is opened in line ${await openQuoteLine(file, line)}`,
      );
    default:
      if (await hasMark(file, line)) return joinedWithin(place(line));
      return new UserError(
        `${place(line)}: has a quote (") within a field: put the field in quotes and write the quote twice ("")`,
      );
  }
}

/** Whether line `wanted` has a byte order mark in it. */
async function hasMark(file: string, wanted: number): Promise<boolean> {
  for await (const { text, number } of readLines(file)) {
    if (number === wanted) return text.includes('\ufeff');
  }
  return false;
}

/** The line where the last quote opens that does not close within a row of LINE_BYTES_MAX from line `from` on. */
async function openQuoteLine(file: string, from: number): Promise<number> {
  let [opened, isOpen, bytes] = [from, false, 0];
  for await (const { text, number } of readLines(file)) {
    if (number < from) continue;
    bytes += text.length + 1;
    if (bytes > LINE_BYTES_MAX) break;
    const quotes = text.split('"').length - 1;
    if (quotes % 2 === 0) continue;
    isOpen = !isOpen;
    if (isOpen) opened = number;
  }
  return opened;
}
