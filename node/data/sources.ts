/** From what --data names to data files: folders are looked through, kinds go by the name. */
import { readdir, realpath, stat } from 'node:fs/promises';
import { extname, join, relative, sep } from 'node:path';
import { EXIT_USAGE, UserError } from '../errors.js';
import { unreadable } from '../json-file.js';
import { isOfTrainingSplit, readCard, type DataSetCard } from './data-set-card.js';
import { isAboutData, leftOutSplits } from './data-set-folder.js';

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

/** An entry of a folder that is not read, and why in a few words ("the test split"). */
export interface LeftOut {
  path: string;
  reason: string;
}

/** What there is to read. */
export interface DataSources {
  /** In the order given; those of a folder sorted by path. */
  files: string[];
  /**
   * Of folders: what is hidden, of an unknown kind or no file at all, what describes the data, and files of a data
   * set that are not its training split.
   */
  skipped: LeftOut[];
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
  const search = new FolderSearch(folder);
  const found = await search.visit(folder);
  const chosen = found.filter(({ isChosen }) => isChosen).map(({ path }) => path);
  const open = found.filter(({ isChosen }) => !isChosen);
  const splits = leftOutSplits(
    open.map(({ path }) => ({ path, parts: relative(folder, path).split(sep) })),
  );
  for (const [i, { path }] of open.entries()) {
    const split = splits[i] ?? null;
    if (split === null) chosen.push(path);
    else search.skipped.push({ path, reason: `the ${split} split` });
  }
  sources.skipped.push(...search.skipped);
  const taken = new Set(chosen);
  sources.files.push(...found.map(({ path }) => path).filter((path) => taken.has(path)));
  if (taken.size > 0) return;
  throw nothingIn(folder, search);
}

/** The sentence for a folder of which nothing is read. */
function nothingIn(folder: string, { looked, skipped }: FolderSearch): UserError {
  const data = skipped.find(({ reason }) => reason !== UNKNOWN && reason !== HIDDEN);
  const hint =
    data === undefined
      ? `give one with ${DATA_FILE_KINDS}`
      : `${relative(folder, data.path)} is ${data.reason}; name a file itself to train on it`;
  return new UserError(
    `${folder}: has no data file to train on in it (${looked} ${looked === 1 ? 'entry' : 'entries'} looked at): ${hint}`,
  );
}

const HIDDEN = 'hidden';
const UNKNOWN = 'of an unknown kind';

/** A data file of a folder; `isChosen`: a card says that it is of the training split. */
interface Found {
  path: string;
  isChosen: boolean;
}

class FolderSearch {
  looked = 0;
  readonly skipped: LeftOut[] = [];
  /** Real paths: a link to what was seen, also to a folder around it, leads nowhere new. */
  readonly #seen = new Set<string>();

  constructor(readonly folder: string) {}

  /** The data files in a folder and in those in it, sorted by path. */
  async visit(path: string): Promise<Found[]> {
    this.#seen.add(await realpath(path));
    const entries = await readdir(path).catch((cause: unknown) => {
      throw unreadable(path, 'a folder of data files', cause);
    });
    const found: Found[] = [];
    for (const name of entries.sort()) {
      if (++this.looked > FOLDER_FILES_MAX) {
        throw new UserError(
          `${this.folder} has more than ${FOLDER_FILES_MAX} files: name the folders that hold the data`,
        );
      }
      found.push(...(await this.#take(join(path, name), name)));
    }
    const card = entries.includes('README.md') ? await readCard(path) : null;
    return card === null ? found : this.#choose(path, card, found);
  }

  async #take(path: string, name: string): Promise<Found[]> {
    // A link whose target is gone has no status.
    const status = name.startsWith('.') ? null : await stat(path).catch(() => null);
    const isFile = status?.isFile() === true && formatOf(path) !== null;
    if (!isFile && status?.isDirectory() !== true) {
      this.skipped.push({ path, reason: name.startsWith('.') ? HIDDEN : UNKNOWN });
      return [];
    }
    if (isFile && isAboutData(path)) {
      this.skipped.push({ path, reason: 'about the data, not data' });
      return [];
    }
    const real = await realpath(path);
    if (this.#seen.has(real)) return [];
    this.#seen.add(real);
    return isFile ? [{ path, isChosen: false }] : await this.visit(path);
  }

  /** The files of `found`, all in `folder`, that its card says are to be trained on. */
  #choose(folder: string, card: DataSetCard, found: readonly Found[]): Found[] {
    const isIn = ({ path }: Found): boolean =>
      isOfTrainingSplit(card, relative(folder, path).split(sep).join('/'));
    const others = found.filter((one) => !isIn(one));
    const chosen = found.filter(isIn);
    if (chosen.length === 0) {
      const files = card.patterns?.slice(0, 3).join(', ') ?? card.dataDir;
      throw new UserError(
        `${join(folder, 'README.md')}: names files that are not here (${files.slice(0, 200)}): download them, or name the files to train on`,
      );
    }
    const reason =
      card.otherConfigs === 0
        ? 'not of the training split that README.md names'
        : `not of the training split of "${card.config.slice(0, 60)}", the one of ${card.otherConfigs + 1} configurations that is read`;
    this.skipped.push(...others.map(({ path }) => ({ path, reason })));
    // Without patterns the names of the files say which split they are.
    return chosen.map(({ path }) => ({ path, isChosen: card.patterns !== null }));
  }
}

/** What was left out of folders, for one line: by reason, the first paths of each. */
export function leftOutText(skipped: readonly LeftOut[]): string {
  const reasons = [...new Set(skipped.map(({ reason }) => reason))];
  return reasons
    .map((reason) => {
      const paths = skipped.filter((one) => one.reason === reason).map(({ path }) => path);
      const more = paths.length > SHOWN_MAX ? ` and ${paths.length - SHOWN_MAX} more` : '';
      return `${paths.slice(0, SHOWN_MAX).join(', ')}${more} (${reason})`;
    })
    .join('; ');
}

/** Paths that a line names for one reason. */
const SHOWN_MAX = 4;
