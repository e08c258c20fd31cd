/** JSON data files: one object a line, or lists of objects. */
import { UserError } from '../errors.js';
import { ExactNumber, parseExactly } from './exact-json.js';
import { readJsonValues, valuesOfLine } from './json-values.js';
import { linesOf } from './lines.js';
import { placeText, type Row } from './records.js';
import { prepend, readTextBytes } from './text-bytes.js';

/** Told of a row that is no row, which is then left out; it may throw the fault instead. */
export type OnFault = (fault: UserError) => void;

/** A value and the line where it begins. */
interface JsonText {
  text: string;
  line: number;
}

/**
 * Yields the objects of a file: one on each line that is not blank, or, where the file begins with a list or with an
 * object over several lines, those of all lists and objects in it. Throws UserError with the line number: not JSON,
 * no object, and as readLines and readJsonValues do. The sentence never quotes the data.
 */
export async function* readJson(
  file: string,
  onFault: OnFault,
): AsyncGenerator<Row, void, undefined> {
  const chunks = readTextBytes(file);
  let head: Buffer = Buffer.alloc(0);
  // White space alone says nothing, and is kept for the line numbers.
  while (head.toString('latin1').trim() === '') {
    const next = await chunks.next();
    if (next.done === true) return;
    head = Buffer.concat([head, next.value]);
  }
  const all = prepend(head, chunks);
  const begin = head.toString('latin1').trimStart();
  if (begin.startsWith('[')) {
    yield* objectsOf(readJsonValues(all, file), file, 'each entry of the list', onFault);
  } else if (BEGINS_OVER_LINES.test(begin)) {
    yield* objectsOf(readJsonValues(all, file), file, 'each object of the file', onFault);
  } else {
    yield* objectsOfLines(all, file, onFault);
  }
}

/** An object whose first line is not all of it, as `jq` and programs that indent write it. */
const BEGINS_OVER_LINES = /^\{([^\n]*[{[,])?[ \t]*\n/;

async function* objectsOfLines(
  chunks: AsyncIterable<Buffer>,
  file: string,
  onFault: OnFault,
): AsyncGenerator<Row, void, undefined> {
  for await (const { text, number } of linesOf(chunks, file)) {
    if (text.trim() === '') continue;
    const value = parsed(text);
    if (isObject(value)) yield { fields: value, line: number };
    else yield* objectsOf(severalOf(text, file, number), file, 'each line', onFault);
  }
}

/** The objects of a line that holds several, as joined files have it, or a list of them; else the line as it is. */
function severalOf(text: string, file: string, line: number): JsonText[] {
  try {
    const values = valuesOfLine(text, file, line);
    if (values.every((value) => parsed(value.text) !== NOT_JSON)) return values;
  } catch (fault) {
    if (!(fault instanceof UserError)) throw fault;
  }
  return [{ text, line }];
}

async function* objectsOf(
  texts: AsyncIterable<JsonText> | Iterable<JsonText>,
  file: string,
  each: string,
  onFault: OnFault,
): AsyncGenerator<Row, void, undefined> {
  for await (const { text, line } of texts) {
    const value = parsed(text);
    if (isObject(value)) yield { fields: value, line };
    else onFault(notAnObject(value, placeText(file, { line }), each));
  }
}

const NOT_JSON = Symbol('not JSON');

function parsed(text: string): unknown {
  try {
    return withPlainNumbers(parseExactly(text));
  } catch {
    // The parser's own message would quote private text.
    return NOT_JSON;
  }
}

/** Columns with numbers, and with numbers for names, are what JavaScript makes of them; within them values are exact. */
function withPlainNumbers(row: unknown): unknown {
  if (row instanceof Map) return withPlainNumbers(Object.fromEntries(row));
  if (!isObject(row)) return row;
  const numbers = Object.entries(row).filter(([, value]) => value instanceof ExactNumber);
  return { ...row, ...Object.fromEntries(numbers.map(([name, value]) => [name, Number(value)])) };
}

function isObject(value: unknown): value is Row['fields'] {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function notAnObject(value: unknown, where: string, each: string): UserError {
  return new UserError(
    value === NOT_JSON
      ? `${where}: is not valid JSON: ${each} must be one whole JSON object`
      : `${where}: is not a JSON object: ${each} must be one, such as {"text": "..."}`,
  );
}
