/** A simulated disk: it survives crashes, takes time to write, and refuses when told to. */
import { littleEndian } from '../../protocol/bytes.js';
import {
  StoreUnavailableError,
  type Moments,
  type OptimiserState,
  type PeerState,
  type RecordPlace,
  type Store,
  type StoredSeal,
} from '../interfaces.js';
import { HeldMoments } from '../moments.js';
import type { VirtualTime } from './clock.js';

/** What is on the platter: shared by all incarnations of one peer. */
export class SimDisk {
  state: PeerState | null = null;
  moments: OptimiserState | null = null;
  /** Records in order; nobody may write to them, for several disks may share one. */
  log: Uint8Array[] = [];
  seal: StoredSeal | null = null;
  readonly sums = new Map<number, Float64Array>();
  /** Every record that was ever appended, also when the log was compacted since: for checkers. */
  readonly everAppended: Uint8Array[] = [];
  /** Every certificate that was ever adopted: for checkers. */
  readonly everSealed: StoredSeal[] = [];
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
    copy.moments = structuredClone(this.moments);
    copy.log = [...this.log];
    copy.seal = structuredClone(this.seal);
    for (const [epoch, sum] of this.sums) copy.sums.set(epoch, sum.slice());
    return copy;
  }

  /** Puts a backup back; what the disk ever held is still known to checkers. */
  restore(backup: SimDisk): void {
    const { state, moments, log, seal, sums } = backup.snapshot();
    Object.assign(this, { state, moments, log, seal });
    this.sums.clear();
    for (const [epoch, sum] of sums) this.sums.set(epoch, sum);
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

  get logBytes(): number {
    return this.disk.log.reduce((sum, record) => sum + record.length, 0);
  }

  async loadState(): Promise<PeerState | null> {
    return structuredClone(this.disk.state);
  }

  saveState(state: PeerState): Promise<void> {
    const copy = structuredClone(state);
    return this.#write(() => void (this.disk.state = copy));
  }

  async loadMoments(): Promise<Moments | null> {
    const { moments } = this.disk;
    return moments && new HeldMoments(structuredClone(moments));
  }

  saveMoments(moments: Moments): Promise<void> {
    // At once: whatever gives way here would change the order of things under virtual time.
    if (!(moments instanceof HeldMoments)) throw new TypeError('simulated trainers hold moments');
    const copy = structuredClone(moments.state);
    return this.#write(() => void (this.disk.moments = copy));
  }

  async loadLog(onRecord: (record: Uint8Array, place: RecordPlace) => void): Promise<void> {
    for (const [place, record] of this.disk.log.entries()) onRecord(record, place);
  }

  appendLog(record: Uint8Array): Promise<RecordPlace> {
    const kept = this.disk.keep(record);
    return this.#write(() => {
      const count = this.disk.log.push(kept);
      this.disk.recordsMax = Math.max(this.disk.recordsMax, count);
      this.disk.everAppended.push(kept);
      return count - 1;
    });
  }

  readLog(place: RecordPlace): Uint8Array {
    const record = this.disk.log[place];
    if (record === undefined) throw new StoreUnavailableError(`no record ${place}`);
    return record;
  }

  compactLog(
    records: readonly (RecordPlace | Uint8Array)[],
    onMoved: (places: readonly RecordPlace[]) => void,
  ): Promise<void> {
    return this.#write(() => {
      this.disk.log = records.map((record) =>
        typeof record === 'number' ? this.readLog(record) : this.disk.keep(record),
      );
      onMoved(records.map((_, place) => place));
    });
  }

  async loadSeal(): Promise<StoredSeal | null> {
    return structuredClone(this.disk.seal);
  }

  saveSeal(seal: StoredSeal): Promise<void> {
    const copy = structuredClone(seal);
    return this.#write(() => {
      this.disk.seal = copy;
      this.disk.everSealed.push(copy);
      const [, ...older] = [...this.disk.sums.keys()]
        .filter((epoch) => epoch < copy.epoch)
        .sort((a, b) => b - a);
      for (const epoch of older) this.disk.sums.delete(epoch);
    });
  }

  async loadSum(epoch: number): Promise<Float64Array | null> {
    return this.disk.sums.get(epoch)?.slice() ?? null;
  }

  saveSum(epoch: number, sum: Float64Array): Promise<void> {
    const copy = sum.slice();
    return this.#write(() => void this.disk.sums.set(epoch, copy));
  }

  async readSum(epoch: number, start: number, end: number): Promise<Uint8Array> {
    const sum = this.disk.sums.get(epoch);
    if (sum === undefined) throw new StoreUnavailableError(`no sum of epoch ${epoch}`);
    return littleEndian(sum).slice(start, end);
  }

  #write<T>(effect: () => T): Promise<T> {
    return new Promise((resolve, reject) => {
      this.time.after(this.writeMs, () => {
        if (!this.#isAlive) return;
        if (this.disk.isFull) {
          reject(new StoreUnavailableError('The simulated disk is full: free some space.'));
          return;
        }
        resolve(effect());
      });
    });
  }
}
