/** Texts of base and adapter beside each other on a wide terminal, else one under the other. */
import Table from 'cli-table3';
import type { Writable } from 'node:stream';
import { printable, printableLine } from '../printable.js';

/** Columns of a terminal from which two texts have room beside each other. */
const WIDE = 100;
/** Of a table, more does not read better. */
const WIDTH_MAX = 160;
/** Lines of the table and a space on each side of both texts. */
const FRAME = 7;

/** One text and what wrote it. */
export interface NamedText {
  name: string;
  text: string;
}

/** Columns of the terminal behind `out` when two texts have room beside each other in it, else null. */
export function wideTerminal(out: Writable): number | null {
  if (!('isTTY' in out && out.isTTY === true && 'columns' in out)) return null;
  return typeof out.columns === 'number' && out.columns >= WIDE ? out.columns : null;
}

/** A table of two columns, `width` characters wide in all. */
export function twoColumns(texts: readonly [NamedText, NamedText], width: number): string {
  const column = Math.floor((Math.min(width, WIDTH_MAX) - FRAME) / 2) + 2;
  const table = new Table({
    head: texts.map(({ name }) => printableLine(name)),
    colWidths: [column, column],
    wordWrap: true,
    style: { head: [], border: [], compact: true },
  });
  table.push(texts.map(({ text }) => printable(text)));
  return `${table.toString()}\n`;
}
