/**
 * What the documentation shows of a terminal: ```console blocks, in which a line after "$ " is a command and the lines below it what it
 * prints. A block may name its machine: ```console at=law-office.
 */

export interface Command {
  /** As it stands, continuation lines and all. */
  text: string;
  /** Lines of output that are shown; "..." stands for any. */
  shown: string[];
  /** From 1. */
  line: number;
}

export interface Block {
  /** The machine; '' where none is named. */
  machine: string;
  commands: Command[];
}

export const PROMPT = '$ ';

/** The blocks of one document in order. Throws RangeError for a console block that does not begin with a command. */
export function consoleBlocks(markdown: string): Block[] {
  const blocks: Block[] = [];
  let block: Block | null = null;
  for (const [i, raw] of markdown.split('\n').entries()) {
    const fence = /^\s*```(\S*)\s*(.*)$/.exec(raw);
    if (fence !== null) {
      const isOpening: boolean = block === null && fence[1] === 'console';
      if (block !== null) blocks.push(block);
      block = isOpening
        ? { machine: /at=(\S+)/.exec(fence[2] ?? '')?.[1] ?? '', commands: [] }
        : null;
      continue;
    }
    if (block === null) continue;
    const last = block.commands.at(-1);
    if (raw.startsWith(PROMPT)) {
      block.commands.push({ text: raw.slice(PROMPT.length), shown: [], line: i + 1 });
    } else if (last === undefined) {
      throw new RangeError(`line ${i + 1}: a console block begins with "${PROMPT}" and a command`);
    } else if (last.shown.length === 0 && isUnfinished(last.text)) {
      last.text += `\n${raw}`;
    } else {
      last.shown.push(raw);
    }
  }
  return blocks;
}

/** Whether the shell would read on: after a backslash, or inside of quotes. */
export function isUnfinished(text: string): boolean {
  const withoutEscapes = text.replaceAll(/\\[^\n]/g, '');
  const quotes = (quote: string): number => withoutEscapes.split(quote).length - 1;
  return withoutEscapes.endsWith('\\') || quotes('"') % 2 === 1 || quotes("'") % 2 === 1;
}

/**
 * Whether `output` has the `shown` lines in this order. Words have to be the same; names made by chance, hashes and
 * figures may differ, and "..." is anything: inside of a line a part of it, alone any number of lines. The
 * first shown line that is missing, or null.
 */
export function missingLine(shown: readonly string[], output: string): string | null {
  const lines = output.split('\n').map((line) => line.trimEnd());
  let from = 0;
  for (const expected of shown.map((line) => line.trimEnd())) {
    if (expected === '...' || expected === '') continue;
    const pattern = patternOf(expected);
    const at = lines.findIndex((line, i) => i >= from && pattern.test(line));
    if (at < 0) return expected;
    from = at + 1;
  }
  return null;
}

/** What may differ from one run to the next, and what stands for it. */
const VARIABLE: readonly (readonly [RegExp, string])[] = [
  [/^\.\.\./, '.*'],
  [/^\/(?:ip4|ip6|dns4)\/\S+/, String.raw`/\S+`],
  [/^12D3KooW\w*(?:\.\.\.)?/, String.raw`12D3KooW\w+`],
  [/^murmurate1\w+(?:\.\.\.)?/, String.raw`murmurate1\w+`],
  [/^(?=[0-9a-f]*\d)[0-9a-f]{8,}(?:\.\.\.)?/, '[0-9a-f]+'],
  [/^-?\d[\d,.]*/, String.raw`-?\d[\d,.]*`],
  // The width of a table's column follows its figures.
  [/^(?: {2,}|─+)/, '[ ─]+'],
];

function patternOf(line: string): RegExp {
  let rest = line;
  let source = '';
  while (rest !== '') {
    const variable = VARIABLE.find(([pattern]) => pattern.test(rest));
    const length = variable?.[0].exec(rest)?.[0].length ?? 1;
    source += variable?.[1] ?? rest.slice(0, 1).replaceAll(/[\\^$.*+?()[\]{}|/]/g, String.raw`\$&`);
    rest = rest.slice(length);
  }
  return new RegExp(`^${source}$`);
}
