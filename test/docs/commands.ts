/** Every command that a document shows: in blocks of a shell, and in `code` within the text. */
import { VERBS } from '../../node/cli/verbs.js';
import { isUnfinished, PROMPT } from './console.js';

export interface ShownCommand {
  /** Programs with their words, as the shell takes them apart; an assignment before a program is left out. */
  words: string[];
  /** From 1. */
  line: number;
  /**
   * `typed`: a block of console, which documents.test.ts and guides.test.ts type. `block`: any other block of a shell. `text`: in a sentence or a table,
   * where arguments may be left out.
   */
  where: 'typed' | 'block' | 'text';
}

/** Languages of blocks that hold no command. */
const NO_COMMANDS = ['text', 'csv', 'json', 'jsonl', 'proto', 'python', 'ts', 'txt', 'yaml'];

/** Languages of blocks in which only what stands after "$ " is a command. */
const TRANSCRIPTS = ['console', 'sh-session'];

/** What code in a sentence has to begin with to be a command. */
const PROGRAM = /^(?:murmurate|npm|npx|node|curl|docker|systemctl|kubectl|ssh) /;

/** The same without the program's name, where flags follow: `export --personal`. */
const VERB = new RegExp(`^(?:${VERBS.map(({ name }) => name).join('|')}) .*--[a-z]`);

/** What code in a sentence begins with that shows flags alone: of murmurate, unless it says otherwise. */
const FLAG = /^(?:-- )?--[a-z]/;

/**
 * The commands of one document in order; code that begins with a flag counts as one, so that its first word is that flag. Throws
 * RangeError for a block that does not say what is in it.
 */
export function shownCommands(markdown: string): ShownCommand[] {
  const commands: ShownCommand[] = [];
  let language: string | null = null;
  /** A command that goes on in the next line. */
  let begun = '';
  const lines = markdown.split('\n');
  for (const [i, raw] of lines.entries()) {
    const line = i + 1;
    const fence = /^\s*```(\S*)/.exec(raw);
    if (fence !== null) {
      language = language === null ? languageOf(fence[1] ?? '', lines[line] ?? '', line) : null;
      continue;
    }
    if (language === null) {
      const found = codeOf(raw).flatMap(splitCommands);
      commands.push(...found.map((words) => ({ words, line, where: 'text' }) as const));
      continue;
    }
    const isTranscript = TRANSCRIPTS.includes(language);
    if (NO_COMMANDS.includes(language)) continue;
    if (isTranscript && begun === '' && !raw.startsWith(PROMPT)) continue;
    const text = begun + (begun === '' && isTranscript ? raw.slice(PROMPT.length) : raw);
    const goesOn = isTranscript ? isUnfinished(text) : text.endsWith('\\');
    begun = goesOn ? `${text.replace(/\\$/, '')}\n` : '';
    if (goesOn) continue;
    const where = language === 'console' ? 'typed' : 'block';
    commands.push(...splitCommands(text).map((words) => ({ words, line, where }) as const));
  }
  return commands;
}

/** What stands between backticks in a line of prose and is a command, or flags. */
function codeOf(prose: string): string[] {
  return [...prose.matchAll(/`([^`]+)`/g)]
    .map(([, code = '']) => code.replaceAll('\\|', '|').replaceAll(/[[\]]/g, ''))
    .map((code) => (VERB.test(code) ? `murmurate ${code}` : code))
    .filter((code) => PROGRAM.test(`${code} `) || FLAG.test(code))
    .flatMap(alternatives);
}

function languageOf(named: string, first: string, line: number): string {
  if ([...NO_COMMANDS, ...TRANSCRIPTS, 'sh'].includes(named)) return named;
  if (named === '') return PROGRAM.test(`${first} `) ? 'sh' : 'text';
  const languages = 'sh, console (which a test types), sh-session (which none does) or text';
  throw new RangeError(`line ${line}: a block of "${named}"; say ${languages}`);
}

/** `--device cpu|cuda` is two commands. */
function alternatives(code: string): string[] {
  const [choice = ''] = /\S+\|\S+/.exec(code) ?? [];
  return choice === '' ? [code] : choice.split('|').map((one) => code.replace(choice, one));
}

const QUOTED = /\$?'([^']*)'|"((?:\\.|[^"])*)"|\\(.)/gs;
const TOKEN = /(?:\$?'[^']*'|"(?:\\.|[^"])*"|\\.|[^\s'"\\|&;<>#]|(?<=\S)#)+|[|&;<>]+|#.*/gs;

/** One line of a shell as commands of words, without comments; "FILE..." is one word. */
function splitCommands(line: string): string[][] {
  const commands: string[][] = [[]];
  for (const [token] of line.matchAll(TOKEN)) {
    if (token.startsWith('#')) break;
    if (/^[|&;<>]/.test(token)) commands.push([]);
    else commands.at(-1)?.push(token.replaceAll(QUOTED, '$1$2$3').replace(/(?<=\w)\.\.\.$/, ''));
  }
  return commands
    .map((words) => words.slice(words.findIndex((word) => !/^[A-Z_]+=/.test(word))))
    .filter((words) => words.length > 0);
}

/** The command that another one runs elsewhere: `docker exec NAME COMMAND`. Null for one that runs nothing. */
export function commandWithin([program, ...words]: readonly string[]): string[] | null {
  const [first = ''] = words;
  if (program === 'npx') return words;
  if (program === 'ssh' && !first.startsWith('-')) return words.slice(1);
  if (program === 'docker' && first === 'exec') return words.slice(2);
  if (program === 'node' && first.endsWith('dist/node/main.js'))
    return ['murmurate', ...words.slice(1)];
  if (program === 'runuser' || (program === 'kubectl' && words.includes('exec')))
    return words.slice(words.indexOf('--') + 1);
  return null;
}
