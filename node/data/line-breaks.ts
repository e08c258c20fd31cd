/**
 * One kind of line break for every text file: CRLF, a lone CR and the CR CR LF of a program that translated twice all
 * become LF, so that no reader, line number or trained token depends on the system that wrote a file, or on two
 * systems that wrote one file between them.
 */
const [LF, CR] = [0x0a, 0x0d];
const BYTE_ORDER_MARK = Buffer.from([0xef, 0xbb, 0xbf]);
/** Carriage returns that may belong to the line feed of the next chunk. */
const HELD_MAX = 2;

export class LineBreaks {
  /** Carriage returns at the end of what was taken, not given out yet: 0 to HELD_MAX. */
  #held = 0;

  take(chunk: Buffer): Buffer {
    if (this.#held === 0 && !chunk.includes(CR)) return chunk;
    const all = Buffer.concat([Buffer.alloc(this.#held, CR), chunk]);
    let end = all.length;
    while (end > 0 && all.length - end < HELD_MAX && all[end - 1] === CR) end--;
    this.#held = all.length - end;
    return withLineFeeds(all, end);
  }

  /** What was held back: each is a line break of its own. */
  end(): Buffer {
    const rest = Buffer.alloc(this.#held, LF);
    this.#held = 0;
    return rest;
  }
}

/** The first `end` bytes of `all`, after which only carriage returns follow. */
function withLineFeeds(all: Buffer, end: number): Buffer {
  const out = Buffer.allocUnsafe(end);
  let [from, to] = [0, 0];
  for (let at = all.indexOf(CR); at >= 0 && at < end; at = all.indexOf(CR, from)) {
    to += all.copy(out, to, from, at);
    out[to++] = LF;
    from = at + 1;
    if (all[from] === LF) from++;
    else if (all[from] === CR && all[from + 1] === LF) from += 2;
  }
  if (from < end) to += all.copy(out, to, from, end);
  return out.subarray(0, to);
}

/** Drops the byte order marks that begin a line: the first line's, and those of files that were joined into one. */
export class ByteOrderMarks {
  #isLineStart = true;

  /** `text` ends with a whole character. */
  take(text: Buffer): Buffer {
    if (text.length === 0) return text;
    const pieces: Buffer[] = [];
    let from = 0;
    for (let at = text.indexOf(BYTE_ORDER_MARK); at >= 0; at = text.indexOf(BYTE_ORDER_MARK, at)) {
      const isFirst = at === from ? this.#isLineStart : text[at - 1] === LF;
      const after = at + BYTE_ORDER_MARK.length;
      if (isFirst) {
        pieces.push(text.subarray(from, at));
        from = after;
        this.#isLineStart = true;
      }
      at = after;
    }
    pieces.push(text.subarray(from));
    if (from < text.length) this.#isLineStart = text.at(-1) === LF;
    return pieces.length === 1 ? text : Buffer.concat(pieces);
  }
}
