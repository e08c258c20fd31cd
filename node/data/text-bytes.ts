/** The bytes of a text file in chunks: unpacked, checked to be UTF-8 text, with LF at the end of every line. */
import { isUtf8 } from 'node:buffer';
import { createGunzip } from 'node:zlib';
import { UserError } from '../errors.js';
import { errnoOf } from '../files.js';
import { unreadable } from '../json-file.js';
import { ByteOrderMarks, LineBreaks } from './line-breaks.js';
import { openDataFile } from './open-file.js';

/** Bytes read at once; of a packed file, what so many become. */
const CHUNK_BYTES = 1 << 16;
const NEWLINE = 0x0a;

/** Whether the name says that the file is packed with gzip. */
export function isGzipped(file: string): boolean {
  return /\.gz$/i.test(file);
}

/**
 * Yields the file with LF for every line break (see LineBreaks) and without the byte order marks that begin a line; a
 * chunk never ends within a character. What comes before a fault is yielded first, up to the end of a line, so that
 * the first fault of a file is the one that is told.
 * Throws UserError: a file that cannot be read, is no regular one or no whole gzip file, NUL bytes, invalid UTF-8.
 */
export async function* readTextBytes(file: string): AsyncGenerator<Buffer, void, undefined> {
  const [breaks, check, marks] = [new LineBreaks(), new TextCheck(file), new ByteOrderMarks()];
  const pass = function* (bytes: Buffer): Generator<Buffer, void, undefined> {
    const { text, fault } = check.take(bytes);
    const unmarked = marks.take(text);
    if (unmarked.length > 0) yield unmarked;
    if (fault !== null) throw fault;
  };
  for await (const bytes of readBytes(file)) yield* pass(breaks.take(bytes));
  yield* pass(breaks.end());
  const fault = check.end();
  if (fault !== null) throw fault;
}

/** `first` and what `rest` still has; `rest` is closed in any case. */
export async function* prepend(
  first: Buffer,
  rest: AsyncGenerator<Buffer, void, undefined>,
): AsyncGenerator<Buffer, void, undefined> {
  try {
    yield first;
    yield* rest;
  } finally {
    await rest.return();
  }
}

async function* readBytes(file: string): AsyncGenerator<Buffer, void, undefined> {
  const handle = await openDataFile(file);
  const raw = handle.createReadStream({ highWaterMark: CHUNK_BYTES });
  const stream = isGzipped(file) ? raw.pipe(createGunzip({ chunkSize: CHUNK_BYTES })) : raw;
  if (stream !== raw) raw.on('error', (error) => stream.destroy(error));
  try {
    for await (const chunk of stream) yield chunk as Buffer;
  } catch (cause) {
    if (errnoOf(cause)?.startsWith('Z_') === true) {
      throw new UserError(`${file}: is not a whole gzip file (damaged or cut short): get it again`);
    }
    throw unreadable(file, 'a data file', cause);
  } finally {
    stream.destroy();
    raw.destroy();
  }
}

/** Cuts at characters and looks for what no text has. */
class TextCheck {
  /** The beginning of a character whose rest is to come, at most three bytes. */
  #rest: Buffer = Buffer.alloc(0);
  /** Lines that are over. */
  #lines = 0;

  constructor(readonly file: string) {}

  /** The whole characters of what came; where one of them is none, whole lines before it, and the fault. */
  take(bytes: Buffer): { text: Buffer; fault: UserError | null } {
    const all = this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes]);
    const end = lastBoundary(all);
    const text = all.subarray(0, end);
    this.#rest = all.subarray(end);
    if (!text.includes(0) && isUtf8(text)) {
      this.#lines += countLines(text);
      return { text, fault: null };
    }
    let start = 0;
    for (let stop = text.indexOf(NEWLINE); stop >= 0; stop = text.indexOf(NEWLINE, start)) {
      const line = text.subarray(start, stop);
      if (line.includes(0) || !isUtf8(line)) break;
      start = stop + 1;
      this.#lines++;
    }
    const stop = text.indexOf(NEWLINE, start);
    const line = text.subarray(start, stop < 0 ? text.length : stop);
    return { text: text.subarray(0, start), fault: this.#fault(line) };
  }

  /** At the end of the file. */
  end(): UserError | null {
    return this.#rest.length === 0 ? null : this.#fault(this.#rest);
  }

  #fault(line: Buffer): UserError {
    const what = line.includes(0)
      ? 'has NUL bytes'
      : `is not valid UTF-8 (byte 0x${firstWrong(line).toString(16).padStart(2, '0').toUpperCase()})`;
    return new UserError(
      `${this.file}, line ${this.#lines + 1}: ${what}: give a text file, saved as UTF-8 (not a binary one, not UTF-16; in Excel "CSV UTF-8")`,
    );
  }
}

function countLines(text: Buffer): number {
  let lines = 0;
  for (let at = text.indexOf(NEWLINE); at >= 0; at = text.indexOf(NEWLINE, at + 1)) lines++;
  return lines;
}

/** Where the last character that may still go on begins; the length of `bytes` if all of them are whole. */
function lastBoundary(bytes: Buffer): number {
  for (let back = 1; back <= Math.min(3, bytes.length); back++) {
    const byte = bytes[bytes.length - back] ?? 0;
    if (byte < 0x80) return bytes.length;
    if (byte < 0xc0) continue;
    const needs = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2;
    return needs > back ? bytes.length - back : bytes.length;
  }
  return bytes.length;
}

/** The first byte of what is no character in `line`, which is not UTF-8. */
function firstWrong(line: Buffer): number {
  let [good, bad] = [0, line.length];
  while (bad - good > 1) {
    const middle = (good + bad) >> 1;
    const end = lastBoundary(line.subarray(0, middle));
    if (isUtf8(line.subarray(0, end))) good = middle;
    else bad = middle;
  }
  return line[lastBoundary(line.subarray(0, bad))] ?? line[bad - 1] ?? 0;
}
