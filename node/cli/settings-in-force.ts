/**
 * The settings that count for verbs which look at data and machine before a peer trains: what was given, else those of
 * the run in the data directory, else the defaults that start has.
 */
import type { OptionValues } from '../config.js';
import type { ColumnNames } from '../data/columns.js';
import { readRun } from '../home.js';
import { DataDirectory } from '../store/directory.js';
import { readSettings, type Settings } from '../store/settings.js';
import type { Manifest } from '../../protocol/manifest.js';
import { columnsOf, type columnOptions } from './data-options.js';
import type { runOptions } from './run-options.js';

/** What a data directory says; null where it holds no run, or its peer was never started. */
export interface Stored {
  manifest: Manifest | null;
  settings: Settings | null;
}

/** Throws UserError for a manifest that is damaged, StoreUnavailableError. */
export async function readStored(dir: string): Promise<Stored> {
  const directory = new DataDirectory(dir);
  const run = await readRun(directory);
  return { manifest: run?.manifest ?? null, settings: await readSettings(directory) };
}

/** Options of a run that say how much is trained at once, and where its manifest has them. */
const IN_MANIFEST = {
  rank: ({ adapter }: Manifest) => adapter.rank,
  steps: ({ schedule }: Manifest) => schedule.stepsRef,
  sequenceLength: ({ training }: Manifest) => training.sequenceLength,
  batchSize: ({ training }: Manifest) => training.batchSize,
} as const;
type RunKey = keyof typeof IN_MANIFEST & keyof OptionValues<typeof runOptions>;

/** `options` with what the run says in place of what nobody gave. */
export function inForce<T extends Partial<Record<RunKey, number | 'auto'>>>(
  options: T,
  given: ReadonlySet<string>,
  manifest: Manifest | null,
): T {
  if (manifest === null) return options;
  const changed: Partial<Record<RunKey, number>> = {};
  for (const [key, read] of Object.entries(IN_MANIFEST)) {
    if (key in options && !given.has(key)) changed[key as RunKey] = read(manifest);
  }
  return { ...options, ...changed };
}

/** Options that name a column. A switch beside them says how conversations are taken, whatever their columns. */
const NAME_OPTIONS = [
  'textColumn',
  'promptColumn',
  'completionColumn',
  'messagesColumn',
] as const satisfies readonly (keyof typeof columnOptions)[];

/** The columns that were named, else those that the peer was started with. Throws UserError as columnsOf does. */
export function columnsInForce(
  options: OptionValues<typeof columnOptions>,
  given: ReadonlySet<string>,
  settings: Settings | null,
): ColumnNames {
  const { text, prompt, completion, messages, ...accepted } = columnsOf(options);
  const names = { text, prompt, completion, messages };
  const stored = settings?.columns;
  if (stored === undefined) return { ...names, ...accepted };
  const isGiven = NAME_OPTIONS.some((name) => given.has(name));
  return { ...stored, ...(isGiven && names), ...accepted };
}
