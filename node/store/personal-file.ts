/**
 * personal.bin: the experts that `murmurate personal` has trained, and what was measured of them (array-file.ts). One
 * file, written whole, so that they are always of one making.
 */
import { z } from 'zod';
import { littleEndian } from '../../protocol/bytes.js';
import { ADAPTER_SIZE_MAX } from '../../protocol/limits.js';
import {
  DamagedStateError,
  decodeArrayFile,
  encodeArrayFile,
  PayloadReader,
} from './array-file.js';
import { readIfThere, writeAtomically } from './atomic-file.js';
import type { DataDirectory } from './directory.js';

const count = z.number().int().nonnegative();
/** Nats per held-out token; null where it is not finite. */
const loss = z.number().nullable();
const header = z.strictObject({
  runId: z.string(),
  adapterSize: count.max(ADAPTER_SIZE_MAX),
  /** The swarm's adapter that they were made from: SHA-256, newest epoch (-1: none), updates. */
  swarmSha256: z.string().regex(/^[0-9a-f]{64}$/),
  epoch: z.number().int().min(-1),
  updates: count,
  heldOutLoss: z.strictObject({
    ...{ base: loss, swarm: loss, continued: loss },
    ...{ alone: loss, single: loss, mixture: loss },
  }),
  /** Where the single adapter lies: see Tuned in node/train/personal.ts. */
  end: z.enum(['continued', 'alone']),
  share: z.number().min(0).max(1),
  rounds: count,
  /** Whether this peer's updates are made with noise, which these are not. */
  hasNoisyUpdates: z.boolean(),
});
const PERSONAL = { magic: 'murmpers', version: 1, schema: header };

/** All but the arrays. */
export type PersonalFacts = Omit<z.infer<typeof header>, 'runId' | 'adapterSize'>;

/** [adapterSize] float32 each; see PersonalExperts in node/train/personal.ts. */
export interface StoredExperts {
  facts: PersonalFacts;
  continued: Float32Array;
  alone: Float32Array;
  single: Float32Array;
}

/** Whose they are: its id, and the coordinates of its adapter. */
export interface ExpertsOwner {
  runId: string;
  adapterSize: number;
}

/** Replaces those from before. Throws StoreUnavailableError; the old ones are then still there. */
export async function writeExperts(
  directory: DataDirectory,
  { runId, adapterSize }: ExpertsOwner,
  { facts, continued, alone, single }: StoredExperts,
): Promise<void> {
  const arrays = [continued, alone, single].map(littleEndian);
  const parts = encodeArrayFile(PERSONAL, { runId, adapterSize, ...facts }, arrays);
  await writeAtomically(directory.pathOf('personal'), parts);
}

/** Null where there are none. Throws DamagedStateError for those of another run, and for what is none; StoreUnavailableError. */
export async function readExperts(
  directory: DataDirectory,
  owner: ExpertsOwner,
): Promise<StoredExperts | null> {
  const bytes = await readIfThere(directory.pathOf('personal'));
  if (bytes === null) return null;
  const { header, payload } = decodeArrayFile(PERSONAL, bytes);
  const { runId, adapterSize, ...facts } = header;
  if (runId !== owner.runId) {
    throw new DamagedStateError(`it belongs to run ${runId}, not ${owner.runId}`);
  }
  if (adapterSize !== owner.adapterSize) {
    throw new DamagedStateError(
      `its adapters have ${adapterSize} coordinates, those of the run ${owner.adapterSize}`,
    );
  }
  const reader = new PayloadReader(payload);
  const [continued, alone] = [reader.float32(adapterSize), reader.float32(adapterSize)];
  const single = reader.float32(adapterSize);
  reader.end();
  for (const array of [continued, alone, single]) {
    if (!array.every(Number.isFinite)) throw new DamagedStateError('it holds NaN or infinity');
  }
  return { facts, continued, alone, single };
}
