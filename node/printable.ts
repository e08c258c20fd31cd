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

/** Of several lines: line feeds and tabs stay, everything else that steers becomes an escape such as \x1b. */
export function printable(text: string): string {
  return text.replace(STEERING_BUT_LINES, escape);
}

/** Within one line: as `printable`, line feeds and tabs too. */
export function printableLine(text: string): string {
  return text.replace(STEERING, escape);
}

function escape(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  if (character === '\n') return '\\n';
  if (character === '\t') return '\\t';
  if (character === '\r') return '\\r';
  const digits = code.toString(16);
  return code <= 0xff ? `\\x${digits.padStart(2, '0')}` : `\\u{${digits}}`;
}
