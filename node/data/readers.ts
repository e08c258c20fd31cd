/** Picks the reader of a data file by its name. */
import { extname } from 'node:path';
import { EXIT_USAGE, UserError } from '../errors.js';
import { readJsonLines } from './jsonl.js';
import { readPlainText } from './plain-text.js';
import type { DataRecord } from './records.js';

type Reader = (file: string) => AsyncIterable<DataRecord>;

const READERS: Readonly<Record<string, Reader>> = {
  '.jsonl': readJsonLines,
  '.ndjson': readJsonLines,
  '.json': readJsonLines,
  '.txt': readPlainText,
  '.text': readPlainText,
  '.md': readPlainText,
};

/** What --data takes, for help texts and errors. */
export const DATA_FILE_KINDS =
  'JSON lines (.jsonl, .ndjson, .json) or plain text (.txt, .text, .md)';

/**
 * Yields the examples of one file in order. Throws UserError: unknown kind of file (wrong usage), empty
 * file, and whatever the format's reader refuses, with the file and the line.
 */
export async function* readRecords(file: string): AsyncGenerator<DataRecord, void, undefined> {
  const reader = READERS[extname(file).toLowerCase()];
  if (reader === undefined) {
    throw new UserError(
      `${file}: is of an unknown kind: data files are ${DATA_FILE_KINDS}`,
      EXIT_USAGE,
    );
  }
  let empty = true;
  for await (const record of reader(file)) {
    empty = false;
    yield record;
  }
  if (empty) throw new UserError(`${file}: is empty: give a file with at least one example`);
}
