/**
 * privacy.json: the steps that this peer has taken with noise, by their setting. It must never say less than was
 * published, so one that cannot be read is an error and not a fresh start.
 */
import { z } from 'zod';
import { UserError } from '../errors.js';
import { readDurably, writeAtomically } from './atomic-file.js';
import type { DataDirectory } from './directory.js';

const ledgerSchema = z.strictObject({
  taken: z.array(
    z.strictObject({
      sampleRate: z.number().positive().max(1),
      noise: z.number().positive(),
      steps: z.int().min(0),
    }),
  ),
});

/** Steps by sampling rate and noise. */
export type PrivacyLedger = z.infer<typeof ledgerSchema>['taken'];

/** Null before the first start with noise. Throws UserError when it is damaged, StoreUnavailableError. */
export async function readPrivacyLedger(directory: DataDirectory): Promise<PrivacyLedger | null> {
  const path = directory.pathOf('privacy');
  const bytes = await readDurably(path);
  if (bytes === null) return null;
  try {
    return ledgerSchema.parse(JSON.parse(new TextDecoder().decode(bytes))).taken;
  } catch (cause) {
    throw new UserError(
      `${path} is damaged, so that nobody knows how much of the privacy budget is spent; put back a copy of it, ` +
        'or start in another --dir with a budget that is lower by all that this peer may have spent',
      undefined,
      { cause },
    );
  }
}

/** Throws StoreUnavailableError; the old ledger is then still there. */
export async function writePrivacyLedger(
  directory: DataDirectory,
  taken: readonly PrivacyLedger[number][],
): Promise<void> {
  const text = `${JSON.stringify({ taken }, null, 2)}\n`;
  await writeAtomically(directory.pathOf('privacy'), [new TextEncoder().encode(text)]);
}
