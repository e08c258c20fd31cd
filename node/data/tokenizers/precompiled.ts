/**
 * SentencePiece's own normalization, a table in the model: a double-array trie from UTF-8 to what it becomes, in
 * base64.
 */
import { TooMuchError } from '../text-budget.js';
import { TextBuilder } from './aligned-text.js';
import { utf8 } from './byte-level.js';
import { FormatError, textOf, type Fields } from './fields.js';
import type { Normalizer } from './normalizers.js';

/** A grapheme of this many bytes or more is looked up character by character. */
const GRAPHEME_BYTES_MAX = 6;

/** Bytes of what one character becomes: the longest in real tables have some 40. */
const ENTRY_BYTES_MAX = 1024;

/** Characters whose entries are remembered. */
const KNOWN_MAX = 10_000;

const segmenter = new Intl.Segmenter('und', { granularity: 'grapheme' });

/** Throws FormatError for a table that is cut short. */
export function precompiledNormalizer(config: Fields): Normalizer {
  const table = new CharacterTable(Buffer.from(textOf(config, 'precompiled_charsmap'), 'base64'));
  return (text) => {
    const builder = new TextBuilder(text.length + 16);
    const put = (part: string, at: number, changed: string | null): void => {
      if (changed === null) {
        builder.copy(text, at, at + part.length);
        return;
      }
      let [from, last] = [at, at];
      for (const character of changed) {
        const length = String.fromCodePoint(text.text.codePointAt(from) ?? 0).length;
        if (from < at + part.length) last = from;
        builder.append(
          character,
          text.startOf(last),
          text.endOf(Math.min(last + length, at + part.length) - 1),
        );
        from += length;
      }
    };
    const cut = (from: number, to: number): void => {
      for (const { segment, index } of segmenter.segment(text.text.slice(from, to))) {
        const whole = table.lookUpGrapheme(segment);
        if (whole !== null) {
          put(segment, from + index, whole);
          continue;
        }
        let at = from + index;
        for (const character of segment) {
          put(character, at, table.lookUpCharacter(character));
          at += character.length;
        }
      }
    };
    let done = 0;
    for (const { 0: run, index } of text.text.matchAll(table.plain)) {
      cut(done, index);
      // The last one may belong to a mark behind it.
      done = index + run.length - 1;
      builder.copy(text, index, done);
    }
    cut(done, text.length);
    return builder.text === text.text ? text : builder.build();
  };
}

class CharacterTable {
  /** Runs of ASCII that the table leaves alone: cutting a text into graphemes takes most of the time. */
  readonly plain: RegExp;
  readonly #units: Uint32Array;
  readonly #texts: Buffer;
  readonly #known = new Map<string, string | null>();

  constructor(bytes: Buffer) {
    const size = bytes.length >= 4 ? bytes.readUInt32LE(0) : 0;
    if (size === 0 || size % 4 !== 0 || 4 + size > bytes.length) {
      throw new FormatError('"precompiled_charsmap" is cut short');
    }
    this.#units = new Uint32Array(size / 4);
    for (let i = 0; i < this.#units.length; i++) this.#units[i] = bytes.readUInt32LE(4 + 4 * i);
    this.#texts = bytes.subarray(4 + size);
    const ascii = Array.from({ length: 95 }, (_, i) => String.fromCharCode(0x20 + i));
    const left = ascii.filter((character) => this.lookUpCharacter(character) === null);
    const codes = left.map((character) => `\\u{${character.charCodeAt(0).toString(16)}}`);
    this.plain = codes.length === 0 ? /(?!)/g : new RegExp(`[${codes.join('')}]{2,}`, 'gu');
  }

  lookUpGrapheme(grapheme: string): string | null {
    if (grapheme.length >= GRAPHEME_BYTES_MAX) return null;
    const bytes = utf8(grapheme);
    return bytes.length < GRAPHEME_BYTES_MAX ? this.lookUp(bytes) : null;
  }

  lookUpCharacter(character: string): string | null {
    let found = this.#known.get(character);
    if (found === undefined) {
      if (this.#known.size >= KNOWN_MAX) this.#known.clear();
      this.#known.set(character, (found = this.lookUp(utf8(character))));
    }
    return found;
  }

  /** What the shortest entry that the bytes begin with becomes; null without one. */
  lookUp(bytes: Uint8Array): string | null {
    let node = offsetOf(this.#unit(0));
    for (const byte of bytes) {
      if (byte === 0) return null;
      node ^= byte;
      const unit = this.#unit(node);
      if ((unit & 0x8000_00ff) >>> 0 !== byte) return null;
      node ^= offsetOf(unit);
      if (((unit >>> 8) & 1) === 1) return this.#text(this.#unit(node) & 0x7fff_ffff);
    }
    return null;
  }

  #unit(node: number): number {
    return this.#units[node] ?? 0;
  }

  #text(start: number): string {
    const entry = this.#texts.subarray(start, start + ENTRY_BYTES_MAX + 1);
    const end = entry.indexOf(0);
    const bytes = end === -1 ? entry.length : end;
    if (bytes <= ENTRY_BYTES_MAX) return entry.toString('utf8', 0, bytes);
    throw new TooMuchError(`writes more than ${ENTRY_BYTES_MAX} bytes for one character`);
  }
}

function offsetOf(unit: number): number {
  return (unit >>> 10) << ((unit & (1 << 9)) >>> 6);
}
