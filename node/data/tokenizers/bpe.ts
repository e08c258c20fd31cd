/** Byte-pair encoding: a word's characters are joined, the pair of the lowest rank first. */
import { byteToken, utf8 } from './byte-level.js';
import { FormatError, listOf, switchOf, textOf, vocabularyOf, type Fields } from './fields.js';
import type { WordModel, WordTokens } from './word-model.js';

/** Pairs of tokens, with the rank of each and what it becomes: open addressing, 16 bytes a slot. */
class Merges {
  #mask: number;
  #left: Int32Array;
  #right: Int32Array;
  #rank: Int32Array;
  #joined: Int32Array;

  constructor(count: number) {
    const size = 2 ** Math.ceil(Math.log2(2 * count + 2));
    this.#mask = size - 1;
    this.#left = new Int32Array(size).fill(-1);
    this.#right = new Int32Array(size);
    this.#rank = new Int32Array(size);
    this.#joined = new Int32Array(size);
  }

  #slot(left: number, right: number): number {
    let slot = (Math.imul(left, 0x9e37_79b1) ^ Math.imul(right, 0x85eb_ca6b)) >>> 0;
    slot = (slot ^ (slot >>> 15)) & this.#mask;
    while (this.#left[slot] !== -1) {
      if (this.#left[slot] === left && this.#right[slot] === right) return slot;
      slot = (slot + 1) & this.#mask;
    }
    return slot;
  }

  set(left: number, right: number, rank: number, joined: number): void {
    const slot = this.#slot(left, right);
    this.#left[slot] = left;
    this.#right[slot] = right;
    this.#rank[slot] = rank;
    this.#joined[slot] = joined;
  }

  /** -1 for a pair that is not joined. */
  rank(left: number, right: number): number {
    const slot = this.#slot(left, right);
    return this.#left[slot] === -1 ? -1 : (this.#rank[slot] ?? -1);
  }

  joined(left: number, right: number): number {
    return this.#joined[this.#slot(left, right)] ?? -1;
  }
}

/** Throws FormatError for merges of tokens that are not in the vocabulary. */
export function bytePairEncoding(config: Fields): WordModel {
  return new BytePairs(config);
}

class BytePairs implements WordModel {
  readonly vocabulary: Map<string, number>;
  readonly #merges: Merges;
  readonly #prefix: string;
  readonly #suffix: string;
  readonly #unknown: number | undefined;
  readonly #fusesUnknown: boolean;
  readonly #ignoresMerges: boolean;
  /** Ids of the 256 bytes; null without byte fallback. */
  readonly #bytes: readonly (number | undefined)[] | null;

  constructor(config: Fields) {
    this.vocabulary = vocabularyOf(config['vocab']);
    this.#prefix = textOf(config, 'continuing_subword_prefix', '');
    this.#suffix = textOf(config, 'end_of_word_suffix', '');
    const unknown = textOf(config, 'unk_token', '');
    this.#unknown = unknown === '' ? undefined : this.vocabulary.get(unknown);
    this.#fusesUnknown = switchOf(config, 'fuse_unk', false);
    this.#ignoresMerges = switchOf(config, 'ignore_merges', false);
    this.#bytes = switchOf(config, 'byte_fallback', false)
      ? Array.from({ length: 256 }, (_, byte) => this.vocabulary.get(byteToken(byte)))
      : null;
    this.#merges = this.#readMerges(listOf(config['merges'], '"merges"'));
  }

  #readMerges(list: readonly unknown[]): Merges {
    const merges = new Merges(list.length);
    for (const [rank, merge] of list.entries()) {
      const pair: readonly unknown[] =
        typeof merge === 'string' ? merge.split(' ') : listOf(merge, 'a merge');
      const [left, right, more] = pair;
      if (typeof left !== 'string' || typeof right !== 'string' || more !== undefined) {
        throw new FormatError(`merge ${rank} is not a pair of tokens`);
      }
      const [a, b, joined] = [left, right, left + right.slice(this.#prefix.length)].map((token) =>
        this.vocabulary.get(token),
      );
      if (a === undefined || b === undefined || joined === undefined) {
        throw new FormatError(`merge ${rank} has a token that is not in the vocabulary`);
      }
      merges.set(a, b, rank, joined);
    }
    return merges;
  }

  tokens(word: string): WordTokens {
    if (this.#ignoresMerges) {
      const id = this.vocabulary.get(word);
      if (id !== undefined) return [id, 0, word.length];
    }
    const symbols = new Symbols(word.length);
    this.#split(word, symbols);
    symbols.join(this.#merges);
    return symbols.result();
  }

  /** The word's characters as tokens: themselves, their bytes, or the unknown token. */
  #split(word: string, symbols: Symbols): void {
    let at = 0;
    let unknownFrom = -1;
    const flush = (to: number): void => {
      if (unknownFrom !== -1 && this.#unknown !== undefined)
        symbols.push(this.#unknown, unknownFrom, to);
      unknownFrom = -1;
    };
    for (const character of word) {
      const end = at + character.length;
      const name = `${at > 0 ? this.#prefix : ''}${character}${end === word.length ? this.#suffix : ''}`;
      const id = this.vocabulary.get(name);
      const bytes = id === undefined ? this.#bytesOf(name) : null;
      if (id !== undefined || bytes !== null) {
        flush(at);
        for (const one of bytes ?? [id ?? 0]) symbols.push(one, at, end);
      } else {
        if (!this.#fusesUnknown) flush(at);
        if (unknownFrom === -1) unknownFrom = at;
      }
      at = end;
    }
    flush(word.length);
  }

  #bytesOf(character: string): number[] | null {
    if (this.#bytes === null) return null;
    const ids: number[] = [];
    for (const byte of utf8(character)) {
      const id = this.#bytes[byte];
      if (id === undefined) return null;
      ids.push(id);
    }
    return ids;
  }
}

/** The tokens of one word while they are joined: a list with links, and a heap of the pairs by rank and place. */
class Symbols {
  #count = 0;
  #id: Int32Array;
  #from: Int32Array;
  #to: Int32Array;
  #next: Int32Array;
  #before: Int32Array;
  /** rank * 2^25 + place, the smallest first: exact below 2^53. */
  readonly #heap: number[] = [];

  constructor(room: number) {
    // A character has up to four bytes.
    const size = 4 * room + 1;
    [this.#id, this.#from, this.#to] = [
      new Int32Array(size),
      new Int32Array(size),
      new Int32Array(size),
    ];
    [this.#next, this.#before] = [new Int32Array(size), new Int32Array(size)];
  }

  push(id: number, from: number, to: number): void {
    const i = this.#count++;
    this.#id[i] = id;
    this.#from[i] = from;
    this.#to[i] = to;
    this.#before[i] = i - 1;
    this.#next[i] = i + 1;
  }

  join(merges: Merges): void {
    const count = this.#count;
    const offer = (i: number): void => {
      const next = this.#next[i] ?? count;
      if (i < 0 || next >= count) return;
      const rank = merges.rank(this.#id[i] ?? 0, this.#id[next] ?? 0);
      if (rank >= 0) this.#add(rank * 2 ** 25 + i);
    };
    for (let i = 0; i + 1 < count; i++) offer(i);
    while (this.#heap.length > 0) {
      const key = this.#least();
      const i = key % 2 ** 25;
      const next = this.#next[i] ?? count;
      if (this.#id[i] === -1 || next >= count) continue;
      const [left, right] = [this.#id[i] ?? 0, this.#id[next] ?? 0];
      // One of the two has been joined to another since.
      if (merges.rank(left, right) !== Math.floor(key / 2 ** 25)) continue;
      this.#id[i] = merges.joined(left, right);
      this.#to[i] = this.#to[next] ?? 0;
      this.#id[next] = -1;
      const after = this.#next[next] ?? count;
      this.#next[i] = after;
      if (after < count) this.#before[after] = i;
      offer(this.#before[i] ?? -1);
      offer(i);
    }
  }

  result(): number[] {
    const tokens: number[] = [];
    for (let i = 0; i < this.#count; i = this.#next[i] ?? this.#count) {
      tokens.push(this.#id[i] ?? 0, this.#from[i] ?? 0, this.#to[i] ?? 0);
    }
    return tokens;
  }

  #add(key: number): void {
    const heap = this.#heap;
    let at = heap.push(key) - 1;
    while (at > 0) {
      const up = (at - 1) >> 1;
      const parent = heap[up] ?? 0;
      if (parent <= key) break;
      heap[at] = parent;
      at = up;
    }
    heap[at] = key;
  }

  #least(): number {
    const heap = this.#heap;
    const least = heap[0] ?? 0;
    const last = heap.pop() ?? 0;
    const { length } = heap;
    if (length === 0) return least;
    let at = 0;
    for (;;) {
      let down = 2 * at + 1;
      if (down >= length) break;
      if (down + 1 < length && (heap[down + 1] ?? 0) < (heap[down] ?? 0)) down++;
      const child = heap[down] ?? 0;
      if (child >= last) break;
      heap[at] = child;
      at = down;
    }
    heap[at] = last;
    return least;
  }
}
