/** Reads a text file line by line in bounded memory, and refuses what is not UTF-8 text. */
import { UserError } from '../errors.js';
import { readTextBytes } from './text-bytes.js';

/** Bytes of one line, and of one record of any other format: a conversation of 250,000 tokens. */
export const LINE_BYTES_MAX = 1024 * 1024;

export interface Line {
  text: string;
  /** From 1. */
  number: number;
}

const NEWLINE = 0x0a;

/** As linesOf. Throws UserError as readTextBytes does, and for a line beyond LINE_BYTES_MAX. */
export function readLines(file: string): AsyncGenerator<Line, void, undefined> {
  return linesOf(readTextBytes(file), file);
}

/** Yields the lines of `chunks` (UTF-8, see readTextBytes) without their line breaks. */
export async function* linesOf(
  chunks: AsyncIterable<Buffer>,
  file: string,
): AsyncGenerator<Line, void, undefined> {
  let pieces: Buffer[] = [];
  let bytes = 0;
  let number = 1;
  for await (const chunk of chunks) {
    let start = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, start)) {
      pieces.push(chunk.subarray(start, end));
      yield { text: decode(pieces, bytes + end - start, file, number), number };
      [pieces, bytes] = [[], 0];
      number++;
      start = end + 1;
    }
    const rest = chunk.subarray(start);
    pieces.push(rest);
    bytes += rest.length;
    if (bytes > LINE_BYTES_MAX) throw tooLong(file, number);
  }
  if (bytes > 0) yield { text: decode(pieces, bytes, file, number), number };
}

function tooLong(file: string, number: number): UserError {
  return new UserError(
    `${file}, line ${number}: is longer than ${LINE_BYTES_MAX} bytes: break it up (a file with such lines may not be text)`,
  );
}

function decode(pieces: readonly Buffer[], length: number, file: string, number: number): string {
  if (length > LINE_BYTES_MAX) throw tooLong(file, number);
  return Buffer.concat(pieces, length).toString('utf8');
}
