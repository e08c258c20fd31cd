/**
 * held-out-losses.json: what `history --eval` has measured, by the adapter's hash, so that it is not measured again.
 * `measure` names the text, the model and how it was computed: losses of another one tell nothing and are dropped.
 */
import { z } from 'zod';
import { readIfThere, writeAtomically } from './atomic-file.js';
import type { DataDirectory } from './directory.js';

/** Losses that are kept, the newest: some 100 KB. */
export const LOSSES_MAX = 1000;

const sha256Text = z.string().regex(/^[0-9a-f]{64}$/);
const lossesSchema = z.strictObject({
  measure: sha256Text,
  /** Nats per held-out token; null where it is not finite. */
  losses: z.array(z.strictObject({ sha256: sha256Text, loss: z.number().nullable() })),
});

/** By the adapter's SHA-256: nats per held-out token, null where it is not finite. */
export type MeasuredLosses = Map<string, number | null>;

/** None when there are none of `measure`, or none that can be read: then they are measured again. Throws StoreUnavailableError. */
export async function readLosses(
  directory: DataDirectory,
  measure: string,
): Promise<MeasuredLosses> {
  const bytes = await readIfThere(directory.pathOf('losses'));
  if (bytes === null) return new Map();
  try {
    const stored = lossesSchema.parse(JSON.parse(new TextDecoder().decode(bytes)));
    if (stored.measure !== measure) return new Map();
    return new Map(stored.losses.slice(-LOSSES_MAX).map(({ sha256, loss }) => [sha256, loss]));
  } catch {
    return new Map();
  }
}

/** Keeps the newest LOSSES_MAX. Throws StoreUnavailableError; the old ones are then still there. */
export async function writeLosses(
  directory: DataDirectory,
  measure: string,
  losses: MeasuredLosses,
): Promise<void> {
  const newest = [...losses].slice(-LOSSES_MAX).map(([sha256, loss]) => ({ sha256, loss }));
  const text = `${JSON.stringify({ measure, losses: newest })}\n`;
  await writeAtomically(directory.pathOf('losses'), [new TextEncoder().encode(text)]);
}
