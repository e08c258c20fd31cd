/** The run in a data directory as it lies on disk, read without the lock: also while its peer runs. */
import { adapterSha256 } from '../protocol/adapter.js';
import { Fold } from '../protocol/fold.js';
import type { UpdateLog } from '../protocol/log.js';
import type { Run } from '../protocol/manifest.js';
import { SealContents } from '../protocol/seal-contents.js';
import { decodeCertificate } from '../protocol/seal.js';
import { UserError } from './errors.js';
import { readRun } from './home.js';
import { StoreUnavailableError, type RecordPlace, type Store } from './interfaces.js';
import { Replica } from './peer/replica.js';
import { StoredBodies } from './peer/stored-bodies.js';
import { DataDirectory } from './store/directory.js';
import { ReadOnlyStore } from './store/read-only-store.js';

/** Times that a directory is read again whose peer rewrote its log meanwhile. */
const TRIES = 3;

export interface StoredRun {
  run: Run;
  /** All updates that are on disk and count. */
  log: UpdateLog;
  /** What is known of epochs whose updates are not on disk any more: their sum, and how many; null while all are. */
  dropped: { epoch: number; sum: Float64Array; updates: number } | null;
  /** Epochs of the run, by its manifest or an amendment. */
  epochsMax: number;
  /** Updates in the adapter, those that are not on disk any more included. */
  updates: number;
  /** Fold of the log: [adapterSize] float32. */
  theta: Float32Array;
  /** SHA-256 of theta, 64 hex digits. */
  sha256: string;
}

/** What is read of a store; the peer's own, or a reader of its files. */
export type ReadableStore = Pick<Store, 'loadSeal' | 'loadSum' | 'loadLog' | 'readLog'>;

/** Throws UserError when `dir` holds no run, StoreUnavailableError, ForeignLogError. */
export async function readStoredRun(dir: string): Promise<StoredRun> {
  const directory = new DataDirectory(dir);
  const run = await readRun(directory);
  if (run === null) {
    throw new UserError(
      `${dir} holds no run; start or join one there first, or name another directory with --dir`,
    );
  }
  for (let attempt = 1; ; attempt++) {
    try {
      return await restoreRun(run, new ReadOnlyStore(directory, run.id));
    } catch (error) {
      if (!(error instanceof StoreUnavailableError) || attempt === TRIES) throw error;
    }
  }
}

/** The run as `store` holds it. Throws StoreUnavailableError, ForeignLogError. */
export async function restoreRun(run: Run, store: ReadableStore): Promise<StoredRun> {
  const nothing = (): void => undefined;
  const replica = new Replica({
    run,
    // What was accepted into the log was not from the future then.
    epochNow: () => Infinity,
    handlers: { onRecord: nothing, onAnnounced: nothing, onProof: nothing },
    bodies: new StoredBodies((place: RecordPlace) => store.readLog(place)),
  });
  const stored = await store.loadSeal();
  const contents = stored && SealContents.decode(stored.contents, stored.epoch);
  // An update of a sealed epoch that the members did not agree on may still lie in the file.
  const counts = (author: string, epoch: number): boolean =>
    contents === null || epoch >= contents.epoch || contents.has(author, epoch);
  await store.loadLog((record, place) => void replica.restore(record, place, counts));
  const { log, epochsMax } = replica;
  const sum = stored && (await store.loadSum(stored.epoch));
  const fold = new Fold(run, undefined, sum ? { epoch: stored.epoch, sum } : undefined);
  fold.compute(log);
  const theta = fold.theta();
  const sealed = stored ? decodeCertificate(run, stored.certificate).statement : null;
  const held = stored === null ? 0 : replica.headersBefore(stored.epoch).length;
  const isWhole = sealed === null || held === sealed.updates;
  const dropped =
    isWhole || !sum ? null : { epoch: sealed.epoch, sum, updates: sealed.updates };
  return {
    ...{ run, log, dropped, epochsMax, theta, sha256: adapterSha256(theta) },
    updates: log.size - held + (sealed?.updates ?? 0),
  };
}
