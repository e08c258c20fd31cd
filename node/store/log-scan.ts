/**
 * Reading log.bin: "murmlog1" | run id (32 bytes) | records of [length u32 LE][first 8 bytes of SHA-256][bytes]. What a
 * crash or a bad disk broke is found by the checksums. However long the log, memory stays at a few records.
 */
import { createHash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { open } from 'node:fs/promises';
import { UPDATE_BYTES_MAX } from '../../protocol/limits.js';
import { errnoOf, readAt } from '../files.js';
import type { RecordPlace } from '../interfaces.js';
import { storeUnavailable } from './unavailable.js';

const MAGIC = new TextEncoder().encode('murmlog1');
const RUN_ID_BYTES = 32;

/** Bytes before the first record. */
export const HEADER_BYTES = MAGIC.length + RUN_ID_BYTES;

const CHECKSUM_BYTES = 8;

/** Bytes before each record: its length and its checksum. */
export const FRAME_BYTES = 4 + CHECKSUM_BYTES;

/** An update and its framing. */
export const RECORD_BYTES_MAX = UPDATE_BYTES_MAX + 1024;

/** Bytes that are read at one time, or as many as a record needs. */
const WINDOW_BYTES = 4 * 1024 * 1024;

/** What a scan of log.bin found. */
export interface LogScan {
  /** Position after the last readable record, in bytes. */
  end: number;
  /** Records in between that fail their checksum. */
  damaged: number;
  /** Bytes after `end`: an append that a crash cut off, or damage to the last record. */
  tailBytes: number;
}

/** Called for each whole record in the order of the file. The array is used again: copy what is kept. */
export type OnRecord = (record: Uint8Array, place: RecordPlace) => void;

/** Thrown when log.bin exists but is not a log of the wanted run. */
export class ForeignLogError extends Error {
  override readonly name = 'ForeignLogError';
}

export function logHeader(runId: string): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES);
  bytes.set(MAGIC);
  bytes.set(Buffer.from(runId, 'hex'), MAGIC.length);
  return bytes;
}

/** What goes before a record. */
export function frameOf(record: Uint8Array): Uint8Array {
  const frame = new Uint8Array(FRAME_BYTES);
  new DataView(frame.buffer).setUint32(0, record.length, true);
  frame.set(checksum(record), 4);
  return frame;
}

/** Bytes of the record that `frame` goes before; null for a length that no record has. */
export function lengthIn(frame: Uint8Array): number | null {
  const length = new DataView(frame.buffer, frame.byteOffset, FRAME_BYTES).getUint32(0, true);
  return length > 0 && length <= RECORD_BYTES_MAX ? length : null;
}

/** Whether `record` agrees with the checksum in its frame. */
export function isWhole(frame: Uint8Array, record: Uint8Array): boolean {
  return Buffer.compare(checksum(record), frame.subarray(4, FRAME_BYTES)) === 0;
}

function checksum(record: Uint8Array): Uint8Array {
  return createHash('sha256').update(record).digest().subarray(0, CHECKSUM_BYTES);
}

/**
 * Reads a log without changing it, also while its peer runs; null when there is no file.
 * Throws ForeignLogError, StoreUnavailableError.
 */
export async function scanLog(
  path: string,
  runId: string,
  onRecord: OnRecord,
): Promise<LogScan | null> {
  let handle: FileHandle;
  try {
    handle = await open(path, 'r');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return null;
    throw storeUnavailable('read', path, error);
  }
  try {
    const { size } = await handle.stat();
    return await new LogScanner(handle, size).scan(path, runId, onRecord);
  } catch (error) {
    if (error instanceof ForeignLogError || errnoOf(error) === null) throw error;
    throw storeUnavailable('read', path, error);
  } finally {
    await handle.close();
  }
}

class LogScanner {
  readonly #handle: FileHandle;
  readonly #size: number;
  #window = new Uint8Array();
  #windowStart = 0;
  /** Lengths of records that were seen: where one is broken, the next is looked for by these. */
  readonly #lengths = new Set<number>();

  constructor(handle: FileHandle, size: number) {
    this.#handle = handle;
    this.#size = size;
  }

  async scan(path: string, runId: string, onRecord: OnRecord): Promise<LogScan> {
    const head = await this.#bytes(0, Math.min(HEADER_BYTES, this.#size));
    const isTorn = head.length < HEADER_BYTES;
    if (!isTorn && Buffer.compare(head, logHeader(runId)) !== 0) {
      throw new ForeignLogError(
        `${path} is not the log of run ${runId}; move it away, and this peer fetches the log from the others`,
      );
    }
    let [end, damaged] = [isTorn ? 0 : HEADER_BYTES, 0];
    // Damage counts only when a whole record follows it; otherwise it is a torn end.
    let damagedSince = 0;
    let offset = HEADER_BYTES;
    while (offset + FRAME_BYTES <= this.#size) {
      const record = await this.#recordAt(offset);
      if (record !== null) {
        onRecord(record, offset);
        this.#lengths.add(record.length);
        offset += FRAME_BYTES + record.length;
        [end, damaged, damagedSince] = [offset, damaged + damagedSince, 0];
        continue;
      }
      // Either the record is damaged, or its length, or this is the torn end.
      damagedSince += 1;
      offset = await this.#nextAfter(offset);
    }
    return { end, damaged, tailBytes: this.#size - end };
  }

  /** The whole record at `offset`; null when there is none. */
  async #recordAt(offset: number): Promise<Uint8Array | null> {
    const length = lengthIn(await this.#bytes(offset, FRAME_BYTES));
    if (length === null || offset + FRAME_BYTES + length > this.#size) return null;
    const bytes = await this.#bytes(offset, FRAME_BYTES + length);
    const record = bytes.subarray(FRAME_BYTES);
    return isWhole(bytes.subarray(0, FRAME_BYTES), record) ? record : null;
  }

  /**
   * Where the next whole record begins; the end of the file when none is found. Only lengths that were seen
   * before are tried: the updates of a run have few, and a checksum at each byte would take hours.
   */
  async #nextAfter(offset: number): Promise<number> {
    const length = lengthIn(await this.#bytes(offset, FRAME_BYTES));
    const next = offset + FRAME_BYTES + (length ?? this.#size);
    // The record itself is damaged, its length is not.
    if (next + FRAME_BYTES <= this.#size && (await this.#recordAt(next)) !== null) return next;
    for (let at = offset + 1; at + FRAME_BYTES <= this.#size; at++) {
      const candidate = lengthIn(await this.#nearby(at));
      if (candidate === null || !this.#lengths.has(candidate)) continue;
      if ((await this.#recordAt(at)) !== null) return at;
    }
    return this.#size;
  }

  /** A frame at `at`, without a promise for each byte that is looked at. */
  #nearby(at: number): Uint8Array | Promise<Uint8Array> {
    const start = at - this.#windowStart;
    if (start >= 0 && start + FRAME_BYTES <= this.#window.length)
      return this.#window.subarray(start, start + FRAME_BYTES);
    return this.#bytes(at, FRAME_BYTES);
  }

  /** Bytes of the file, valid until the next call. */
  async #bytes(offset: number, length: number): Promise<Uint8Array> {
    const start = offset - this.#windowStart;
    if (start >= 0 && start + length <= this.#window.length)
      return this.#window.subarray(start, start + length);
    const wanted = Math.min(Math.max(length, WINDOW_BYTES), this.#size - offset);
    if (this.#window.length !== wanted) this.#window = new Uint8Array(wanted);
    this.#windowStart = offset;
    const count = await readAt(this.#handle, this.#window, offset);
    return this.#window.subarray(0, Math.min(length, count));
  }
}
