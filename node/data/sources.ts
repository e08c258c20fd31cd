/** From what --data names to data files: folders are looked through, kinds go by the name. */
import { readdir, realpath, stat } from 'node:fs/promises';
import { extname, join } from 'node:path';
import { EXIT_USAGE, UserError } from '../errors.js';
import { unreadable } from '../json-file.js';

/** Formats by the end of a file's name. */
const FORMATS = {
  jsonl: 'json',
  ndjson: 'json',
  json: 'json',
  csv: 'csv',
  tsv: 'csv',
  parquet: 'parquet',
  txt: 'text',
  text: 'text',
  md: 'text',
  markdown: 'text',
} as const;
export type DataFormat = (typeof FORMATS)[keyof typeof FORMATS];

/** What --data takes, for help texts and errors. */
export const DATA_FILE_KINDS =
  '.jsonl, .json, .csv, .tsv, .txt or .md (each also with .gz), .parquet, or a folder of these';

/** Files of one folder: far more than anybody has in one, so that a wrong one (a home, a disk) is noticed. */
export const FOLDER_FILES_MAX = 100_000;

/** What there is to read. */
export interface DataSources {
  /** In the order given; those of a folder sorted by path. */
  files: string[];
  /** Paths in folders that are no data files: of an unknown kind, hidden, or no files at all. */
  skipped: string[];
}

/** By the name alone; null for an unknown kind. */
export function formatOf(file: string): DataFormat | null {
  const [, end = '', packed] = /\.([^./\\]+?)(\.gz)?$/i.exec(file) ?? [];
  const format = Object.entries(FORMATS).find(([name]) => name === end.toLowerCase())?.[1] ?? null;
  return packed !== undefined && format === 'parquet' ? null : format;
}

/**
 * The data files that `paths` name. Throws UserError: a path that does not exist, a file of an unknown kind (wrong
 * usage), a folder without a data file or with more than FOLDER_FILES_MAX files, or one that cannot be read.
 */
export async function findDataFiles(paths: readonly string[]): Promise<DataSources> {
  const sources: DataSources = { files: [], skipped: [] };
  for (const path of paths) {
    const status = await stat(path).catch((cause: unknown) => {
      throw isKnown(path) ? unreadable(path, 'a data file', cause) : unknownKind(path);
    });
    if (status.isDirectory()) {
      await lookThrough(path, sources);
    } else if (formatOf(path) === null) {
      throw unknownKind(path);
    } else {
      sources.files.push(path);
    }
  }
  return sources;
}

/** Whether the name is that of a data file, or may be that of a folder. */
function isKnown(path: string): boolean {
  return formatOf(path) !== null || extname(path) === '';
}

/** The sentence for a file that is no data file by its name. */
export function unknownKind(path: string): UserError {
  return new UserError(
    `${path}: is of an unknown kind: data files are ${DATA_FILE_KINDS}`,
    EXIT_USAGE,
  );
}

async function lookThrough(folder: string, sources: DataSources): Promise<void> {
  const before = sources.files.length;
  /** Real paths: a link to what was seen, also to a folder around it, leads nowhere new. */
  const seen = new Set<string>([await realpath(folder)]);
  let looked = 0;
  const visit = async (path: string): Promise<void> => {
    const entries = await readdir(path).catch((cause: unknown) => {
      throw unreadable(path, 'a folder of data files', cause);
    });
    for (const name of entries.sort()) {
      if (++looked > FOLDER_FILES_MAX) {
        throw new UserError(
          `${folder} has more than ${FOLDER_FILES_MAX} files: name the folders that hold the data`,
        );
      }
      await take(join(path, name), name);
    }
  };
  const take = async (path: string, name: string): Promise<void> => {
    // A link whose target is gone has no status.
    const status = name.startsWith('.') ? null : await stat(path).catch(() => null);
    const isFile = status?.isFile() === true && formatOf(path) !== null;
    if (!isFile && status?.isDirectory() !== true) {
      sources.skipped.push(path);
      return;
    }
    const real = await realpath(path);
    if (seen.has(real)) return;
    seen.add(real);
    if (isFile) sources.files.push(path);
    else await visit(path);
  };
  await visit(folder);
  if (sources.files.length > before) return;
  throw new UserError(
    `${folder}: has no data file in it (${looked} ${looked === 1 ? 'entry' : 'entries'} looked at): give one with ${DATA_FILE_KINDS}`,
  );
}
