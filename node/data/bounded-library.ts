/**
 * Loads a library that runs a model's own programs into a context of its own, where no single operation on strings can
 * make more than a bounded amount of text. V8 ends the whole process when memory runs out, and no limit on time is
 * short enough to prevent that: one `replaceAll` can ask for a gigabyte.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { createContext, runInContext, Script } from 'node:vm';

/** Characters of one text: a record has 1 MiB at most, and a chat template adds little. */
export const TEXT_CHARACTERS_MAX = 1 << 21;
/** Characters of one string on the way: bytes of a text in Chinese take three of them for each of its characters. */
export const STRING_CHARACTERS_MAX = 4 * TEXT_CHARACTERS_MAX;
/** Characters that replacing may add to one text, over all its pieces. */
const ADDED_CHARACTERS_MAX = 4 * TEXT_CHARACTERS_MAX;
/** Pieces that one `split` may make, with those that its groups add. */
const PIECES_MAX = 1 << 23;
/** Joining so few pieces needs no count: each is bounded, and tokenizers join the bytes of every word. */
const UNCOUNTED_PIECES = 16;

/** Thrown by what makes too much; the message completes "PATH ...". */
export class TooMuchError extends Error {
  override readonly name = 'TooMuchError';
}

/** Characters that replacing has added since the last call of `startCounting`. */
let added = 0;

/** Begins a call into a library: what it adds to its text is counted from here. */
export function startCounting(): void {
  added = 0;
}

/**
 * The exports of a package's CommonJS file, run in a context with bounded strings. `joins`: whether `join` is bounded
 * too. A tokenizer joins the bytes of every word, and only what it was given or what replacing added.
 */
export function loadBounded(packageName: string, { joins = true } = {}): unknown {
  const path = createRequire(import.meta.url).resolve(packageName);
  const exports = {};
  const module = { exports };
  const context = createContext(
    { module, exports, TextEncoder, TextDecoder },
    { codeGeneration: { strings: false, wasm: false } },
  );
  boundStrings(
    runInContext('({ array: Array.prototype, string: String.prototype })', context) as Prototypes,
    joins,
  );
  new Script(readFileSync(path, 'utf8'), { filename: path }).runInContext(context);
  return module.exports;
}

interface Prototypes {
  array: object;
  string: object;
}

/** In these functions a string's own methods are those of this context, without bounds. */
function boundStrings({ array, string }: Prototypes, joins: boolean): void {
  const define = (target: object, name: string, value: unknown): void => {
    Object.defineProperty(target, name, { value, writable: true, configurable: true });
  };
  if (joins)
    define(array, 'join', function join(this: Piece[], separator = ',') {
      return boundedJoin(this, separator);
    });
  define(
    string,
    'replaceAll',
    function replaceAll(this: string, pattern: string | RegExp, replacement: Replacement) {
      return boundedReplaceAll(this, pattern, replacement);
    },
  );
  define(string, 'repeat', function repeat(this: string, count: number) {
    checkLength(this.length * count);
    return this.repeat(count);
  });
  define(string, 'normalize', function normalize(this: string, form?: string) {
    return checked(this.normalize(form));
  });
  define(string, 'split', function split(this: string, separator: string | RegExp, limit?: number) {
    if (typeof separator === 'string') return this.split(separator, limit);
    checkPieces(this, separator);
    return this.split(separator, limit);
  });
}

function checkLength(characters: number): void {
  if (characters <= STRING_CHARACTERS_MAX) return;
  throw new TooMuchError(`makes a text of more than ${STRING_CHARACTERS_MAX} characters`);
}

/** `text`, when it is not too long. */
function checked(text: string): string {
  checkLength(text.length);
  return text;
}

function boundedJoin(pieces: Piece[], separator: string): string {
  if (pieces.length <= UNCOUNTED_PIECES) return Array.prototype.join.call(pieces, separator);
  let characters = (pieces.length - 1) * separator.length;
  const texts: string[] = [];
  for (const piece of pieces) {
    const text = typeof piece === 'string' ? piece : textOf(piece);
    characters += text.length;
    checkLength(characters);
    texts.push(text);
  }
  return texts.join(separator);
}

/** What a list of the libraries holds. */
type Piece = { toString: () => string } | null | undefined;

/** As `join` writes what is not a string. */
function textOf(piece: Piece): string {
  // The values of a template know how to write themselves.
  return piece === undefined || piece === null ? '' : piece.toString();
}

type Replacement = string | ((...match: string[]) => string);

/**
 * A replacement stands for itself, as in Hugging Face's own library: "$&" in it means nothing. (In JavaScript "$'"
 * would put in the rest of the text, at each place.)
 */
function boundedReplaceAll(
  text: string,
  pattern: string | RegExp,
  replacement: Replacement,
): string {
  // The common case: a space, as SentencePiece writes it.
  if (typeof replacement === 'string' && replacement.length <= 1 && replacement !== '$') {
    return checked(text.replaceAll(pattern, replacement));
  }
  let characters = 0;
  const counted = (...match: string[]): string => {
    const put = typeof replacement === 'string' ? replacement : replacement(...match);
    characters += put.length;
    checkLength(characters);
    return put;
  };
  const result = checked(text.replaceAll(pattern, counted));
  added += Math.max(0, result.length - text.length);
  if (added > ADDED_CHARACTERS_MAX) {
    throw new TooMuchError(`adds more than ${ADDED_CHARACTERS_MAX} characters to one text`);
  }
  return result;
}

/** `split` gives what each group matched as well, at each place. */
function checkPieces(text: string, separator: RegExp): void {
  const groups = (new RegExp(`${separator.source}|`, separator.flags).exec('')?.length ?? 1) - 1;
  if ((text.length + 1) * (groups + 1) <= PIECES_MAX) return;
  throw new TooMuchError(
    `splits a text of ${text.length} characters by a pattern with ${groups} groups, which may give more than ${PIECES_MAX} pieces`,
  );
}
