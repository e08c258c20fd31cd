/** The YAML head of a data set's README.md: which files are the training split, where it says so. */
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { parse } from 'yaml';
import { z } from 'zod';
import { UserError } from '../errors.js';
import { splitOf } from './data-set-folder.js';
import { matchesGlob } from './glob.js';

/** Bytes of a card: those with thousands of configurations have some 100 KiB. A longer README.md is no card. */
const CARD_BYTES_MAX = 4 * 1024 * 1024;
/** Patterns of the training split and the length of each: every file is compared with all of them. */
const PATTERNS_MAX = 2_000;
const PATTERN_LENGTH_MAX = 500;

const paths = z.union([z.string().transform((path) => [path]), z.array(z.string())]);
const dataFiles = z.union([
  z.array(z.object({ split: z.string(), path: paths })),
  paths.transform((path) => [{ split: 'train', path }]),
  z
    .record(z.string(), paths)
    .transform((splits) => Object.entries(splits).map(([split, path]) => ({ split, path }))),
]);
const config = z.object({
  config_name: z.coerce.string().default('default'),
  data_files: dataFiles.optional(),
  data_dir: z.string().optional(),
  default: z.boolean().optional(),
});
const card = z.object({ configs: z.array(config).min(1) });

/** What a card says of the files in its folder. */
export interface DataSetCard {
  /** The configuration that is trained on, and how many others there are. */
  config: string;
  otherConfigs: number;
  /** Patterns of the training split; null where the names of the files say which they are. */
  patterns: string[] | null;
  /** The folder that all files of the configuration are in, within the card's; "" for the card's own. */
  dataDir: string;
}

/**
 * The card of a folder; null where it has none that names files. Throws UserError for a card that names files of
 * other splits alone.
 */
export async function readCard(folder: string): Promise<DataSetCard | null> {
  const path = join(folder, 'README.md');
  const bytes = await stat(path).then(
    (status) => (status.isFile() ? status.size : Infinity),
    () => Infinity,
  );
  if (bytes > CARD_BYTES_MAX) return null;
  const head = headOf(await readFile(path, 'utf8').catch(() => ''));
  if (head === null) return null;
  const checked = card.safeParse(head);
  if (!checked.success) return null;
  const { configs } = checked.data;
  const chosen =
    configs.find((one) => one.default === true) ??
    configs.find((one) => one.config_name === 'default') ??
    configs[0];
  if (chosen === undefined || (!chosen.data_files && chosen.data_dir === undefined)) return null;
  const dataDir = (chosen.data_dir ?? '').replace(/^(\.?\/)+|\/+$/g, '').replace(/^\.$/, '');
  return {
    config: chosen.config_name,
    otherConfigs: configs.length - 1,
    patterns: chosen.data_files ? trainingPatterns(chosen.data_files, path) : null,
    dataDir,
  };
}

function headOf(text: string): unknown {
  const [, head] = /^\ufeff?---[ \t]*\r?\n([\s\S]*?)\r?\n---[ \t]*(\r?\n|$)/.exec(text) ?? [];
  if (head === undefined) return null;
  try {
    return parse(head);
  } catch {
    // A head that is not YAML says nothing about files.
    return null;
  }
}

function trainingPatterns(splits: z.infer<typeof dataFiles>, path: string): string[] {
  const named = splits.filter(({ split }) => splitOf(split) === 'train');
  const unnamed = splits.filter(({ split }) => splitOf(split) === null);
  const training = (named.length > 0 ? named : unnamed).flatMap((one) => one.path);
  if (training.length === 0) {
    throw new UserError(
      `${path}: names no training split, only ${splits
        .map(({ split }) => `"${split.slice(0, 40)}"`)
        .slice(0, 6)
        .join(', ')}: name the files to train on with --data`,
    );
  }
  const isTooLong = training.some((pattern) => pattern.length > PATTERN_LENGTH_MAX);
  if (training.length <= PATTERNS_MAX && !isTooLong) return training;
  throw new UserError(
    `${path}: names its training split by more than ${PATTERNS_MAX} patterns, or by one of more than ${PATTERN_LENGTH_MAX} characters: name the files to train on with --data`,
  );
}

/** Whether the card takes the file at `path` (within its folder, with slashes) as part of the training split. */
export function isOfTrainingSplit({ patterns, dataDir }: DataSetCard, path: string): boolean {
  const prefix = dataDir === '' ? '' : `${dataDir}/`;
  if (!path.startsWith(prefix)) return false;
  const inside = path.slice(prefix.length);
  return (
    patterns === null ||
    patterns.some((pattern) => {
      const bare = pattern.replace(/^(\.?\/)+/, '');
      // A folder stands for what is in it.
      return matchesGlob(bare, inside) || matchesGlob(`${bare.replace(/\/+$/, '')}/**`, inside);
    })
  );
}
