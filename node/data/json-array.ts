/**
 * Cuts one JSON list into the texts of its entries, in bounded memory, with the line of each; JSON.parse looks into
 * them. docs/DATA.md has the speed beside that of parsers that build the values from the stream.
 */
import { UserError } from '../errors.js';
import { LINE_BYTES_MAX } from './lines.js';
import { placeText } from './records.js';

const [QUOTE, COMMA, BACKSLASH, NEWLINE] = [0x22, 0x2c, 0x5c, 0x0a];
const [OPEN_LIST, CLOSE_LIST, OPEN_OBJECT, CLOSE_OBJECT] = [0x5b, 0x5d, 0x7b, 0x7d];

/** An entry of the list, not parsed, and the line where it begins. */
export interface Entry {
  text: string;
  line: number;
}

/**
 * Yields the entries of the list that `chunks` (UTF-8, see readTextBytes) hold. Throws UserError: an entry beyond
 * LINE_BYTES_MAX, a list that does not end, or something after it.
 */
export async function* readJsonArray(
  chunks: AsyncIterable<Buffer>,
  file: string,
): AsyncGenerator<Entry, void, undefined> {
  const cutter = new Cutter(file);
  for await (const chunk of chunks) yield* cutter.take(chunk);
  cutter.end();
}

class Cutter {
  /** Of the entry: its bytes so far, from the chunks before this one. */
  #pieces: Buffer[] = [];
  #bytes = 0;
  /** Where the entry begins; 0 before its first character. */
  #line = 0;
  #lineNow = 1;
  /** Lists and objects that are open, the outermost list among them. */
  #depth = 0;
  #isInString = false;
  #isEscaped = false;
  #isOver = false;
  #entries = 0;

  constructor(readonly file: string) {}

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
      if (this.#isOver) throw this.#fault(this.#lineNow, 'has something after the end of its list');
      const isBorder = this.#depth === 1 && (byte === COMMA || byte === CLOSE_LIST);
      if (this.#depth > 0 && this.#line === 0) this.#line = this.#lineNow;
      if (byte === QUOTE) this.#isInString = true;
      else if (byte === OPEN_LIST || byte === OPEN_OBJECT) this.#depth++;
      else if (byte === CLOSE_LIST || byte === CLOSE_OBJECT) this.#depth--;
      if (this.#depth === 0) {
        if (byte !== CLOSE_LIST) throw this.#fault(this.#lineNow, 'has a "}" too many');
        this.#isOver = true;
      }
      if (this.#depth === 1 && this.#line === 0) start = at + 1;
      if (!isBorder) continue;
      yield* this.#cut(chunk.subarray(start, at), byte === CLOSE_LIST);
      start = at + 1;
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

  end(): void {
    if (this.#isOver) return;
    throw this.#fault(
      this.#line || this.#lineNow,
      'the file ends before its list does (damaged or cut short)',
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
