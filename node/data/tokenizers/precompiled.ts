/**
 * SentencePiece's own normalization, a table in the model: a double-array trie from UTF-8 to what it becomes, in
 * base64.
 */
import { TextBuilder } from './aligned-text.js';
import { utf8 } from './byte-level.js';
import { FormatError, textOf, type Fields } from './fields.js';
import type { Normalizer } from './normalizers.js';

/** A grapheme of this many bytes or more is looked up character by character. */
const GRAPHEME_BYTES_MAX = 6;

const segmenter = new Intl.Segmenter('und', { granularity: 'grapheme' });

/** Throws FormatError for a table that is cut short. */
export function precompiledNormalizer(config: Fields): Normalizer {
  const table = new CharacterTable(Buffer.from(textOf(config, 'precompiled_charsmap'), 'base64'));
  return (text) => {
    const builder = new TextBuilder(text.length + 16);
    let isChanged = false;
    const put = (part: string, at: number, changed: string | null): void => {
      isChanged ||= changed !== null;
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
    for (const { segment, index } of segmenter.segment(text.text)) {
      const bytes = utf8(segment);
      const whole = bytes.length < GRAPHEME_BYTES_MAX ? table.lookUp(bytes) : null;
      if (whole !== null) {
        put(segment, index, whole);
        continue;
      }
      let at = index;
      for (const character of segment) {
        put(character, at, table.lookUp(utf8(character)));
        at += character.length;
      }
    }
    return isChanged ? builder.build() : text;
  };
}

class CharacterTable {
  readonly #units: Uint32Array;
  readonly #texts: Buffer;

  constructor(bytes: Buffer) {
    const size = bytes.length >= 4 ? bytes.readUInt32LE(0) : 0;
    if (size === 0 || size % 4 !== 0 || 4 + size > bytes.length) {
      throw new FormatError('"precompiled_charsmap" is cut short');
    }
    this.#units = new Uint32Array(size / 4);
    for (let i = 0; i < this.#units.length; i++) this.#units[i] = bytes.readUInt32LE(4 + 4 * i);
    this.#texts = bytes.subarray(4 + size);
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
    const end = this.#texts.indexOf(0, start);
    return this.#texts.toString('utf8', start, end === -1 ? this.#texts.length : end);
  }
}

function offsetOf(unit: number): number {
  return (unit >>> 10) << ((unit & (1 << 9)) >>> 6);
}
