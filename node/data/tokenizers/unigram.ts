/** SentencePiece's unigram model: of all ways to cut a word into tokens the likeliest. */
import { byteToken, utf8 } from './byte-level.js';
import { countOf, FormatError, listOf, switchOf, type Fields } from './fields.js';
import { noToken, type WordModel, type WordTokens } from './word-model.js';

/** How much less likely than the unlikeliest token an unknown character is, in natural logarithms. */
const UNKNOWN_PENALTY = 10;

interface Node {
  id: number;
  readonly next: Map<number, Node>;
}

export function unigram(config: Fields): WordModel {
  const vocabulary = new Map<string, number>();
  const scores: number[] = [];
  for (const [id, entry] of listOf(config['vocab'], 'the vocabulary').entries()) {
    const [token, score] = listOf(entry, 'an entry of the vocabulary');
    if (typeof token !== 'string' || typeof score !== 'number') {
      throw new FormatError(`entry ${id} of the vocabulary is not a token and its score`);
    }
    vocabulary.set(token, id);
    scores.push(score);
  }
  const hasUnknown = config['unk_id'] !== null && config['unk_id'] !== undefined;
  const unknown = hasUnknown ? countOf(config, 'unk_id') : null;
  if (unknown !== null && unknown >= scores.length) {
    throw new FormatError('"unk_id" is beyond the vocabulary');
  }
  const bytes = switchOf(config, 'byte_fallback', false)
    ? Array.from({ length: 256 }, (_, byte) => vocabulary.get(byteToken(byte)))
    : null;
  return new Unigram(vocabulary, scores, unknown, bytes);
}

class Unigram implements WordModel {
  readonly #root: Node = { id: -1, next: new Map() };
  readonly #unknownScore: number;

  constructor(
    readonly vocabulary: ReadonlyMap<string, number>,
    readonly scores: readonly number[],
    readonly unknown: number | null,
    readonly bytes: readonly (number | undefined)[] | null,
  ) {
    for (const [token, id] of vocabulary) {
      let node = this.#root;
      for (let i = 0; i < token.length; i++) {
        const unit = token.charCodeAt(i);
        let child = node.next.get(unit);
        if (child === undefined) node.next.set(unit, (child = { id: -1, next: new Map() }));
        node = child;
      }
      node.id = id;
    }
    const least = scores.reduce((min, score) => Math.min(min, score), Infinity);
    this.#unknownScore = least - UNKNOWN_PENALTY;
  }

  tokens(word: string): WordTokens {
    const { from, ids } = this.#bestPath(word);
    const pieces: [number, number, number][] = [];
    for (let end = word.length; end > 0; end = from[end] ?? 0) {
      const start = from[end] ?? 0;
      const id = ids[end] ?? 0;
      const last = pieces.at(-1);
      // Unknown characters side by side are one token.
      if (id === this.unknown && last?.[0] === this.unknown) last[1] = start;
      else pieces.push([id, start, end]);
    }
    return pieces.reverse().flatMap((piece) => this.#spelled(word, piece));
  }

  /** Where the best token that ends at each position begins, and which it is. */
  #bestPath(word: string): { from: Int32Array; ids: Int32Array } {
    const size = word.length + 1;
    const [from, ids, best] = [
      new Int32Array(size).fill(-1),
      new Int32Array(size),
      new Float64Array(size),
    ];
    const offer = (start: number, end: number, id: number, score: number): void => {
      if (from[end] !== -1 && score <= (best[end] ?? 0)) return;
      [best[end], from[end], ids[end]] = [score, start, id];
    };
    for (let start = 0; start < word.length;) {
      const length = String.fromCodePoint(word.codePointAt(start) ?? 0).length;
      const soFar = best[start] ?? 0;
      let [node, isKnown]: [Node | undefined, boolean] = [this.#root, false];
      for (let end = start; end < word.length;) {
        node = node.next.get(word.charCodeAt(end));
        if (node === undefined) break;
        end++;
        if (node.id === -1) continue;
        offer(start, end, node.id, (this.scores[node.id] ?? 0) + soFar);
        isKnown ||= end - start === length;
      }
      if (!isKnown) {
        if (this.unknown === null) throw noToken();
        offer(start, start + length, this.unknown, this.#unknownScore + soFar);
      }
      start += length;
    }
    return { from, ids };
  }

  /** A piece that the vocabulary lacks as its bytes, where these have tokens. */
  #spelled(word: string, [id, start, end]: [number, number, number]): number[] {
    if (id !== this.unknown || this.bytes === null) return [id, start, end];
    const text = word.slice(start, end);
    if (this.vocabulary.has(text)) return [id, start, end];
    const ids = Array.from(utf8(text), (byte) => this.bytes?.[byte]);
    if (ids.includes(undefined)) return [id, start, end];
    return ids.flatMap((byte) => [byte ?? 0, start, end]);
  }
}
