/**
 * metrics.jsonl: one JSON object a line, appended and never synced, for it is no state. At METRICS_BYTES_MAX it becomes
 * metrics.1.jsonl, in place of the one before. What a crash tore at its end is cut off at the next start.
 */
import type { FileHandle } from 'node:fs/promises';
import { StoreUnavailableError } from '../interfaces.js';
import { disk, errnoOf } from '../files.js';
import { readIfThere } from './atomic-file.js';
import { storeUnavailable } from './unavailable.js';
import { PRIVATE_FILE } from '../private-file.js';

/** Of one file; there are two at most. Some 12,000 epochs. */
export const METRICS_BYTES_MAX = 4 * 1024 * 1024;

/** Lines that wait for a disk that does not answer; later ones are lost. */
const PENDING_MAX = 64;

const NEWLINE = 0x0a;

export class MetricsFile {
  readonly #path: string;
  #size: number;
  #pending = 0;
  #writing: Promise<void> = Promise.resolve();
  #problem: string | null = null;

  private constructor(path: string, size: number) {
    this.#path = path;
    this.#size = size;
  }

  /** The values of all lines that are JSON, oldest first, and the file to go on with. Throws StoreUnavailableError. */
  static async open(path: string): Promise<{ file: MetricsFile; values: unknown[] }> {
    const older = await readIfThere(olderPath(path));
    const bytes = (await readIfThere(path)) ?? new Uint8Array();
    const size = bytes.lastIndexOf(NEWLINE) + 1;
    if (size < bytes.length) await truncate(path, size);
    const values = [...parseLines(older), ...parseLines(bytes.subarray(0, size))];
    return { file: new MetricsFile(path, size), values };
  }

  /** Why the last line was not written, in a sentence; null when it was. */
  get problem(): string | null {
    return this.#problem;
  }

  /** Appends `value` in the background. */
  append(value: object): void {
    if (this.#pending >= PENDING_MAX) return;
    this.#pending++;
    const line = new TextEncoder().encode(`${JSON.stringify(value)}\n`);
    this.#writing = this.#writing.then(async () => {
      try {
        await this.#write(line);
        this.#problem = null;
      } catch (error) {
        const failure = storeUnavailable('append to', this.#path, error);
        this.#problem = `${failure.message}: the curves of this peer have a gap, training goes on`;
      }
      this.#pending--;
    });
  }

  /** Resolves when all lines are written, or could not be. */
  async flush(): Promise<void> {
    await this.#writing;
  }

  async #write(line: Uint8Array): Promise<void> {
    if (this.#size + line.length > METRICS_BYTES_MAX) {
      await disk.rename(this.#path, olderPath(this.#path));
      this.#size = 0;
    }
    const handle = await this.#open();
    try {
      // At a position: what a failed append left behind is overwritten.
      const { bytesWritten } = await handle.write(line, 0, line.length, this.#size);
      if (bytesWritten < line.length)
        throw new StoreUnavailableError(`only ${bytesWritten} of ${line.length} bytes were taken`);
      this.#size += line.length;
    } finally {
      await handle.close();
    }
  }

  /** The file, which somebody may have taken away meanwhile. */
  async #open(): Promise<FileHandle> {
    try {
      if (this.#size > 0) return await disk.open(this.#path, 'r+');
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw error;
    }
    this.#size = 0;
    return disk.open(this.#path, 'w', PRIVATE_FILE);
  }
}

function olderPath(path: string): string {
  return path.replace(/\.jsonl$/, '.1.jsonl');
}

/** The values of the lines that are JSON: a bad disk may have changed some. */
function parseLines(bytes: Uint8Array | null): unknown[] {
  if (bytes === null) return [];
  return new TextDecoder()
    .decode(bytes)
    .split('\n')
    .flatMap((line): unknown[] => {
      try {
        return [JSON.parse(line)];
      } catch {
        return [];
      }
    });
}

async function truncate(path: string, size: number): Promise<void> {
  try {
    const handle = await disk.open(path, 'r+');
    try {
      await handle.truncate(size);
    } finally {
      await handle.close();
    }
  } catch (error) {
    throw storeUnavailable('write', path, error);
  }
}
