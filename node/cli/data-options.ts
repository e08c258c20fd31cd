/** Which columns of the data are trained on, and the line that says what a folder holds. */
import type { Writable } from 'node:stream';
import { option, switchOption, text, type OptionValues } from '../config.js';
import { checkColumns, type ColumnNames } from '../data/columns.js';
import { findDataFiles } from '../data/sources.js';

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

/** Paths that a line names. */
const SHOWN_MAX = 4;

/** The files among `paths`; what was left out of folders is said on `out`. Throws UserError as findDataFiles does. */
export async function sayDataFiles(paths: readonly string[], out: Writable): Promise<string[]> {
  const { files, skipped } = await findDataFiles(paths);
  if (skipped.length === 0) return files;
  const shown = skipped.slice(0, SHOWN_MAX).join(', ');
  const more = skipped.length > SHOWN_MAX ? ` and ${skipped.length - SHOWN_MAX} more` : '';
  out.write(
    `data: ${files.length} ${files.length === 1 ? 'file' : 'files'}; left out, as hidden or of an unknown kind: ${shown}${more}\n`,
  );
  return files;
}
