/**
 * log.bin as its peer writes it (log-scan.ts has the format): appended to, each append synced; read record by record;
 * and replaced as a whole, by the records that are to stay.
 */
import { closeSync, fstatSync, openSync, readSync, statSync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { StoreUnavailableError, type RecordPlace } from '../interfaces.js';
import { disk, errnoOf, makeDurable, writeAt } from '../files.js';
import { writeAtomically } from './atomic-file.js';
import {
  FRAME_BYTES,
  frameOf,
  HEADER_BYTES,
  isWhole,
  lengthIn,
  logHeader,
  RECORD_BYTES_MAX,
  scanLog,
  type OnRecord,
} from './log-scan.js';
import { storeUnavailable } from './unavailable.js';

/** One instance a file at a time (lock.ts). */
export class LogFile {
  readonly #path: string;
  readonly #waiting: PendingAppend[] = [];
  /** Position where the next record goes; what lies behind it is not part of the log. */
  #end: number;
  /** The old file while it is being replaced: the places that are known are those in it. */
  #oldFile: number | null = null;
  #flushing = false;
  /** Writes one after the other. */
  #writing: Promise<void> = Promise.resolve();

  private constructor(
    path: string,
    readonly runId: string,
    end: number,
  ) {
    this.#path = path;
    this.#end = end;
  }

  /**
   * Opens `path`, made when missing. A torn end is cut off; damaged records in between are passed over. `warn` gets
   * a sentence for each. Throws ForeignLogError, StoreUnavailableError.
   */
  static async open(
    path: string,
    runId: string,
    warn: (sentence: string) => void,
    onRecord: OnRecord,
  ): Promise<LogFile> {
    await syncIfThere(path);
    const scan = await scanLog(path, runId, onRecord);
    if (scan === null || scan.end < HEADER_BYTES) {
      await writeAtomically(path, [logHeader(runId)]);
      return new LogFile(path, runId, HEADER_BYTES);
    }
    if (scan.damaged > 0) {
      warn(
        `${path}: ${scan.damaged} damaged record${scan.damaged === 1 ? ' was' : 's were'} passed over; the updates ` +
          'come back from other peers',
      );
    }
    if (scan.tailBytes > 0) {
      await truncate(path, scan.end);
      warn(
        `${path}: ${scan.tailBytes} bytes of an unfinished append at the end were dropped; ` +
          `the update comes back from other peers`,
      );
    }
    return new LogFile(path, runId, scan.end);
  }

  /** Bytes of the file. */
  get bytes(): number {
    return this.#end;
  }

  /**
   * Resolves with the place of the record when it survives power loss. Appends that wait together share one sync.
   * The caller leaves `record` alone until then. Throws StoreUnavailableError; the log then ends where it
   * ended before.
   */
  append(record: Uint8Array): Promise<RecordPlace> {
    if (record.length === 0 || record.length > RECORD_BYTES_MAX) {
      throw new RangeError(`a log record has 1 to ${RECORD_BYTES_MAX} bytes, not ${record.length}`);
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push({ record, resolve, reject });
      if (!this.#flushing) void this.#flush();
    });
  }

  /** The record at `place`, read at once. Throws StoreUnavailableError, also when it is damaged. */
  read(place: RecordPlace): Uint8Array {
    try {
      const file = this.#oldFile ?? openSync(this.#path, 'r');
      try {
        return readRecord(file, place);
      } finally {
        if (file !== this.#oldFile) closeSync(file);
      }
    } catch (error) {
      throw storeUnavailable('read', this.#path, error);
    }
  }

  /**
   * Replaces all records by `records`, each a place in the file as it is or a new one. Resolves when they survive
   * power loss; `onMoved` gets their places when read() takes these. Throws StoreUnavailableError; the log is then
   * as before, or replaced, if onMoved was called: power loss may bring the old one back until a compaction succeeds.
   */
  async compact(
    records: readonly (RecordPlace | Uint8Array)[],
    onMoved: (places: readonly RecordPlace[]) => void,
  ): Promise<void> {
    await this.#inTurn(async () => {
      const places: RecordPlace[] = [];
      let end = HEADER_BYTES;
      const parts = function* (this: LogFile): Generator<Uint8Array> {
        yield logHeader(this.runId);
        for (const one of records) {
          const record = typeof one === 'number' ? this.read(one) : one;
          places.push(end);
          end += FRAME_BYTES + record.length;
          yield frameOf(record);
          yield record;
        }
      }.call(this);
      this.#oldFile = openOld(this.#path);
      try {
        await writeAtomically(this.#path, parts);
        this.#end = end;
        onMoved(places);
      } catch (error) {
        // Where the directory alone could not be synced, the new file lies there already.
        if (isReplaced(this.#oldFile, this.#path)) {
          this.#end = end;
          onMoved(places);
        }
        throw error;
      } finally {
        closeSync(this.#oldFile);
        this.#oldFile = null;
      }
    });
  }

  async #inTurn<T>(write: () => Promise<T>): Promise<T> {
    const turn = this.#writing.then(write);
    this.#writing = turn.then(
      () => undefined,
      () => undefined,
    );
    return turn;
  }

  async #flush(): Promise<void> {
    this.#flushing = true;
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.splice(0);
      try {
        const places = await this.#inTurn(() => this.#write(batch.map(({ record }) => record)));
        for (const [i, { resolve }] of batch.entries()) resolve(places[i] ?? 0);
      } catch (error) {
        const failure = storeUnavailable('append to', this.#path, error);
        for (const { reject } of batch) reject(failure);
      }
    }
    this.#flushing = false;
  }

  async #write(records: readonly Uint8Array[]): Promise<RecordPlace[]> {
    // Opened each time: a handle to a file that was deleted would take writes for ever.
    const handle = await disk.open(this.#path, 'r+');
    try {
      await this.#cutTo(handle);
      let position = this.#end;
      const places: RecordPlace[] = [];
      for (const record of records) {
        places.push(position);
        await writeAt(handle, frameOf(record), position);
        await writeAt(handle, record, position + FRAME_BYTES);
        position += FRAME_BYTES + record.length;
      }
      await handle.datasync();
      this.#end = position;
      return places;
    } finally {
      await handle.close();
    }
  }

  /** What a failed append left behind must not follow a shorter record. */
  async #cutTo(handle: FileHandle): Promise<void> {
    const stats = await handle.stat();
    if (stats.size < this.#end && stats.isFile()) {
      throw new StoreUnavailableError(
        `cannot append to ${this.#path}: it has ${stats.size} bytes instead of ${this.#end}, so another ` +
          'program changed it; stop that program and start this peer again',
      );
    }
    if (stats.size > this.#end) await handle.truncate(this.#end);
  }
}

/** A record of a log that this process does not write. Throws what the system throws, StoreUnavailableError. */
export function readLogRecord(path: string, place: RecordPlace): Uint8Array {
  const file = openSync(path, 'r');
  try {
    return readRecord(file, place);
  } finally {
    closeSync(file);
  }
}

interface PendingAppend {
  record: Uint8Array;
  resolve: (place: RecordPlace) => void;
  reject: (error: Error) => void;
}

function openOld(path: string): number {
  try {
    return openSync(path, 'r');
  } catch (error) {
    throw storeUnavailable('read', path, error);
  }
}

function isReplaced(oldFile: number, path: string): boolean {
  try {
    return fstatSync(oldFile).ino !== statSync(path).ino;
  } catch {
    return false;
  }
}

function readRecord(file: number, place: RecordPlace): Uint8Array {
  const frame = readExactly(file, FRAME_BYTES, place);
  const length = lengthIn(frame);
  const record = length === null ? null : readExactly(file, length, place + FRAME_BYTES);
  if (record === null || !isWhole(frame, record)) {
    throw new StoreUnavailableError(
      `a record of the log on disk (at byte ${place}) is damaged; start this peer again, and it fetches the update from the others`,
    );
  }
  return record;
}

function readExactly(file: number, length: number, position: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let done = 0; done < length;) {
    const count = readSync(file, bytes, done, length - done, position + done);
    if (count === 0) throw new StoreUnavailableError('the log on disk is shorter than it was');
    done += count;
  }
  return bytes;
}

/** What others will be told of must survive power loss: its writer may have been killed before it was synced. */
async function syncIfThere(path: string): Promise<void> {
  try {
    await makeDurable(path);
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw storeUnavailable('read', path, error);
  }
}

async function truncate(path: string, size: number): Promise<void> {
  try {
    const handle = await disk.open(path, 'r+');
    try {
      await handle.truncate(size);
      await handle.sync();
    } finally {
      await handle.close();
    }
  } catch (error) {
    throw storeUnavailable('write', path, error);
  }
}
