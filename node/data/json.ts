/** JSON data files: one object a line, or one list of objects. */
import { UserError } from '../errors.js';
import { readJsonArray } from './json-array.js';
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
 * Yields the object of each line that is not blank. Throws UserError with the line number: not JSON, no object, and
 * as readLines does. The sentence never quotes the data.
 */
export function readJsonLines(file: string, onFault: OnFault): AsyncIterable<Row> {
  return objectsOf(textsOfLines(readTextBytes(file), file), file, 'each line', onFault);
}

/** As readJsonLines; or, where the file begins with "[", the objects of that one list. */
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
  if (head.toString('latin1').trimStart().startsWith('[')) {
    yield* objectsOf(readJsonArray(all, file), file, 'each entry of the list', onFault);
  } else {
    yield* objectsOf(textsOfLines(all, file), file, 'each line', onFault);
  }
}

async function* textsOfLines(
  chunks: AsyncIterable<Buffer>,
  file: string,
): AsyncGenerator<JsonText, void, undefined> {
  for await (const { text, number } of linesOf(chunks, file)) {
    if (text.trim() !== '') yield { text, line: number };
  }
}

async function* objectsOf(
  texts: AsyncIterable<JsonText>,
  file: string,
  each: string,
  onFault: OnFault,
): AsyncGenerator<Row, void, undefined> {
  for await (const { text, line } of texts) {
    try {
      yield { fields: parseObject(text, placeText(file, { line }), each), line };
    } catch (fault) {
      if (!(fault instanceof UserError)) throw fault;
      onFault(fault);
    }
  }
}

function parseObject(text: string, where: string, each: string): Row['fields'] {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // The parser's own message would quote private text.
    throw new UserError(`${where}: is not valid JSON: ${each} must be one whole JSON object`);
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    return value as Row['fields'];
  }
  throw new UserError(
    `${where}: is not a JSON object: ${each} must be one, such as {"text": "..."}`,
  );
}
