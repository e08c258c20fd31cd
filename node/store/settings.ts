/** settings.json: what a peer was last started with, so that later commands on its directory need not be told, and whether it pauses. */
import { z } from 'zod';
import { bytesEqual } from '../../protocol/bytes.js';
import { UserError } from '../errors.js';
import { readIfThere, writeAtomically } from './atomic-file.js';
import type { DataDirectory } from './directory.js';

const settingsSchema = z.object({
  /** Absolute path of the base model's directory. */
  modelDir: z.string(),
  /** What --model said; null where it was not given, undefined where an older version wrote this. */
  model: z.string().nullish(),
  /** Absolute paths of the private data files. */
  dataFiles: z.array(z.string()),
  /** Columns that the user named; absent: the usual ones. */
  columns: z
    .object({
      text: z.string().nullable(),
      prompt: z.string().nullable(),
      completion: z.string().nullable(),
      messages: z.string().nullable(),
      acceptDropped: z.boolean().optional(),
      acceptRoles: z.boolean().optional(),
      emptyThoughts: z.boolean().optional(),
    })
    .optional(),
  /** Share of the examples that is only measured on, 0 to 0.5. */
  heldOutShare: z.number().min(0).max(0.5),
  /** Whether it was told to pause its training (murmurate pause). */
  isResting: z.boolean().default(false),
});

export type Settings = z.infer<typeof settingsSchema>;

/** Null when there are none, or none that can be read: they only save typing. Throws StoreUnavailableError. */
export async function readSettings(directory: DataDirectory): Promise<Settings | null> {
  const bytes = await readIfThere(directory.pathOf('settings'));
  if (bytes === null) return null;
  try {
    return settingsSchema.parse(JSON.parse(new TextDecoder().decode(bytes)));
  } catch {
    return null;
  }
}

/** Writes what has changed only, so that a peer starts again on a full disk. Throws StoreUnavailableError. */
export async function writeSettings(directory: DataDirectory, settings: Settings): Promise<void> {
  const path = directory.pathOf('settings');
  const bytes = new TextEncoder().encode(`${JSON.stringify(settings, null, 2)}\n`);
  const before = await readIfThere(path);
  if (before === null || !bytesEqual(before, bytes)) await writeAtomically(path, [bytes]);
}

/** Notes whether the peer pauses. Throws UserError before the first start, StoreUnavailableError. */
export async function rememberResting(directory: DataDirectory, isResting: boolean): Promise<void> {
  const settings = await readSettings(directory);
  if (settings === null) {
    throw new UserError(
      `${directory.path} does not say what its peer was started with; start it once, with murmurate start or join`,
    );
  }
  await writeSettings(directory, { ...settings, isResting });
}
