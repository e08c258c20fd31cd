/** Tables of text: CSV and TSV, by csv-parse. The first row names the columns. */
import { CsvError, parse, type Parser } from 'csv-parse';
import { UserError } from '../errors.js';
import type { OnFault } from './json.js';
import { LINE_BYTES_MAX, readLines } from './lines.js';
import { placeText, type Row } from './records.js';
import { readTextBytes } from './text-bytes.js';

/** What may stand between two columns of a .csv: Excel writes a semicolon where the comma is in numbers. */
const DELIMITERS = [',', ';', '\t'];

/**
 * Yields a row for each line of the table but the first, and for none that is blank. Throws UserError with the line
 * (of a row over several lines, the first): a quote that is not closed or stands within a field, a row with more or
 * fewer fields than the header, one beyond LINE_BYTES_MAX, and what readTextBytes throws.
 */
export async function* readCsv(
  file: string,
  onFault: OnFault,
): AsyncGenerator<Row, void, undefined> {
  let table: Table | null = null;
  for await (const chunk of readTextBytes(file)) {
    const isTabbed = /\.tsv(\.gz)?$/i.test(file);
    table ??= new Table(isTabbed ? '\t' : delimiterOf(chunk));
    yield* rowsOf(table, await table.write(chunk), file, onFault);
  }
  if (table !== null) yield* rowsOf(table, await table.end(), file, onFault);
}

async function* rowsOf(
  table: Table,
  failure: Error | null,
  file: string,
  onFault: OnFault,
): AsyncGenerator<Row, void, undefined> {
  // What comes before a fault is given out first.
  for (const { record, line } of table.take()) {
    if (record.every((field) => field.trim() === '')) continue;
    if (table.header === null) table.header = checkHeader(record, placeText(file, { line }));
    else if (record.length !== table.header.length) {
      onFault(raggedRow(placeText(file, { line }), record.length, table.header.length));
    } else {
      const fields = table.header.map((name, i) => [name, record[i]] as const);
      yield { fields: Object.fromEntries(fields), line };
    }
  }
  if (failure instanceof CsvError) throw await explain(failure, file, table.line);
  if (failure !== null) throw failure;
}

/** csv-parse, written to by hand: as a stream it would drop rows that it has read when it meets a fault. */
class Table {
  header: string[] | null = null;
  /** Where the next row begins. */
  line = 1;
  #rows: { record: string[]; line: number }[] = [];
  readonly #parser: Parser;

  constructor(delimiter: string) {
    this.#parser = parse({
      delimiter,
      relax_column_count: true,
      max_record_size: LINE_BYTES_MAX,
      on_record: (record: string[]) => {
        this.#rows.push({ record, line: this.line });
        // It counts lines as well, but a CRLF within quotes twice. A blank line is a row of one empty field.
        this.line += record.join('').split(/\r\n|\n|\r/).length;
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

  /** The rows read since it was last asked. */
  take(): { record: string[]; line: number }[] {
    const rows = this.#rows;
    this.#rows = [];
    return rows;
  }
}

/** The one that stands most often in the first line, outside of quotes. */
function delimiterOf(chunk: Buffer): string {
  const [line = ''] = chunk
    .toString('utf8')
    .replace(/"[^"]*"/g, '')
    .split('\n', 1);
  const counts = DELIMITERS.map((delimiter) => line.split(delimiter).length);
  return DELIMITERS[counts.indexOf(Math.max(...counts))] ?? ',';
}

function checkHeader(record: readonly string[], where: string): string[] {
  const names = record.map((name) => name.trim());
  const twice = names.findIndex((name, i) => name !== '' && names.indexOf(name) !== i);
  if (twice < 0) return names;
  throw new UserError(
    `${where}: columns ${names.indexOf(names[twice] ?? '') + 1} and ${twice + 1} have one name: rename one (is the header missing?)`,
  );
}

function raggedRow(where: string, fields: number, columns: number): UserError {
  return new UserError(
    `${where}: has ${fields} fields, but the header has ${columns}: put a field with a comma, a semicolon, a tab or a line break in quotes`,
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
      return new UserError(
        `${place(line)}: has a quote (") within a field: put the field in quotes and write the quote twice ("")`,
      );
  }
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
