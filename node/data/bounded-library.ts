/**
 * Loads a library that runs a model's own programs into a context of its own, where no single operation on strings can
 * make more than a bounded amount of text: one `replaceAll` can ask for a gigabyte.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { createContext, runInContext, Script } from 'node:vm';
import { checkLength, TEXT_CHARACTERS_MAX, TooMuchError } from './text-budget.js';

/** Characters that replacing may add to one text, over all its pieces. */
const ADDED_CHARACTERS_MAX = 4 * TEXT_CHARACTERS_MAX;
/** Joining so few pieces needs no count: each is bounded. */
const UNCOUNTED_PIECES = 16;

/** Characters that replacing has added since the last call of `startCountingAdded`. */
let added = 0;

/** Begins a call into the library: what it adds to its text is counted from here. */
export function startCountingAdded(): void {
  added = 0;
}

/** A library in a context of its own. */
export interface BoundedLibrary {
  exports: unknown;
  /** A list of the context, with its bounded methods, of the same items. */
  listOf: (items: readonly unknown[]) => unknown[];
}

/** The exports of a package's CommonJS file, run in a context with bounded strings. */
export function loadBounded(packageName: string): BoundedLibrary {
  const path = createRequire(import.meta.url).resolve(packageName);
  const exports = {};
  const module = { exports };
  const context = createContext(
    { module, exports, TextEncoder, TextDecoder },
    { codeGeneration: { strings: false, wasm: false } },
  );
  boundStrings(
    runInContext('({ array: Array.prototype, string: String.prototype })', context) as Prototypes,
  );
  const listOf = runInContext(
    '((from) => (items) => from(items))(Array.from.bind(Array))',
    context,
  ) as BoundedLibrary['listOf'];
  new Script(readFileSync(path, 'utf8'), { filename: path }).runInContext(context);
  return { exports: module.exports, listOf };
}

interface Prototypes {
  array: object;
  string: object;
}

/** In these functions a string's own methods are those of this context, without bounds. */
function boundStrings({ array, string }: Prototypes): void {
  const define = (target: object, name: string, value: unknown): void => {
    Object.defineProperty(target, name, { value, writable: true, configurable: true });
  };
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
}

/** `text`, when it is not too long. */
function checked(text: string): string {
  checkLength(text.length);
  return text;
}

/** As `join` of a list, within the bound. */
export function boundedJoin(pieces: readonly Piece[], separator: string): string {
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

/** What a list of the library holds. */
type Piece = { toString: () => string } | null | undefined;

/** As `join` writes what is not a string. */
function textOf(piece: Piece): string {
  // The values of a template know how to write themselves.
  return piece === undefined || piece === null ? '' : piece.toString();
}

type Replacement = string | ((...match: string[]) => string);

/** A replacement stands for itself: "$&" in it means nothing. ("$'" would put in the rest of the text, at each place.) */
function boundedReplaceAll(
  text: string,
  pattern: string | RegExp,
  replacement: Replacement,
): string {
  // The common case: nothing, or a space.
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
