/** Finds private text in bytes, whole or in pieces, in any of the forms in which a program might send it. */

/** Bytes of text of which each piece is looked for: shorter ones turn up by chance. */
const PIECE_BYTES = 8;

/** Token ids that follow each other in a piece. */
const PIECE_TOKENS = 4;

/** What must not be found. */
export interface Canary {
  name: string;
  text: string;
  /** Ids of the text's tokens; empty where it is never tokenised. */
  tokens: readonly number[];
}

function pieces(whole: Buffer, length: number, step = 1): Buffer[] {
  const found: Buffer[] = [];
  for (let at = 0; at + length <= whole.length; at += step) {
    found.push(whole.subarray(at, at + length));
  }
  return found;
}

/** The pieces of text in one encoding after another. */
export function* piecesOfText(text: string): Generator<readonly [form: string, piece: Buffer]> {
  const utf8 = Buffer.from(text);
  const utf16 = Buffer.from(text, 'utf16le');
  const swapped = Buffer.from(utf16).swap16();
  for (const piece of pieces(utf8, PIECE_BYTES)) {
    yield ['utf8', piece];
    yield ['reversed', Buffer.from(piece).reverse()];
    yield ['hex', Buffer.from(piece.toString('hex'))];
    yield ['upper-case hex', Buffer.from(piece.toString('hex').toUpperCase())];
  }
  for (const piece of pieces(utf16, 2 * PIECE_BYTES, 2)) yield ['utf16le', piece];
  for (const piece of pieces(swapped, 2 * PIECE_BYTES, 2)) yield ['utf16be', piece];
  // A text may begin at any third of a group; what is before it is cut off, and what follows as well.
  for (const shift of [0, 1, 2]) {
    const base64 = Buffer.concat([Buffer.alloc(shift), utf8]).toString('base64');
    const safe = base64.slice(shift === 0 ? 0 : 4, -4);
    const length = Math.ceil((PIECE_BYTES * 4) / 3);
    const url = safe.replaceAll('+', '-').replaceAll('/', '_');
    for (const form of new Set([safe, url])) {
      for (const piece of pieces(Buffer.from(form), length)) yield ['base64', piece];
    }
  }
}

/** The pieces of a list of token ids: as numbers of two and four bytes, as varints and as JSON. */
export function* piecesOfTokens(
  tokens: readonly number[],
): Generator<readonly [form: string, piece: Buffer]> {
  for (let at = 0; at + PIECE_TOKENS <= tokens.length; at++) {
    const ids = tokens.slice(at, at + PIECE_TOKENS);
    const [little, big] = [Buffer.alloc(2 * ids.length), Buffer.alloc(2 * ids.length)];
    const wide = Buffer.alloc(4 * ids.length);
    for (const [i, id] of ids.entries()) {
      little.writeUInt16LE(id, 2 * i);
      big.writeUInt16BE(id, 2 * i);
      wide.writeUInt32LE(id, 4 * i);
    }
    yield ['tokens, 2 bytes', little];
    yield ['tokens, 2 bytes, big-endian', big];
    yield ['tokens, 4 bytes', wide];
    yield ['tokens, JSON', Buffer.from(JSON.stringify(ids).slice(1, -1))];
    const varints = ids.flatMap((id) => (id < 128 ? [id] : [(id & 127) | 128, id >> 7]));
    // Four small ids may turn up by chance.
    if (varints.length > PIECE_TOKENS + 2) yield ['tokens, varints', Buffer.from(varints)];
  }
}

/** What of `canaries` is in `bytes`: "name as form", each once. */
export function findCanaries(bytes: Buffer, canaries: readonly Canary[]): string[] {
  const byLength = new Map<number, Map<string, string>>();
  for (const { name, text, tokens } of canaries) {
    for (const [form, piece] of [...piecesOfText(text), ...piecesOfTokens(tokens)]) {
      const known = byLength.get(piece.length) ?? new Map<string, string>();
      byLength.set(piece.length, known.set(piece.toString('latin1'), `${name} as ${form}`));
    }
  }
  const found = new Set<string>();
  for (const [length, known] of byLength) {
    for (let at = 0; at + length <= bytes.length; at++) {
      const hit = known.get(bytes.toString('latin1', at, at + length));
      if (hit !== undefined) found.add(hit);
    }
  }
  return [...found].sort();
}
