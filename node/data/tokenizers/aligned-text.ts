/**
 * Text that knows which stretch of the original each of its characters came from, through every change that a
 * normalizer or pre-tokenizer makes. Offsets follow `NormalizedString` of Hugging Face's tokenizers: a character
 * that replaces another has its place, an inserted one shares the place of the one before it.
 *
 * Positions are UTF-16 units, as everywhere in JavaScript.
 */

import { checkLength, countMade, countPiece } from '../text-budget.js';

/** Beyond any text: where one begins that goes on from another. */
const CONTINUED = 1 << 29;

export class AlignedText {
  /**
   * Unit i of `text` came from [starts[i], ends[i]) of the original; without these two from
   * [origin + i, origin + i + 1).
   */
  private constructor(
    readonly text: string,
    private readonly origin: number,
    private readonly starts: Int32Array | null,
    private readonly ends: Int32Array | null,
  ) {}

  static of(text: string): AlignedText {
    return new AlignedText(text, 0, null, null);
  }

  /** A text that goes on from another: nothing is put in front of it, and its places count from CONTINUED. */
  static continuing(text: string): AlignedText {
    return new AlignedText(text, CONTINUED, null, null);
  }

  static built(text: string, starts: Int32Array, ends: Int32Array): AlignedText {
    return new AlignedText(text, 0, starts, ends);
  }

  get length(): number {
    return this.text.length;
  }

  /** Whether the text is an unchanged stretch of the original. */
  get isOriginal(): boolean {
    return this.starts === null;
  }

  startOf(unit: number): number {
    return this.starts === null ? this.origin + unit : (this.starts[unit] ?? 0);
  }

  endOf(unit: number): number {
    return this.ends === null ? this.origin + unit + 1 : (this.ends[unit] ?? 0);
  }

  slice(from: number, to: number): AlignedText {
    if (from === 0 && to === this.length) return this;
    countPiece();
    const text = this.text.slice(from, to);
    if (this.starts === null || this.ends === null) {
      return new AlignedText(text, this.origin + from, null, null);
    }
    return AlignedText.built(text, this.starts.subarray(from, to), this.ends.subarray(from, to));
  }

  /** `text` of the same length in the same places. */
  renamed(text: string): AlignedText {
    return new AlignedText(text, this.origin, this.starts, this.ends);
  }

  /** Each match of `pattern` (global) becomes `content`, in the place of the match's last character. */
  replaced(pattern: RegExp, content: string): AlignedText {
    const builder = new TextBuilder(this.length);
    let done = 0;
    for (const match of this.text.matchAll(pattern)) {
      const end = match.index + match[0].length;
      builder.copy(this, done, match.index);
      if (content !== '') {
        // An insertion at the very beginning has no character before it, and lies at 0.
        const [start, stop] = end === 0 ? [0, 0] : [this.startOf(end - 1), this.endOf(end - 1)];
        builder.append(content, start, stop);
      }
      done = end;
    }
    if (done === 0 && builder.length === 0) return this;
    builder.copy(this, done, this.length);
    return builder.build();
  }

  /** `prefix` in front, in the place of the first character; but not of nothing, nor of what goes on from a text. */
  prefixed(prefix: string): AlignedText {
    if (this.length === 0 || prefix === '' || this.startOf(0) === CONTINUED) return this;
    const builder = new TextBuilder(this.length + prefix.length);
    const first = String.fromCodePoint(this.text.codePointAt(0) ?? 0);
    builder.append(prefix, this.startOf(0), this.endOf(first.length - 1));
    builder.copy(this, 0, this.length);
    return builder.build();
  }

  /**
   * Each character (code point) becomes what `change` makes of it, in its place; '' takes it out.
   */
  mapped(change: (character: string) => string): AlignedText {
    const builder = new TextBuilder(this.length);
    let at = 0;
    for (const character of this.text) {
      const next = at + character.length;
      const changed = change(character);
      if (changed === character) builder.copy(this, at, next);
      else builder.append(changed, this.startOf(at), this.endOf(next - 1));
      at = next;
    }
    return builder.text === this.text ? this : builder.build();
  }
}

/** Collects the pieces of an AlignedText. */
export class TextBuilder {
  #parts: string[] = [];
  #starts: Int32Array;
  #ends: Int32Array;
  length = 0;

  /** `room`: characters that are expected. */
  constructor(room: number) {
    countMade(room);
    this.#starts = new Int32Array(room + 16);
    this.#ends = new Int32Array(room + 16);
  }

  get text(): string {
    return this.#parts.join('');
  }

  /** `text`, all of which came from [start, end) of the original. */
  append(text: string, start: number, end: number): void {
    this.#reserve(text.length);
    this.#starts.fill(start, this.length, this.length + text.length);
    this.#ends.fill(end, this.length, this.length + text.length);
    this.#parts.push(text);
    this.length += text.length;
  }

  copy(from: AlignedText, start: number, end: number): void {
    if (end <= start) return;
    this.#reserve(end - start);
    for (let unit = start; unit < end; unit++) {
      this.#starts[this.length] = from.startOf(unit);
      this.#ends[this.length] = from.endOf(unit);
      this.length++;
    }
    this.#parts.push(from.text.slice(start, end));
  }

  build(): AlignedText {
    const { length } = this;
    return AlignedText.built(
      this.text,
      this.#starts.subarray(0, length),
      this.#ends.subarray(0, length),
    );
  }

  #reserve(more: number): void {
    if (this.length + more <= this.#starts.length) return;
    checkLength(this.length + more);
    const room = Math.max(this.length + more, 2 * this.#starts.length);
    countMade(room - this.#starts.length);
    const grow = (old: Int32Array): Int32Array => {
      const grown = new Int32Array(room);
      grown.set(old);
      return grown;
    };
    this.#starts = grow(this.#starts);
    this.#ends = grow(this.#ends);
  }
}
