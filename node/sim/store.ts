/** A simulated disk: it survives crashes, takes time to write, and refuses when told to. */
import {
  StoreUnavailableError,
  type PeerState,
  type Store,
  type StoredCheckpoint,
} from '../interfaces.js';
import type { VirtualTime } from './clock.js';

/** What is on the platter: shared by all incarnations of one peer. */
export class SimDisk {
  state: PeerState | null = null;
  /** Records in order; nobody may write to them, for several disks may share one. */
  log: Uint8Array[] = [];
  checkpoint: StoredCheckpoint | null = null;
  /** Every record that was ever appended, also when the log was rewritten since: for checkers. */
  readonly everAppended: Uint8Array[] = [];
  /** Most records that the log held at one time. */
  recordsMax = 0;
  /** While true every write fails, as on a full disk. */
  isFull = false;

  /** `keep` gives an array with the bytes of a record that nobody writes to. */
  constructor(readonly keep = (record: Uint8Array): Uint8Array => record.slice()) {}

  /** What a backup would hold now. */
  snapshot(): SimDisk {
    const copy = new SimDisk(this.keep);
    copy.state = structuredClone(this.state);
    copy.log = [...this.log];
    copy.checkpoint = structuredClone(this.checkpoint);
    return copy;
  }

  /** Puts a backup back; what the disk ever held is still known to checkers. */
  restore(backup: SimDisk): void {
    const { state, log, checkpoint } = backup.snapshot();
    Object.assign(this, { state, log, checkpoint });
  }
}

/** The open disk of one incarnation: after kill() writes on their way never happen. */
export class SimStore implements Store {
  #isAlive = true;

  constructor(
    readonly disk: SimDisk,
    readonly time: VirtualTime,
    readonly writeMs = 2,
  ) {}

  kill(): void {
    this.#isAlive = false;
  }

  async loadState(): Promise<PeerState | null> {
    return structuredClone(this.disk.state);
  }

  async loadLog(): Promise<Uint8Array[]> {
    return structuredClone(this.disk.log);
  }

  saveState(state: PeerState): Promise<void> {
    const copy = structuredClone(state);
    return this.#write(() => (this.disk.state = copy));
  }

  appendLog(record: Uint8Array): Promise<void> {
    const kept = this.disk.keep(record);
    return this.#write(() => {
      this.disk.recordsMax = Math.max(this.disk.recordsMax, this.disk.log.push(kept));
      this.disk.everAppended.push(kept);
    });
  }

  replaceLog(records: Iterable<Uint8Array>): Promise<void> {
    const copies = Array.from(records, this.disk.keep);
    return this.#write(() => (this.disk.log = copies));
  }

  async loadCheckpoint(): Promise<StoredCheckpoint | null> {
    return structuredClone(this.disk.checkpoint);
  }

  saveCheckpoint(stored: StoredCheckpoint): Promise<void> {
    const copy = structuredClone(stored);
    return this.#write(() => (this.disk.checkpoint = copy));
  }

  #write(effect: () => void): Promise<void> {
    return new Promise((resolve, reject) => {
      this.time.after(this.writeMs, () => {
        if (!this.#isAlive) return;
        if (this.disk.isFull) {
          reject(new StoreUnavailableError('The simulated disk is full: free some space.'));
          return;
        }
        effect();
        resolve();
      });
    });
  }
}
