/**
 * The store of a real peer: log.bin, checkpoint.bin and state.bin in its data directory. A damaged state.bin is kept as
 * state.bin.damaged and the peer starts with E = 0 and zero moments: what compression still held back
 * is lost, nothing that was published.
 */
import type { PeerState, Store, StoredCheckpoint } from '../interfaces.js';
import { readDurably, setAside, writeAtomically } from './atomic-file.js';
import { decodeCheckpoint, encodeCheckpoint } from './checkpoint-codec.js';
import type { DataDirectory } from './directory.js';
import { LogFile } from './log-file.js';
import { DamagedStateError, decodeState, encodeState } from './state-codec.js';

/** Warnings kept for `status`: each open can give one for the log and one for the state. */
const WARNINGS_MAX = 8;

export class FileStore implements Store {
  readonly #directory: DataDirectory;
  readonly #runId: string;
  readonly #warnings: string[] = [];
  #log: Promise<{ file: LogFile; records: Uint8Array[] }> | null = null;
  /** Writes of state.bin one after the other: they share the temporary file. */
  #saving: Promise<void> = Promise.resolve();
  #savingCheckpoint: Promise<void> = Promise.resolve();

  /** The caller holds the directory's lock (lock.ts). `runId`: 64 hex digits. */
  constructor(directory: DataDirectory, runId: string) {
    this.#directory = directory;
    this.#runId = runId;
  }

  /** Sentences on what was found damaged since the store was opened, oldest first. */
  get warnings(): readonly string[] {
    return this.#warnings;
  }

  /** @throws StoreUnavailableError */
  async loadState(): Promise<PeerState | null> {
    const path = this.#directory.pathOf('state');
    const bytes = await readDurably(path);
    if (bytes === null) return null;
    try {
      return decodeState(this.#runId, bytes);
    } catch (error) {
      if (!(error instanceof DamagedStateError)) throw error;
      await setAside(path);
      this.#warn(
        `${path} is damaged (${error.message}); it is kept as state.bin.damaged, and this peer goes on ` +
          'with an empty residual and zero optimiser moments',
      );
      return null;
    }
  }

  /** The caller leaves the arrays alone until this resolves. @throws StoreUnavailableError */
  async saveState(state: PeerState): Promise<void> {
    const write = this.#saving.then(() =>
      writeAtomically(this.#directory.pathOf('state'), encodeState(this.#runId, state)),
    );
    this.#saving = write.catch(() => undefined);
    await write;
  }

  /**
   * A damaged checkpoint is set aside together with the log, which goes on from it; both come back from other
   * peers. @throws StoreUnavailableError
   */
  async loadCheckpoint(): Promise<StoredCheckpoint | null> {
    const path = this.#directory.pathOf('checkpoint');
    const bytes = await readDurably(path);
    if (bytes === null) return null;
    try {
      return decodeCheckpoint(this.#runId, bytes);
    } catch (error) {
      if (!(error instanceof DamagedStateError)) throw error;
      // The log first: alone it would look like one that was kept from its beginning.
      await setAside(this.#directory.pathOf('log'));
      await setAside(path);
      this.#warn(
        `${path} is damaged (${error.message}); it is kept as checkpoint.bin.damaged and the log as ` +
          'log.bin.damaged, and both come back from other peers',
      );
      return null;
    }
  }

  /** The caller leaves the arrays alone until this resolves. @throws StoreUnavailableError */
  async saveCheckpoint(stored: StoredCheckpoint): Promise<void> {
    const write = this.#savingCheckpoint.then(() =>
      writeAtomically(this.#directory.pathOf('checkpoint'), encodeCheckpoint(this.#runId, stored)),
    );
    this.#savingCheckpoint = write.catch(() => undefined);
    await write;
  }

  /** @throws StoreUnavailableError, ForeignLogError */
  async replaceLog(records: Iterable<Uint8Array>): Promise<void> {
    if (this.#log === null) await this.loadLog();
    await (await this.#log)?.file.replace(records);
  }

  /** @throws StoreUnavailableError, ForeignLogError */
  async loadLog(): Promise<Uint8Array[]> {
    // A failed open is tried again by the next call.
    const opening = this.#openLog();
    this.#log = opening.then(({ file }) => ({ file, records: [] }));
    this.#log.catch(() => (this.#log = null));
    return (await opening).records;
  }

  /** @throws StoreUnavailableError, ForeignLogError */
  async appendLog(record: Uint8Array): Promise<void> {
    // The caller may go on with its array, and a Buffer's slice() would share it.
    const bytes = new Uint8Array(record);
    if (this.#log === null) await this.loadLog();
    await (await this.#log)?.file.append(bytes);
  }

  #openLog(): Promise<{ file: LogFile; records: Uint8Array[] }> {
    return LogFile.open(this.#directory.pathOf('log'), this.#runId, (text) => this.#warn(text));
  }

  #warn(sentence: string): void {
    if (this.#warnings.length < WARNINGS_MAX) this.#warnings.push(sentence);
  }
}
