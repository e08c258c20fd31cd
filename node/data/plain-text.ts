/**
 * Plain text in blocks of paragraphs. Where a block ends is decided by the hash of the paragraph there
 * (content-defined chunking: Muthitacharoen et al., "A Low-bandwidth Network File System", 2001), so
 * that text added in one place leaves the blocks elsewhere, and their side of the split, as they were.
 */
import { contentHash } from './content-hash.js';
import { readLines } from './lines.js';
import type { DataRecord } from './records.js';

/** A block has at least this many characters (some 300 tokens), so that sentences have context... */
export const BLOCK_CHARACTERS_MIN = 1000;
/** ...and ends at the first paragraph beyond this many even if no hash says so. */
export const BLOCK_CHARACTERS_MAX = 8000;
/** One paragraph in this many may end a block. */
const BOUNDARY_ONE_IN = 2;

/** A paragraph with the line breaks after it, or a piece of one that is longer than a block may be. */
interface Paragraph {
  text: string;
  line: number;
}

/**
 * Yields the file as blocks in order; only the last one ends the document. Paragraphs are separated by
 * blank lines; several blank lines count as one. Throws UserError as readLines does.
 */
export async function* readPlainText(file: string): AsyncGenerator<DataRecord, void, undefined> {
  let block: Paragraph[] = [];
  let characters = 0;
  let ended = false;
  for await (const paragraph of readParagraphs(file)) {
    if (ended) {
      yield toRecord(block, false);
      [block, characters] = [[], 0];
    }
    block.push(paragraph);
    characters += paragraph.text.length;
    ended = endsBlock(paragraph, characters);
  }
  if (block.length > 0) yield toRecord(block, true);
}

function endsBlock(paragraph: Paragraph, characters: number): boolean {
  if (characters >= BLOCK_CHARACTERS_MAX) return true;
  if (characters < BLOCK_CHARACTERS_MIN) return false;
  return contentHash('boundary', [paragraph.text]) % BOUNDARY_ONE_IN === 0;
}

function toRecord(block: readonly Paragraph[], endsDocument: boolean): DataRecord {
  const joined = block.map(({ text }) => text).join('');
  const [first] = block;
  return {
    kind: 'text',
    text: endsDocument ? joined.trimEnd() : joined,
    endsDocument,
    // The first paragraph alone: text added to the end of a block does not move it to the other side.
    splitKey: first?.text ?? '',
    line: first?.line ?? 1,
  };
}

async function* readParagraphs(file: string): AsyncGenerator<Paragraph, void, undefined> {
  let lines: string[] = [];
  let [characters, start] = [0, 1];
  for await (const { text, number } of readLines(file)) {
    if (text.trim() === '') {
      if (lines.length > 0) yield { text: `${lines.join('\n')}\n\n`, line: start };
      [lines, characters] = [[], 0];
      continue;
    }
    if (characters >= BLOCK_CHARACTERS_MAX) {
      yield { text: `${lines.join('\n')}\n`, line: start };
      [lines, characters] = [[], 0];
    }
    if (lines.length === 0) start = number;
    // A byte order mark within a line: files were joined there without a line break.
    lines.push(...text.split('\ufeff').filter((part) => part !== ''));
    characters += text.length + 1;
  }
  if (lines.length > 0) yield { text: `${lines.join('\n')}\n\n`, line: start };
}
