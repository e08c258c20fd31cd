/** How a table of text is written, found in its first lines: delimiter, Excel's `sep=` line, header. */
import { UserError } from '../errors.js';
import { formOf, type ColumnNames } from './columns.js';
import { placeText } from './records.js';

/** What may stand between two columns: Excel writes a semicolon where the comma is in numbers. */
const DELIMITERS = [',', ';', '\t', '|'];
/** The line that tells Excel the delimiter, which Excel does not show; perhaps in quotes. */
const SEPARATOR_LINE = /^"?sep=(.*?)"?$/i;

export interface Dialect {
  delimiter: string;
  /** Blank lines and a `sep=` line before the header. */
  skippedLines: number;
  skippedBytes: number;
}

/**
 * The dialect of the table that begins with `head`. Throws UserError for a `sep=` line that names no delimiter.
 * Without such a line: a tab in a .tsv; else the delimiter that makes columns `columns` can use; else the one that
 * stands most often in the first line.
 */
export function dialectOf(head: string, file: string, columns: ColumnNames): Dialect {
  const lines = head.split('\n');
  const first = lines.findIndex((line) => line.trim() !== '');
  const skipped = (count: number): Omit<Dialect, 'delimiter'> => ({
    skippedLines: count,
    skippedBytes: lines.slice(0, count).reduce((sum, line) => sum + Buffer.byteLength(line) + 1, 0),
  });
  const line = lines[first] ?? '';
  const separator = SEPARATOR_LINE.exec(line)?.[1];
  if (separator !== undefined) {
    const delimiter = separator.slice(0, 1);
    // Saved again with another program the line may be padded with delimiters.
    if (delimiter === '' || delimiter === '"' || separator.replaceAll(delimiter, '') !== '') {
      throw new UserError(
        `${placeText(file, { line: first + 1 })}: is a "sep=" line of Excel that names no delimiter, or more than one character: remove it`,
      );
    }
    return { delimiter, ...skipped(first + 1) };
  }
  const isTabbed = /\.tsv(\.gz)?$/i.test(file);
  return {
    delimiter: isTabbed ? '\t' : delimiterOf(lines.slice(Math.max(0, first)).join('\n'), columns),
    ...skipped(Math.max(0, first)),
  };
}

function delimiterOf(head: string, columns: ColumnNames): string {
  const counts = DELIMITERS.map((delimiter) => firstRecord(head, delimiter).length);
  const most = DELIMITERS[counts.indexOf(Math.max(...counts))] ?? ',';
  // A header such as "prompt;completion, final" has as many of each.
  return DELIMITERS.find((delimiter) => isUsable(firstRecord(head, delimiter), columns)) ?? most;
}

/** The fields of the first record, which may go over several lines, without the quotes around them. */
function firstRecord(head: string, delimiter: string): string[] {
  const fields = [''];
  let isQuoted = false;
  for (const character of head) {
    if (character === '"') isQuoted = !isQuoted;
    else if (character === '\n' && !isQuoted) break;
    else if (character === delimiter && !isQuoted) fields.push('');
    else fields.push((fields.pop() ?? '') + character);
  }
  return fields.map((field) => field.trim());
}

function isUsable(names: readonly string[], columns: ColumnNames): boolean {
  if (names.length < 2) return false;
  try {
    formOf(names, columns, '');
    return true;
  } catch (fault) {
    if (fault instanceof UserError) return false;
    throw fault;
  }
}

/** Whether a row is a `sep=` line in the middle of a file, as joined files have it. */
export function isSeparatorLine(fields: readonly string[], delimiter: string): boolean {
  const line = fields.join(delimiter);
  return (
    line.toLowerCase().startsWith(`sep=${delimiter}`) &&
    line.slice(4).replaceAll(delimiter, '') === ''
  );
}

/** The names of the columns. Throws UserError, which begins with `where`, for a name that is there twice. */
export function checkHeader(record: readonly string[], where: string): string[] {
  const names = record.map((name) => name.trim());
  const twice = names.findIndex((name, i) => name !== '' && names.indexOf(name) !== i);
  if (twice < 0) return names;
  throw new UserError(
    `${where}: columns ${names.indexOf(names[twice] ?? '') + 1} and ${twice + 1} have one name: rename one (is the header missing?)`,
  );
}

/** Whether a row names the columns of `header` once more, in any order. */
export function isHeaderAgain(fields: readonly string[], header: readonly string[]): boolean {
  if (fields.length !== header.length) return false;
  const sorted = (names: readonly string[]): string =>
    JSON.stringify(names.map((name) => name.trim().toLowerCase()).sort());
  return sorted(fields) === sorted(header);
}

/**
 * Two files joined without a line break between: the last row of the first, where `fields` are that row, a byte
 * order mark and the header of the second. Null for any other row.
 */
export function splitAtMark(fields: readonly string[], header: readonly string[]): string[] | null {
  const at = header.length - 1;
  if (fields.length !== 2 * header.length - 1) return null;
  const [end, begin, ...rest] = (fields[at] ?? '').split('\ufeff');
  if (begin === undefined || rest.length > 0) return null;
  const isJoin = isHeaderAgain([begin, ...fields.slice(at + 1)], header);
  return isJoin ? [...fields.slice(0, at), end ?? ''] : null;
}
