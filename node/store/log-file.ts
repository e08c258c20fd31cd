/**
 * log.bin: "murmlog1" | run id (32 bytes) | records of [length u32 LE][first 8 bytes of SHA-256][bytes].
 * Appended to, each append synced, or replaced as a whole. What a crash or a bad disk broke is found by the checksums.
 */
import { createHash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { StoreUnavailableError } from '../interfaces.js';
import { UPDATE_BYTES_MAX } from '../../protocol/limits.js';
import { disk } from '../files.js';
import { readDurably, readIfThere, writeAtomically } from './atomic-file.js';
import { storeUnavailable } from './unavailable.js';

const MAGIC = new TextEncoder().encode('murmlog1');
const RUN_ID_BYTES = 32;
/** Bytes before the first record. */
const HEADER_BYTES = MAGIC.length + RUN_ID_BYTES;
const CHECKSUM_BYTES = 8;
const FRAME_BYTES = 4 + CHECKSUM_BYTES;
/** An equivocation proof holds two updates. */
const RECORD_BYTES_MAX = 2 * UPDATE_BYTES_MAX + 1024;

/** What a scan of log.bin found. */
export interface LogScan {
  /** Whole records in the order of the file; they share its memory. */
  records: Uint8Array[];
  /** Position after the last readable record, in bytes. */
  end: number;
  /** Records in between that fail their checksum. */
  damaged: number;
  /** Bytes after `end`: an append that a crash cut off, or damage to the last record. */
  tailBytes: number;
}

/** Thrown when log.bin exists but is not a log of the wanted run. */
export class ForeignLogError extends Error {
  override readonly name = 'ForeignLogError';
}

/**
 * Reads a log without changing it, also while its peer runs; null when there is no file.
 * Throws ForeignLogError, StoreUnavailableError.
 */
export async function readLog(path: string, runId: string): Promise<LogScan | null> {
  const bytes = await readIfThere(path);
  if (bytes === null) return null;
  return scanLog(path, runId, bytes);
}

/** Appends to log.bin. One instance a file at a time (lock.ts). */
export class LogFile {
  readonly #path: string;
  readonly #waiting: PendingAppend[] = [];
  /** Position where the next record goes; what lies behind it is not part of the log. */
  #end: number;
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
   * Opens `path`, made when missing. A torn end is cut off; damaged records in between are left out and
   * the whole old file is kept as log.bin.damaged. `warn` gets a sentence for each.
   * Throws ForeignLogError, StoreUnavailableError.
   */
  static async open(
    path: string,
    runId: string,
    warn: (sentence: string) => void,
  ): Promise<{ file: LogFile; records: Uint8Array[] }> {
    const bytes = await readDurably(path);
    if (bytes === null || bytes.length < HEADER_BYTES) {
      await writeAtomically(path, [header(runId)]);
      return { file: new LogFile(path, runId, HEADER_BYTES), records: [] };
    }
    const scan = scanLog(path, runId, bytes);
    if (scan.damaged > 0) {
      await writeAtomically(`${path}.damaged`, [bytes]);
      await writeAtomically(path, [header(runId), ...scan.records.flatMap(frame)]);
      warn(
        `${path}: ${scan.damaged} damaged record${scan.damaged === 1 ? ' was' : 's were'} left out; ` +
          `the old file is kept as log.bin.damaged, and the updates come back from other peers`,
      );
    } else if (scan.tailBytes > 0) {
      await truncate(path, scan.end);
      warn(
        `${path}: ${scan.tailBytes} bytes of an unfinished append at the end were dropped; ` +
          `the update comes back from other peers`,
      );
    }
    const end = scan.records.reduce((sum, record) => sum + FRAME_BYTES + record.length, 0);
    return { file: new LogFile(path, runId, HEADER_BYTES + end), records: scan.records };
  }

  /**
   * Resolves when the record survives power loss. Appends that wait together share one sync.
   * The caller leaves `record` alone until then. Throws StoreUnavailableError; the log then ends where it
   * ended before.
   */
  append(record: Uint8Array): Promise<void> {
    if (record.length === 0 || record.length > RECORD_BYTES_MAX) {
      throw new RangeError(`a log record has 1 to ${RECORD_BYTES_MAX} bytes, not ${record.length}`);
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push({ record, resolve, reject });
      if (!this.#flushing) void this.#flush();
    });
  }

  /**
   * Replaces all records. Resolves when the new ones survive power loss.
   * Throws StoreUnavailableError; the log is then as before.
   */
  async replace(records: Iterable<Uint8Array>): Promise<void> {
    await this.#inTurn(async () => {
      let end = HEADER_BYTES;
      const head = header(this.runId);
      const parts = function* (): Generator<Uint8Array> {
        yield head;
        for (const record of records) {
          end += FRAME_BYTES + record.length;
          yield* frame(record);
        }
      };
      await writeAtomically(this.#path, parts());
      this.#end = end;
    });
  }

  async #inTurn(write: () => Promise<void>): Promise<void> {
    const turn = this.#writing.then(write);
    this.#writing = turn.catch(() => undefined);
    await turn;
  }

  async #flush(): Promise<void> {
    this.#flushing = true;
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.splice(0);
      try {
        await this.#inTurn(() => this.#write(batch.flatMap(({ record }) => frame(record))));
        for (const { resolve } of batch) resolve();
      } catch (error) {
        const failure = storeUnavailable('append to', this.#path, error);
        for (const { reject } of batch) reject(failure);
      }
    }
    this.#flushing = false;
  }

  async #write(parts: Uint8Array[]): Promise<void> {
    // Opened each time: a handle to a file that was deleted would take writes for ever.
    const handle = await disk.open(this.#path, 'r+');
    try {
      const { size } = await handle.stat();
      if (size < this.#end && (await handle.stat()).isFile()) {
        throw new StoreUnavailableError(
          `cannot append to ${this.#path}: it has ${size} bytes instead of ${this.#end}, so another ` +
            'program changed it; stop that program and start this peer again',
        );
      }
      // What a failed append left behind must not follow a shorter record.
      if (size > this.#end) await handle.truncate(this.#end);
      let position = this.#end;
      for (const part of parts) {
        await writeAll(handle, part, position);
        position += part.length;
      }
      await handle.datasync();
      this.#end = position;
    } finally {
      await handle.close();
    }
  }
}

interface PendingAppend {
  record: Uint8Array;
  resolve: () => void;
  reject: (error: Error) => void;
}

async function writeAll(handle: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  let written = 0;
  while (written < bytes.length) {
    const left = bytes.length - written;
    const { bytesWritten } = await handle.write(bytes, written, left, position + written);
    written += bytesWritten;
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

function header(runId: string): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES);
  bytes.set(MAGIC);
  bytes.set(Buffer.from(runId, 'hex'), MAGIC.length);
  return bytes;
}

function frame(record: Uint8Array): [Uint8Array, Uint8Array] {
  const head = new Uint8Array(FRAME_BYTES);
  new DataView(head.buffer).setUint32(0, record.length, true);
  head.set(checksum(record), 4);
  return [head, record];
}

function checksum(record: Uint8Array): Uint8Array {
  return createHash('sha256').update(record).digest().subarray(0, CHECKSUM_BYTES);
}

function scanLog(path: string, runId: string, bytes: Uint8Array): LogScan {
  const wanted = header(runId);
  if (!wanted.every((byte, i) => bytes[i] === byte)) {
    throw new ForeignLogError(
      `${path} is not the log of run ${runId}; move it away, and this peer fetches the log from the others`,
    );
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const records: Uint8Array[] = [];
  const lengths = new Set<number>();
  let damaged = 0;
  // Damage counts only when a whole record follows it; otherwise it is a torn end.
  let damagedSince = 0;
  let end = HEADER_BYTES;
  let offset = HEADER_BYTES;
  // A search that found nothing finds nothing further back either, until another length is seen.
  let searched = -1;
  while (offset + FRAME_BYTES <= bytes.length) {
    const length = view.getUint32(offset, true);
    const next = offset + FRAME_BYTES + length;
    const isPlausible = length > 0 && length <= RECORD_BYTES_MAX && next <= bytes.length;
    if (isPlausible && isWhole(bytes, offset, length)) {
      records.push(bytes.subarray(offset + FRAME_BYTES, next));
      lengths.add(length);
      damaged += damagedSince;
      damagedSince = 0;
      end = next;
      offset = next;
    } else {
      // Either the record is damaged, or its length, or this is the torn end.
      damagedSince++;
      const found = searched === lengths.size ? null : findFrame(bytes, view, offset + 1, lengths);
      if (found === null) searched = lengths.size;
      offset = found ?? (isPlausible ? next : bytes.length);
    }
  }
  return { records, end, damaged, tailBytes: bytes.length - end };
}

/** Whether the frame at `offset` holds `length` bytes that agree with their checksum. */
function isWhole(bytes: Uint8Array, offset: number, length: number): boolean {
  const start = offset + FRAME_BYTES;
  const sum = bytes.subarray(offset + 4, start);
  return Buffer.compare(checksum(bytes.subarray(start, start + length)), sum) === 0;
}

/**
 * Where the next whole record begins, from `offset` on; null when none is found. Only the
 * lengths that were seen before are tried: the updates of a run have few, and a checksum at each byte would
 * take hours.
 */
function findFrame(
  bytes: Uint8Array,
  view: DataView,
  offset: number,
  lengths: ReadonlySet<number>,
): number | null {
  for (let at = offset; at + FRAME_BYTES <= bytes.length; at++) {
    const length = view.getUint32(at, true);
    const fits = lengths.has(length) && at + FRAME_BYTES + length <= bytes.length;
    if (fits && isWhole(bytes, at, length)) return at;
  }
  return null;
}
