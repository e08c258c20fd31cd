/** Tokens that are found in a text before it is tokenised, such as <|im_start|>. */
import { TooMuchError } from '../text-budget.js';
import { AlignedText } from './aligned-text.js';
import { countOf, FormatError, isFields, listOf, switchOf, textOf } from './fields.js';
import type { Normalizer } from './normalizers.js';
import { spaceAfter, spaceBefore } from './white-space.js';

export interface AddedToken {
  id: number;
  content: string;
  /** Left out of a text that is decoded for people. */
  special: boolean;
  /** Not within a word. */
  singleWord: boolean;
  /** Takes the white space before or after it along. */
  lstrip: boolean;
  rstrip: boolean;
  /** Found in the normalized text. */
  normalized: boolean;
}

export function addedTokensOf(config: unknown): AddedToken[] {
  return listOf(config ?? [], '"added_tokens"').map((entry) => {
    if (!isFields(entry)) throw new FormatError('an entry of "added_tokens" is not a JSON object');
    const special = switchOf(entry, 'special', false);
    return {
      id: countOf(entry, 'id'),
      content: textOf(entry, 'content'),
      special,
      singleWord: switchOf(entry, 'single_word', false),
      lstrip: switchOf(entry, 'lstrip', false),
      rstrip: switchOf(entry, 'rstrip', false),
      normalized: switchOf(entry, 'normalized', !special),
    };
  });
}

/** A stretch of a text: a token with its id, or text to be tokenised. */
export interface Section {
  piece: AlignedText;
  id: number | null;
}

interface Node {
  token: AddedToken | null;
  next: Map<number, Node>;
}

/** Characters of an added token as the normalizer writes it. */
const TOKEN_CHARACTERS_MAX = 4096;
/** Nodes of the tree of all of them, each of some 300 bytes. */
const NODES_MAX = 1 << 21;

const WORD_START = /^[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]/u;
const WORD_END = /[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]$/u;

/** Finds tokens, the leftmost first and of these the longest. */
class Finder {
  readonly #root: Node = { token: null, next: new Map() };
  /** 1 for units that some token begins with. */
  readonly #begins = new Uint8Array(2 ** 16);

  #nodes = 0;

  add(text: string, token: AddedToken): void {
    if (text === '') return;
    this.#begins[text.charCodeAt(0)] = 1;
    let node = this.#root;
    for (let i = 0; i < text.length; i++) {
      const unit = text.charCodeAt(i);
      let child = node.next.get(unit);
      if (child === undefined) {
        if (++this.#nodes > NODES_MAX) {
          throw new TooMuchError(`has added tokens of more than ${NODES_MAX} characters`);
        }
        node.next.set(unit, (child = { token: null, next: new Map() }));
      }
      node = child;
    }
    node.token = token;
  }

  split(piece: AlignedText): Section[] {
    const { text } = piece;
    const sections: Section[] = [];
    let done = 0;
    for (let at = 0; at < text.length;) {
      const found = this.#begins[text.charCodeAt(at)] === 1 ? this.#longest(text, at) : null;
      if (found === null) {
        at++;
        continue;
      }
      const { token, end } = found;
      const isWithin =
        token.singleWord &&
        (WORD_END.test(text.slice(Math.max(0, at - 2), at)) ||
          WORD_START.test(text.slice(end, end + 2)));
      if (!isWithin) {
        const start = token.lstrip ? Math.max(done, spaceBefore(text, at)) : at;
        const stop = token.rstrip ? spaceAfter(text, end) : end;
        if (start > done) sections.push({ piece: piece.slice(done, start), id: null });
        sections.push({ piece: piece.slice(start, stop), id: token.id });
        done = stop;
      }
      // White space that this token took along may be a token of its own as well, as in Rust.
      at = end;
    }
    if (done < text.length) sections.push({ piece: piece.slice(done, text.length), id: null });
    return sections;
  }

  #longest(text: string, start: number): { token: AddedToken; end: number } | null {
    let found: { token: AddedToken; end: number } | null = null;
    let node: Node | undefined = this.#root;
    for (let at = start; at < text.length;) {
      node = node.next.get(text.charCodeAt(at++));
      if (node === undefined) break;
      if (node.token !== null) found = { token: node.token, end: at };
    }
    return found;
  }
}

export class AddedTokens {
  readonly #raw = new Finder();
  readonly #normalized = new Finder();

  constructor(
    tokens: readonly AddedToken[],
    private readonly normalizer: Normalizer | null,
  ) {
    for (const token of tokens) {
      if (!token.normalized) {
        this.#raw.add(token.content, token);
        continue;
      }
      this.#normalized.add(this.shown(token), token);
    }
  }

  /** What the token is found as, and decoded to: its content, normalized where the text is. */
  shown({ content, normalized }: AddedToken): string {
    if (!normalized || this.normalizer === null) return content;
    const { text } = this.normalizer(AlignedText.of(content));
    if (text.length <= TOKEN_CHARACTERS_MAX) return text;
    throw new TooMuchError(
      `has an added token of ${text.length} characters, more than ${TOKEN_CHARACTERS_MAX}`,
    );
  }

  /** The text in sections, in order; what is no token is normalized. */
  sections(text: AlignedText): Section[] {
    return this.#raw.split(text).flatMap((section) => {
      if (section.id !== null) return [section];
      return this.#normalized.split(this.normalizer?.(section.piece) ?? section.piece);
    });
  }
}
