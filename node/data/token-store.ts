/** Tokenised examples in memory, in flat arrays: a million small ones would take several times as much. */

/** Tokens that one data set may hold: 4.3 GiB, or 6.3 GiB where the vocabulary has more than 65,536 tokens. */
export const TOKENS_MAX = 2 ** 31;

/** Tokens in one piece: the store grows by a piece, so that growing never takes twice the memory. */
const PIECE = 1 << 20;

/** 2 bytes and a bit for each token, and another byte in a piece where an id needs it. */
interface Piece {
  /** The lower 16 bits of each token. */
  low: Uint16Array;
  /** The upper 8 bits; null while all are 0. */
  high: Uint8Array | null;
  /** One bit for each token: whether it is trained. */
  trained: Uint8Array;
}

/** An example is one text, or several: a conversation may have one for each answer. */
export class TokenStore {
  readonly #pieces: Piece[] = [];
  /** Where each text begins, and where the last one ends. */
  #starts = new Uint32Array(1 << 10);
  #texts = 0;
  /** The first text of each example, and how many there are in all. */
  #firsts = new Uint32Array(1 << 10);
  #examples = 0;

  constructor(readonly tokensMax = TOKENS_MAX) {}

  /** Examples held. */
  get examples(): number {
    return this.#examples;
  }

  /** Texts held, over all examples. */
  get texts(): number {
    return this.#texts;
  }

  /** Tokens held, over all examples. */
  get size(): number {
    return this.#starts[this.#texts] ?? 0;
  }

  /**
   * One example. `tokens`: ids below 2^24. `trained[i]` is 1 where tokens[i] is a target that counts. `starts`: where
   * its texts begin, the first at 0. False, and nothing added, beyond tokensMax.
   */
  append(
    tokens: readonly number[],
    trained: readonly (0 | 1)[],
    starts: readonly number[] = [0],
  ): boolean {
    const start = this.size;
    const end = start + tokens.length;
    if (end > this.tokensMax) return false;
    while (this.#pieces.length * PIECE < end) this.#pieces.push(newPiece());
    for (const [i, token] of tokens.entries()) this.#put(start + i, token, trained[i] === 1);
    this.#starts = growTo(this.#starts, this.#texts + starts.length + 1);
    for (const at of starts) this.#starts[this.#texts++] = start + at;
    this.#starts[this.#texts] = end;
    this.#firsts = growTo(this.#firsts, this.#examples + 2);
    this.#firsts[++this.#examples] = this.#texts;
    return true;
  }

  #put(position: number, token: number, isTrained: boolean): void {
    const piece = this.#piece(position);
    const at = position & (PIECE - 1);
    piece.low[at] = token & 0xffff;
    if (token > 0xffff) {
      piece.high ??= new Uint8Array(PIECE);
      piece.high[at] = token >>> 16;
    }
    if (isTrained) piece.trained[at >> 3] = (piece.trained[at >> 3] ?? 0) | (1 << (at & 7));
  }

  /** The texts of an example: [first, end). */
  textsOf(example: number): [first: number, end: number] {
    return [this.#firsts[example] ?? 0, this.#firsts[example + 1] ?? 0];
  }

  /** Tokens of text `text`, from 0 over all examples. */
  lengthOf(text: number): number {
    return (this.#starts[text + 1] ?? 0) - (this.#starts[text] ?? 0);
  }

  /** Token `i` of a text, from 0 to lengthOf - 1. */
  token(text: number, i: number): number {
    const position = (this.#starts[text] ?? 0) + i;
    const { low, high } = this.#piece(position);
    const at = position & (PIECE - 1);
    return (low[at] ?? 0) | ((high?.[at] ?? 0) << 16);
  }

  /** Whether token `i` of a text is a target that counts. */
  isTrained(text: number, i: number): boolean {
    const position = (this.#starts[text] ?? 0) + i;
    const at = position & (PIECE - 1);
    return (((this.#piece(position).trained[at >> 3] ?? 0) >> (at & 7)) & 1) === 1;
  }

  /** Trained tokens of a text in [from, to). */
  trainedIn(text: number, from: number, to: number): number {
    let count = 0;
    for (let i = from; i < to; i++) if (this.isTrained(text, i)) count++;
    return count;
  }

  #piece(position: number): Piece {
    const piece = this.#pieces[Math.floor(position / PIECE)];
    if (piece !== undefined) return piece;
    throw new RangeError(`token ${position} of ${this.size}`);
  }
}

function newPiece(): Piece {
  return { low: new Uint16Array(PIECE), high: null, trained: new Uint8Array(PIECE / 8) };
}

/** `values`, or a copy with room for `least` of them and as many again. */
export function growTo(values: Uint32Array, least: number): Uint32Array<ArrayBuffer> {
  if (least <= values.length) return values as Uint32Array<ArrayBuffer>;
  const grown = new Uint32Array(Math.max(least, 2 * values.length));
  grown.set(values);
  return grown;
}
