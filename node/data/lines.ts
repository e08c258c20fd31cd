/** Reads a text file line by line in bounded memory, and refuses what is not UTF-8 text. */
import { createReadStream } from 'node:fs';
import { UserError } from '../errors.js';
import { unreadable } from '../json-file.js';

/** Bytes of one line: a conversation of 250,000 tokens. */
export const LINE_BYTES_MAX = 1024 * 1024;

export interface Line {
  text: string;
  /** From 1. */
  number: number;
}

const NEWLINE = 0x0a;

/**
 * Yields the lines without their line break (LF or CRLF) and without a byte order mark.
 * Throws UserError: unreadable file, a line beyond LINE_BYTES_MAX, NUL bytes or invalid UTF-8.
 */
export async function* readLines(file: string): AsyncGenerator<Line, void, undefined> {
  let pieces: Buffer[] = [];
  let bytes = 0;
  let number = 1;
  const stream = createReadStream(file);
  try {
    for await (const data of stream) {
      const chunk = data as Buffer;
      let start = 0;
      for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, start)) {
        pieces.push(chunk.subarray(start, end));
        yield { text: decode(pieces, bytes + end - start, file, number), number };
        [pieces, bytes] = [[], 0];
        number++;
        start = end + 1;
      }
      const rest = chunk.subarray(start);
      // Most binary files show themselves here, before they look like one very long line.
      if (rest.includes(0)) throw notText(file, number, 'has NUL bytes');
      pieces.push(rest);
      bytes += rest.length;
      if (bytes > LINE_BYTES_MAX) throw tooLong(file, number);
    }
  } catch (cause) {
    if (cause instanceof UserError) throw cause;
    throw unreadable(file, 'a data file', cause);
  } finally {
    stream.destroy();
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
  const line = Buffer.concat(pieces, length);
  if (line.includes(0)) throw notText(file, number, 'has NUL bytes');
  // A byte order mark may begin the file; anywhere else it is a character like others.
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: number > 1 });
  let text: string;
  try {
    text = decoder.decode(line);
  } catch {
    throw notText(file, number, 'is not valid UTF-8');
  }
  return text.endsWith('\r') ? text.slice(0, -1) : text;
}

function notText(file: string, number: number, what: string): UserError {
  return new UserError(
    `${file}, line ${number}: ${what}: give a text file, saved as UTF-8 (not a binary one, not UTF-16)`,
  );
}
