/**
 * How much a model's own programs (tokenizer, chat template) may make of one text, beside the time. V8 ends the whole
 * process when memory runs out, and no limit on time is short enough to prevent that.
 */

/** Characters of one text: a record has 1 MiB at most, and a chat template adds little. */
export const TEXT_CHARACTERS_MAX = 1 << 21;
/** Characters of one string on the way: bytes of a text in Chinese take three of them for each of its characters. */
export const STRING_CHARACTERS_MAX = 4 * TEXT_CHARACTERS_MAX;
/** Characters that all steps of a tokenizer make of one text: the longest record through ten steps has a sixth. */
const MADE_CHARACTERS_MAX = 1 << 26;
/** What a piece of a text takes in memory, in characters with their places. */
const PIECE_CHARACTERS = 16;

/** Thrown by what makes too much; the message completes "PATH ...". */
export class TooMuchError extends Error {
  override readonly name = 'TooMuchError';
}

/** Characters that a tokenizer has made since the last call of `startCounting`. */
let made = 0;

/** Begins a call into a tokenizer: what it makes of its text is counted from here. */
export function startCounting(): void {
  made = 0;
}

/** A step of the tokenizer is about to make so many characters. */
export function countMade(characters: number): void {
  made += characters;
  if (made > MADE_CHARACTERS_MAX) {
    throw new TooMuchError(
      `makes more than ${MADE_CHARACTERS_MAX} characters of one text, over all its steps`,
    );
  }
}

/** A step cuts one more piece out of the text. */
export function countPiece(): void {
  countMade(PIECE_CHARACTERS);
}

export function checkLength(characters: number): void {
  if (characters <= STRING_CHARACTERS_MAX) return;
  throw new TooMuchError(`makes a text of more than ${STRING_CHARACTERS_MAX} characters`);
}
