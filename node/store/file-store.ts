/**
 * The store of a real peer: log.bin, state.bin, moments.bin, seal.bin and sum-EPOCH.bin in its data directory. What is
 * damaged is kept as FILE.damaged, and the peer goes on without: of a damaged state what compression held back is
 * lost, of damaged moments how the optimiser was going, of a seal nothing that others do not have.
 */
import { open, readdir } from 'node:fs/promises';
import { disk, readAt } from '../files.js';
import {
  StoreUnavailableError,
  type Moments,
  type PeerState,
  type RecordPlace,
  type Store,
  type StoredSeal,
} from '../interfaces.js';
import { DamagedStateError, payloadStart } from './array-file.js';
import { readDurably, setAside, writeAtomically } from './atomic-file.js';
import type { DataDirectory } from './directory.js';
import { LogFile } from './log-file.js';
import { encodeMoments, openMoments } from './moments-file.js';
import * as codec from './state-codec.js';
import { storeUnavailable } from './unavailable.js';

/** Warnings kept for `status`: each open can give one or two for each file. */
const WARNINGS_MAX = 8;

/** Bytes at the beginning of a sum that say where its numbers begin. */
const SUM_PREFIX_BYTES = 16;

const SUM_NAME = /^sum-(\d+)\.bin$/;

export class FileStore implements Store {
  readonly #directory: DataDirectory;
  readonly #runId: string;
  readonly #warnings: string[] = [];
  #log: Promise<LogFile> | null = null;
  #openLog: LogFile | null = null;
  /** The last write of each file: writes of one file share its temporary file, so they come one after the other. */
  readonly #writing = new Map<string, Promise<void>>();

  /** The caller holds the directory's lock (lock.ts). `runId`: 64 hex digits. */
  constructor(directory: DataDirectory, runId: string) {
    this.#directory = directory;
    this.#runId = runId;
  }

  /** Sentences on what was found damaged since the store was opened, oldest first. */
  get warnings(): readonly string[] {
    return this.#warnings;
  }

  /** @throws StoreUnavailableError, as all of these. */
  loadState(): Promise<PeerState | null> {
    const loss = 'this peer goes on with an empty residual';
    return this.#load(this.#directory.pathOf('state'), codec.decodeState, loss);
  }

  /** The caller leaves the arrays alone until this resolves, as with all that is saved. */
  saveState(state: PeerState): Promise<void> {
    return this.#save(this.#directory.pathOf('state'), codec.encodeState(this.#runId, state));
  }

  async loadMoments(): Promise<Moments | null> {
    const path = this.#directory.pathOf('moments');
    try {
      return await openMoments(path, this.#runId);
    } catch (error) {
      if (!(error instanceof DamagedStateError)) throw storeUnavailable('read', path, error);
      await this.#setAside(path, error, 'the optimiser starts with zero moments');
      return null;
    }
  }

  saveMoments(moments: Moments): Promise<void> {
    return this.#save(this.#directory.pathOf('moments'), encodeMoments(this.#runId, moments));
  }

  loadSeal(): Promise<StoredSeal | null> {
    const loss = 'it comes back from other peers';
    return this.#load(this.#directory.pathOf('seal'), codec.decodeStoredSeal, loss);
  }

  async saveSeal(seal: StoredSeal): Promise<void> {
    await this.#save(this.#directory.pathOf('seal'), codec.encodeStoredSeal(this.#runId, seal));
    const [, ...older] = (await this.#sums())
      .filter((epoch) => epoch < seal.epoch)
      .sort((a, b) => b - a);
    for (const epoch of older) await this.#remove(this.#directory.sumPath(epoch));
  }

  loadSum(epoch: number): Promise<Float64Array | null> {
    const loss = 'it is made again, or comes back from other peers';
    return this.#load(this.#directory.sumPath(epoch), codec.decodeSum, loss);
  }

  saveSum(epoch: number, sum: Float64Array): Promise<void> {
    return this.#save(this.#directory.sumPath(epoch), codec.encodeSum(this.#runId, epoch, sum));
  }

  async readSum(epoch: number, start: number, end: number): Promise<Uint8Array> {
    const path = this.#directory.sumPath(epoch);
    try {
      const handle = await open(path, 'r');
      try {
        const prefix = new Uint8Array(SUM_PREFIX_BYTES);
        await readAt(handle, prefix, 0);
        const bytes = new Uint8Array(end - start);
        const count = await readAt(handle, bytes, payloadStart(prefix) + start);
        if (count === bytes.length) return bytes;
        throw new StoreUnavailableError(`${path} is shorter than it was`);
      } finally {
        await handle.close();
      }
    } catch (error) {
      throw storeUnavailable('read', path, error);
    }
  }

  /** @throws ForeignLogError too. */
  async loadLog(onRecord: (record: Uint8Array, place: RecordPlace) => void): Promise<void> {
    // A failed open is tried again by the next call.
    const warn = (sentence: string): void => this.#warn(sentence);
    const path = this.#directory.pathOf('log');
    this.#log = LogFile.open(path, this.#runId, warn, onRecord);
    this.#log.catch(() => (this.#log = null));
    this.#openLog = await this.#log;
  }

  /** @throws ForeignLogError too. */
  async appendLog(record: Uint8Array): Promise<RecordPlace> {
    // The caller may go on with its array, and a Buffer's slice() would share it.
    const bytes = new Uint8Array(record);
    return (await this.#opened()).append(bytes);
  }

  readLog(place: RecordPlace): Uint8Array {
    if (this.#openLog === null) throw new StoreUnavailableError('the log is not open yet');
    return this.#openLog.read(place);
  }

  get logBytes(): number {
    return this.#openLog?.bytes ?? 0;
  }

  /** @throws ForeignLogError too. */
  async compactLog(
    records: readonly (RecordPlace | Uint8Array)[],
    onMoved: (places: readonly RecordPlace[]) => void,
  ): Promise<void> {
    await (await this.#opened()).compact(records, onMoved);
  }

  async #opened(): Promise<LogFile> {
    if (this.#log === null) await this.loadLog(() => undefined);
    return this.#log ?? this.#opened();
  }

  async #load<T>(
    path: string,
    decode: (runId: string, bytes: Uint8Array) => T,
    loss: string,
  ): Promise<T | null> {
    const bytes = await readDurably(path);
    if (bytes === null) return null;
    try {
      return decode(this.#runId, bytes);
    } catch (error) {
      if (!(error instanceof DamagedStateError)) throw error;
      await this.#setAside(path, error, loss);
      return null;
    }
  }

  async #setAside(path: string, error: DamagedStateError, loss: string): Promise<void> {
    await setAside(path);
    this.#warn(`${path} is damaged (${error.message}); it is kept as ${path}.damaged, and ${loss}`);
  }

  async #save(
    path: string,
    parts: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
  ): Promise<void> {
    const before = this.#writing.get(path) ?? Promise.resolve();
    const write = before.then(() => writeAtomically(path, parts));
    const settled = write.catch(() => undefined);
    this.#writing.set(path, settled);
    try {
      await write;
    } finally {
      if (this.#writing.get(path) === settled) this.#writing.delete(path);
    }
  }

  async #sums(): Promise<number[]> {
    const names = await readdir(this.#directory.path);
    return names.flatMap((name) => {
      const found = SUM_NAME.exec(name);
      return found ? [Number(found[1])] : [];
    });
  }

  async #remove(path: string): Promise<void> {
    try {
      await disk.remove(path);
    } catch (error) {
      throw storeUnavailable('remove', path, error);
    }
  }

  #warn(sentence: string): void {
    if (this.#warnings.length < WARNINGS_MAX) this.#warnings.push(sentence);
  }
}
