/** Bytes as printable characters, as GPT-2 writes them, and bytes as tokens like <0x0A>. */
import { TextBuilder, type AlignedText } from './aligned-text.js';

const CHARACTERS: readonly string[] = (() => {
  const isPrintable = (byte: number): boolean =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) =>
    String.fromCharCode(isPrintable(byte) ? byte : next++),
  );
})();
const BYTES: ReadonlyMap<string, number> = new Map(
  CHARACTERS.map((character, byte) => [character, byte]),
);

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
const strictDecoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Every byte of the text in UTF-8 as one character, in the place of the character that it belongs to. */
export function toByteLevel(text: AlignedText): AlignedText {
  const { text: characters } = text;
  let [mapped, isAscii] = ['', true];
  for (let i = 0; i < characters.length; i++) {
    const code = characters.charCodeAt(i);
    if (code > 0x7f) {
      isAscii = false;
      break;
    }
    mapped += CHARACTERS[code] ?? '';
  }
  if (isAscii) return text.renamed(mapped);
  const builder = new TextBuilder(3 * characters.length);
  let at = 0;
  for (const character of characters) {
    const next = at + character.length;
    builder.append(bytesOf(character), text.startOf(at), text.endOf(next - 1));
    at = next;
  }
  return builder.build();
}

function bytesOf(character: string): string {
  return Array.from(encoder.encode(character), (byte) => CHARACTERS[byte] ?? '').join('');
}

/** The text of tokens that toByteLevel made; other tokens stand for themselves. */
export function fromByteLevel(tokens: readonly string[]): string {
  const bytes: number[] = [];
  for (const token of tokens) {
    const own = Array.from(token, (character) => BYTES.get(character));
    const known = own.includes(undefined) ? encoder.encode(token) : own;
    // Not as arguments of one call: a token may be longer than the stack is deep.
    for (const byte of known) bytes.push(byte ?? 0);
  }
  return decoder.decode(Uint8Array.from(bytes));
}

/** "<0x0A>" for a line feed. */
export function byteToken(byte: number): string {
  return `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`;
}

/** The byte of a token like <0x0A>; null for others. */
export function byteOfToken(token: string): number | null {
  const [, hex] = /^<0x([0-9A-Fa-f]{2})>$/.exec(token) ?? [];
  return hex === undefined ? null : Number.parseInt(hex, 16);
}

export function utf8(text: string): Uint8Array {
  return encoder.encode(text);
}

/** Null for bytes that are not valid UTF-8. */
export function textOfBytes(bytes: readonly number[]): string | null {
  try {
    return strictDecoder.decode(Uint8Array.from(bytes));
  } catch {
    return null;
  }
}
