/** The run in a data directory as it lies on disk, read without the lock: also while its peer runs. */
import { UserError } from './errors.js';
import { readRun } from './home.js';
import { Replica } from './peer/replica.js';
import { readIfThere } from './store/atomic-file.js';
import { decodeCheckpoint } from './store/checkpoint-codec.js';
import { DamagedStateError } from './store/state-codec.js';
import { DataDirectory } from './store/directory.js';
import { readLog } from './store/log-file.js';
import type { Checkpoint } from '../protocol/checkpoint.js';
import type { UpdateLog } from '../protocol/log.js';
import type { Run } from '../protocol/manifest.js';
import type { StoredCheckpoint } from './interfaces.js';

export interface StoredRun {
  run: Run;
  log: UpdateLog;
  /** What the log goes on from: theta0 of a run that was kept whole. */
  checkpoint: Checkpoint;
  /** Epochs of the run, by its manifest or an amendment. */
  epochsMax: number;
  /** Fold of the log: [adapterSize] float32. */
  theta: Float32Array;
  /** SHA-256 of theta, 64 hex digits. */
  sha256: string;
}

/** Throws UserError when `dir` holds no run, StoreUnavailableError, ForeignLogError. */
export async function readStoredRun(dir: string): Promise<StoredRun> {
  const directory = new DataDirectory(dir);
  const run = await readRun(directory);
  if (run === null) {
    throw new UserError(
      `${dir} holds no run; start or join one there first, or name another directory with --dir`,
    );
  }
  // The log first: a peer that runs writes a new checkpoint before it drops from the log what is in it.
  const scan = await readLog(directory.pathOf('log'), run.id);
  const checkpoint = await readIfThere(directory.pathOf('checkpoint'));
  const stored = checkpoint === null ? null : readCheckpoint(dir, run.id, checkpoint);
  return restoreRun(run, stored, scan?.records ?? []);
}

/** The run as a peer's store holds it: `records` of its log, and the checkpoint that this goes on from, if any. */
export function restoreRun(
  run: Run,
  stored: StoredCheckpoint | null,
  records: Iterable<Uint8Array>,
): StoredRun {
  const nothing = (): void => undefined;
  // What was accepted into the log was not from the future then.
  const replica = new Replica(run, () => Infinity, {
    onRecord: nothing,
    onAnnounced: nothing,
    onProof: nothing,
  });
  if (stored !== null) replica.restoreCheckpoint(stored, null);
  for (const record of records) replica.restore(record);
  const { log, epochsMax } = replica;
  const { checkpoint } = replica.horizon;
  return { run, log, checkpoint, epochsMax, theta: replica.theta(), sha256: replica.sha256() };
}

function readCheckpoint(dir: string, runId: string, bytes: Uint8Array): StoredCheckpoint {
  try {
    return decodeCheckpoint(runId, bytes);
  } catch (cause) {
    if (!(cause instanceof DamagedStateError)) throw cause;
    throw new UserError(
      `checkpoint.bin in ${dir} is damaged (${cause.message}); start the peer there once, so that it fetches ` +
        'what is missing from the others',
      undefined,
      { cause },
    );
  }
}
