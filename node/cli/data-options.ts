/** Which columns of the data are trained on, and the line that says what a folder holds. */
import type { Writable } from 'node:stream';
import { option, switchOption, text, type OptionValues } from '../config.js';
import { checkColumns, type ColumnNames } from '../data/columns.js';
import type { DatasetStats } from '../data/dataset.js';
import { findDataFiles, leftOutText } from '../data/sources.js';
import type { Training } from '../../protocol/manifest.js';

export const columnOptions = {
  textColumn: option(text('NAME'), null, 'column with texts, all of which are trained on', 'text'),
  promptColumn: option(
    text('NAME'),
    null,
    'column with what is given, which is not trained on',
    'prompt or instruction',
  ),
  completionColumn: option(
    text('NAME'),
    null,
    'column with what to answer, which is trained on',
    'completion or output',
  ),
  messagesColumn: option(
    text('NAME'),
    null,
    "column with conversations: the assistant's turns are trained on",
    'messages or conversations',
  ),
  acceptDropped: switchOption(
    'train although the chat template, or this program, leaves parts of conversations out',
  ),
  acceptRoles: switchOption('take roles that the chat template does not name as they are'),
  trainEmptyThoughts: switchOption(
    'train empty blocks of thoughts that the chat template puts before answers',
  ),
} as const;

/** Throws UserError (wrong usage) for flags that make no whole form, or more than one. */
export function columnsOf(options: OptionValues<typeof columnOptions>): ColumnNames {
  const columns = {
    text: options.textColumn,
    prompt: options.promptColumn,
    completion: options.completionColumn,
    messages: options.messagesColumn,
    ...(options.acceptDropped && { acceptDropped: true }),
    ...(options.acceptRoles && { acceptRoles: true }),
    ...(options.trainEmptyThoughts && { emptyThoughts: true }),
  };
  checkColumns(columns);
  return columns;
}

/** The files among `paths`; what was left out of folders is said on `out`. Throws UserError as findDataFiles does. */
export async function sayDataFiles(paths: readonly string[], out: Writable): Promise<string[]> {
  const { files, skipped } = await findDataFiles(paths);
  if (skipped.length > 0) {
    const count = `${files.length} ${files.length === 1 ? 'file' : 'files'}`;
    out.write(`data: ${count}; left out: ${leftOutText(skipped)}\n`);
  }
  return files;
}

/** What became of the data that a peer trains on, in one line. */
export function dataText(
  stats: DatasetStats,
  { sequenceLength }: Pick<Training, 'sequenceLength'>,
): string {
  const { examples, heldOutExamples, cutExamples, droppedTokens, tokens } = stats;
  const records = `${grouped(examples)} ${examples === 1 ? 'record' : 'records'}`;
  const aside = heldOutExamples === 0 ? '' : ` and ${grouped(heldOutExamples)} held out`;
  const head = `${records} to train on${aside}`;
  if (cutExamples === 0)
    return `${head}; none is longer than a sequence (${sequenceLength} tokens)`;
  const cut =
    `${grouped(cutExamples)} ${cutExamples === 1 ? 'is' : 'are'} longer than a sequence (${sequenceLength} tokens) ` +
    `and cut into several`;
  if (droppedTokens === 0) return `${head}; ${cut}`;
  return `${head}; ${cut}, and ${grouped(droppedTokens)} of ${grouped(tokens)} tokens, none of them trained, are dropped`;
}

function grouped(count: number): string {
  return count.toLocaleString('en-US');
}
