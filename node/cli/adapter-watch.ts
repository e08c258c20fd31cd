/** Whether the peer in a directory, which may run, holds a newer adapter than the one that was read. */
import { stat } from 'node:fs/promises';
import { readStoredRun, type StoredRun } from '../stored-run.js';
import { DataDirectory } from '../store/directory.js';

/** What the adapter is the fold of. */
const FILES = ['log', 'seal'] as const;

export class AdapterWatch {
  private seen = '';
  private readonly directory: DataDirectory;

  /** `dir`: data directory of a peer. */
  constructor(private readonly dir: string) {
    this.directory = new DataDirectory(dir);
  }

  /** Whether there may be a newer one than at the last call of `read`. */
  async isNewer(): Promise<boolean> {
    return (await this.stamp()) !== this.seen;
  }

  /** Remembers what is there now as read. */
  async remember(): Promise<void> {
    this.seen = await this.stamp();
  }

  /**
   * Throws as readStoredRun does. Once a graph has run, this thread rounds numbers below 1e-38 to zero: enough to write
   * with, but not to be compared bit for bit with what other peers hold.
   */
  async read(): Promise<StoredRun> {
    // Before: what is written meanwhile is newer.
    await this.remember();
    return readStoredRun(this.dir);
  }

  private async stamp(): Promise<string> {
    const parts = FILES.map((name) =>
      stat(this.directory.pathOf(name)).then(
        ({ size, mtimeMs }) => `${size}@${mtimeMs}`,
        () => '-',
      ),
    );
    return (await Promise.all(parts)).join(' ');
  }
}
