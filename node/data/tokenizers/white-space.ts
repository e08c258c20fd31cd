/** Unicode's white space, which is not JavaScript's \s: U+0085 is in it and U+FEFF is not. Linear in any text. */

const SPACE = /\p{White_Space}/u;

/** Where the white space that ends at `end` begins. All of it has one unit a character. */
export function spaceBefore(text: string, end: number): number {
  let at = end;
  while (at > 0 && SPACE.test(text.charAt(at - 1))) at--;
  return at;
}

/** Where the white space that begins at `start` ends. */
export function spaceAfter(text: string, start: number): number {
  let at = start;
  while (at < text.length && SPACE.test(text.charAt(at))) at++;
  return at;
}
