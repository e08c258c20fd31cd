/** Tables of text: CSV and TSV, by csv-parse. The first row names the columns. */
import { Readable } from 'node:stream';
import { CsvError, parse } from 'csv-parse';
import { UserError } from '../errors.js';
import type { OnFault } from './json.js';
import { LINE_BYTES_MAX, readLines } from './lines.js';
import { placeText, type Row } from './records.js';
import { prepend, readTextBytes } from './text-bytes.js';

/** What may stand between two columns of a .csv: Excel writes a semicolon where the comma is in numbers. */
const DELIMITERS = [',', ';', '\t'];

interface ParsedRow {
  record: string[];
  info: { lines: number };
}

/**
 * Yields a row for each line of the table but the first, and for none that is blank. Throws UserError with the line
 * (of a row over several lines, the first): a quote that is not closed or stands within a field, a row with more or
 * fewer fields than the header, one beyond LINE_BYTES_MAX, and what readTextBytes throws.
 */
export async function* readCsv(file: string, onFault?: OnFault): AsyncGenerator<Row, void, undefined> {
  const isTabbed = /\.tsv(\.gz)?$/i.test(file);
  const chunks = readTextBytes(file);
  const first = await chunks.next();
  if (first.done === true) return;
  const parser = parse({
    delimiter: isTabbed ? '\t' : delimiterOf(first.value),
    info: true,
    relax_column_count: true,
    skip_empty_lines: true,
    max_record_size: LINE_BYTES_MAX,
  });
  const source = Readable.from(prepend(first.value, chunks), { objectMode: false });
  source.on('error', (error) => parser.destroy(error));
  source.pipe(parser);
  let header: string[] | null = null;
  let line = 1;
  try {
    for await (const parsed of parser) {
      const { record, info } = parsed as ParsedRow;
      // `lines` counts those that are over: of this row and of blank ones before it.
      const start = info.lines - record.join('').split('\n').length + 1;
      line = info.lines + 1;
      if (record.every((field) => field.trim() === '')) continue;
      if (header === null) {
        header = checkHeader(record, placeText(file, { line: start }));
        continue;
      }
      const row = rowOf(header, record, file, start, onFault);
      if (row !== null) yield row;
    }
  } catch (cause) {
    throw cause instanceof CsvError ? await explain(cause, file, line) : cause;
  } finally {
    source.destroy();
    parser.destroy();
    // A source that was not begun has not closed it.
    await chunks.return();
  }
}

/** The one that stands most often in the first line, outside of quotes. */
function delimiterOf(chunk: Buffer): string {
  const [line = ''] = chunk.toString('utf8').replace(/"[^"]*"/g, '').split('\n', 1);
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

function rowOf(
  header: readonly string[],
  record: readonly string[],
  file: string,
  line: number,
  onFault?: OnFault,
): Row | null {
  if (record.length === header.length) {
    return { fields: Object.fromEntries(header.map((name, i) => [name, record[i]])), line };
  }
  const fault = new UserError(
    `${placeText(file, { line })}: has ${record.length} fields, but the header has ${header.length}: put a field with a comma, a semicolon, a tab or a line break in quotes`,
  );
  if (onFault === undefined) throw fault;
  onFault(fault);
  return null;
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
    default: {
      const at = (error as { lines?: number }).lines ?? line;
      return new UserError(
        `${place(at)}: has a quote (") within a field: put the field in quotes and write the quote twice ("")`,
      );
    }
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
