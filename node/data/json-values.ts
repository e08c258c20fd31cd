/**
 * Cuts JSON into the texts of its objects, in bounded memory, with the line of each; JSON.parse looks into them. Lists
 * of objects, several lists one after the other, and objects that follow each other on one line or over several.
 * docs/DATA.md has the speed beside that of parsers that build the values from the stream.
 */
import { UserError } from '../errors.js';
import { LINE_BYTES_MAX } from './lines.js';
import { placeText } from './records.js';

const [QUOTE, COMMA, BACKSLASH, NEWLINE] = [0x22, 0x2c, 0x5c, 0x0a];
const [OPEN_LIST, CLOSE_LIST, OPEN_OBJECT, CLOSE_OBJECT] = [0x5b, 0x5d, 0x7b, 0x7d];

/** A byte order mark, which stands where two files were joined. */
const MARK = [0xef, 0xbb, 0xbf];

/** An entry of a list or an object outside of lists, not parsed, and the line where it begins. */
export interface Entry {
  text: string;
  line: number;
}

/**
 * Yields the entries of the lists and the objects that `chunks` (UTF-8, see readTextBytes) hold; their first line is
 * `line`. Throws UserError: an entry beyond LINE_BYTES_MAX, a list or an object that does not end, or anything else
 * between them.
 */
export async function* readJsonValues(
  chunks: AsyncIterable<Buffer>,
  file: string,
): AsyncGenerator<Entry, void, undefined> {
  const cutter = new Cutter(file, 1);
  for await (const chunk of chunks) yield* cutter.take(chunk);
  cutter.end();
}

/** As readJsonValues, of one line. */
export function valuesOfLine(text: string, file: string, line: number): Entry[] {
  const cutter = new Cutter(file, line);
  const entries = [...cutter.take(Buffer.from(text))];
  cutter.end();
  return entries;
}

class Cutter {
  /** Of the entry: its bytes so far, from the chunks before this one. */
  #pieces: Buffer[] = [];
  #bytes = 0;
  /** Where the entry begins; 0 before its first character. */
  #line = 0;
  #lineNow: number;
  /** Lists and objects that are open, the outermost one among them. */
  #depth = 0;
  /** Whether the outermost one is a list. */
  #isList = false;
  #isInString = false;
  #isEscaped = false;
  /** Entries of the list that is open. */
  #entries = 0;

  constructor(
    readonly file: string,
    line: number,
  ) {
    this.#lineNow = line;
  }

  *take(chunk: Buffer): Generator<Entry, void, undefined> {
    let start = 0;
    for (let at = 0; at < chunk.length; at++) {
      if (this.#isInString) {
        at = this.#skipString(chunk, at);
        continue;
      }
      const byte = chunk[at] ?? 0;
      if (byte === NEWLINE) this.#lineNow++;
      if (byte === 0x20 || byte === NEWLINE || byte === 0x0d || byte === 0x09) continue;
      if (this.#depth === 0) {
        if (MARK.includes(byte)) continue;
        this.#open(byte);
        start = this.#isList ? at + 1 : at;
        continue;
      }
      const isBorder = this.#isList && this.#depth === 1 && (byte === COMMA || byte === CLOSE_LIST);
      if (this.#line === 0) this.#line = this.#lineNow;
      if (byte === QUOTE) this.#isInString = true;
      else if (byte === OPEN_LIST || byte === OPEN_OBJECT) this.#depth++;
      else if (byte === CLOSE_LIST || byte === CLOSE_OBJECT) this.#depth--;
      if (this.#depth === 0 && this.#isList && byte !== CLOSE_LIST) {
        throw this.#fault(this.#lineNow, 'has a "}" too many');
      }
      if (isBorder) {
        yield* this.#cut(chunk.subarray(start, at), byte === CLOSE_LIST);
        start = at + 1;
      } else if (this.#depth === 0) {
        yield* this.#cut(chunk.subarray(start, at + 1), false);
      }
    }
    if (this.#depth > 0) this.#keep(chunk.subarray(start));
  }

  /** From `at` on, within a string: to its closing quote or the end of the chunk. Returns the last place looked at. */
  #skipString(chunk: Buffer, at: number): number {
    const quote = chunk.indexOf(QUOTE, at);
    const stop = quote < 0 ? chunk.length : quote;
    let backslashes = 0;
    while (stop - backslashes > at && chunk[stop - backslashes - 1] === BACKSLASH) backslashes++;
    // The chunk before may have ended in one of them.
    if (stop - backslashes === at && this.#isEscaped) backslashes++;
    const isEscaped = backslashes % 2 === 1;
    if (quote >= 0 && !isEscaped) this.#isInString = false;
    this.#isEscaped = quote < 0 && isEscaped;
    return stop;
  }

  /** The first character of a list or of an object outside of lists. */
  #open(byte: number): void {
    if (byte !== OPEN_LIST && byte !== OPEN_OBJECT) {
      throw this.#fault(this.#lineNow, 'has something after the end of its list or object');
    }
    this.#isList = byte === OPEN_LIST;
    this.#depth = 1;
    this.#entries = 0;
    if (!this.#isList) this.#line = this.#lineNow;
  }

  end(): void {
    if (this.#depth === 0) return;
    throw this.#fault(
      this.#line || this.#lineNow,
      `the file ends before its ${this.#isList ? 'list' : 'object'} does (damaged or cut short)`,
    );
  }

  *#cut(last: Buffer, isEnd: boolean): Generator<Entry, void, undefined> {
    this.#keep(last);
    const text = Buffer.concat(this.#pieces, this.#bytes).toString('utf8');
    const line = this.#line;
    [this.#pieces, this.#bytes, this.#line] = [[], 0, 0];
    // "[]" has no entry; a comma before the end is a fault, which JSON.parse finds in the empty text.
    if (isEnd && this.#entries === 0 && text.trim() === '') return;
    this.#entries++;
    yield { text, line };
  }

  #keep(piece: Buffer): void {
    this.#pieces.push(piece);
    this.#bytes += piece.length;
    if (this.#bytes > LINE_BYTES_MAX) {
      throw this.#fault(
        this.#line || this.#lineNow,
        `the entry that begins here is longer than ${LINE_BYTES_MAX} bytes: break it up`,
      );
    }
  }

  #fault(line: number, what: string): UserError {
    const remedy = what.includes(': ') ? '' : ': get it again, or write one object a line (.jsonl)';
    return new UserError(`${placeText(this.file, { line })}: ${what}${remedy}`);
  }
}
