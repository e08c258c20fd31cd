/** The files of a peer that may be running, read without changing any of them; see FileStore. */
import { UserError } from '../errors.js';
import type { RecordPlace, StoredSeal } from '../interfaces.js';
import { DamagedStateError } from './array-file.js';
import { readIfThere } from './atomic-file.js';
import type { DataDirectory } from './directory.js';
import { readLogRecord } from './log-file.js';
import { scanLog, type OnRecord } from './log-scan.js';
import { decodeStoredSeal, decodeSum } from './state-codec.js';
import { storeUnavailable } from './unavailable.js';

export class ReadOnlyStore {
  readonly #directory: DataDirectory;
  readonly #runId: string;

  constructor(directory: DataDirectory, runId: string) {
    this.#directory = directory;
    this.#runId = runId;
  }

  /** Throws UserError when it is damaged, StoreUnavailableError. */
  loadSeal(): Promise<StoredSeal | null> {
    return this.#load(this.#directory.pathOf('seal'), decodeStoredSeal);
  }

  /** As loadSeal. */
  loadSum(epoch: number): Promise<Float64Array | null> {
    return this.#load(this.#directory.sumPath(epoch), decodeSum);
  }

  /** Throws ForeignLogError, StoreUnavailableError. */
  async loadLog(onRecord: OnRecord): Promise<void> {
    await scanLog(this.#directory.pathOf('log'), this.#runId, onRecord);
  }

  /** Throws StoreUnavailableError, also where the peer has rewritten its log since loadLog(). */
  readLog(place: RecordPlace): Uint8Array {
    const path = this.#directory.pathOf('log');
    try {
      return readLogRecord(path, place);
    } catch (error) {
      throw storeUnavailable('read', path, error);
    }
  }

  async #load<T>(path: string, decode: (runId: string, bytes: Uint8Array) => T): Promise<T | null> {
    const bytes = await readIfThere(path);
    if (bytes === null) return null;
    try {
      return decode(this.#runId, bytes);
    } catch (cause) {
      if (!(cause instanceof DamagedStateError)) throw cause;
      throw new UserError(
        `${path} is damaged (${cause.message}); start the peer there once, so that it fetches what is missing ` +
          'from the others',
        undefined,
        { cause },
      );
    }
  }
}
