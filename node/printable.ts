/**
 * Text of strangers (a model's output, names and errors from other peers) made safe to print: nothing in it can move
 * the cursor, change what was printed before, or turn the order of a line around.
 */

/**
 * What a terminal may act on: C0 and C1 controls (ESC, CR, backspace, ...), marks that change the direction of writing,
 * line and paragraph separators, and halves of surrogate pairs, which are no characters.
 */
const STEERING = /[\p{Cc}\p{Cs}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/gu;
const STEERING_BUT_LINES = /[^\P{Cc}\n\t]|[\p{Cs}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/gu;

/** Of several lines: line feeds and tabs stay, everything else that steers becomes an escape such as \u001b. */
export function printable(text: string): string {
  return text.replace(STEERING_BUT_LINES, escape);
}

/** Within one line: as `printable`, line feeds and tabs too. */
export function printableLine(text: string): string {
  return text.replace(STEERING, escape);
}

const SHORT: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' };

/** As JSON writes it, so that JSON with such a character in it stays JSON of the same value. */
function escape(character: string): string {
  return SHORT[character] ?? `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
}
