/**
 * Brings records and checkpoints to disk in the background; when the disk refuses, they wait in memory and are
 * retried.
 */
import {
  StoreUnavailableError,
  type Clock,
  type Store,
  type StoredCheckpoint,
} from '../interfaces.js';
import { asSentence } from './attention.js';

/** First and longest pause before a refused write is tried again. */
const RETRY_MS_MIN = 500;
const RETRY_MS_MAX = 30_000;

/** What is to be on disk: a checkpoint, and the records of the log that goes on from it. */
export interface Compactable {
  readonly horizon: { readonly stored: StoredCheckpoint };
  /** All records at the moment of the call, whatever happens before they are taken. */
  records(): Iterable<Uint8Array>;
}

export class Journal {
  readonly #store: Store;
  readonly #clock: Clock;
  /** Records not on disk yet. Bounded by the log itself: every record here is in memory anyway. */
  readonly #pending: Uint8Array[] = [];
  /** Whose checkpoint and log are to replace those on disk; null when they are there. */
  #compacting: Compactable | null = null;
  /** The writes under way; null when nothing is pending. Never rejects. */
  #writing: Promise<void> | null = null;
  readonly #onFatal: (error: unknown) => void;
  #problem: string | null = null;

  /** `onFatal` gets what no retry can mend, e.g. a log of another run. */
  constructor(store: Store, clock: Clock, onFatal: (error: unknown) => void) {
    this.#store = store;
    this.#clock = clock;
    this.#onFatal = onFatal;
  }

  /** What the disk said last, until a write succeeds again. */
  get problem(): string | null {
    return this.#problem;
  }

  append(record: Uint8Array, signal: AbortSignal): void {
    this.#pending.push(record);
    this.#writing ??= this.#drain(signal);
  }

  /**
   * Writes the checkpoint, and then the log without what it has overtaken: after a crash in between, the old
   * records are left out by whoever reads them.
   */
  compact(replica: Compactable, signal: AbortSignal): void {
    this.#compacting = replica;
    this.#writing ??= this.#drain(signal);
  }

  /** Resolves when everything appended so far is on disk, or the signal given to append() has aborted. */
  async flush(): Promise<void> {
    await this.#writing;
  }

  /** Runs `write` until the disk takes it; rejects only when `signal` aborts. */
  async persist(write: () => Promise<void>, signal: AbortSignal): Promise<void> {
    for (let pauseMs = RETRY_MS_MIN; ; pauseMs = Math.min(2 * pauseMs, RETRY_MS_MAX)) {
      try {
        await write();
        this.#problem = null;
        return;
      } catch (error) {
        if (!(error instanceof StoreUnavailableError)) throw error;
        this.#problem = `${asSentence(error.message)} Trying again in ${pauseMs / 1000} s; nothing is lost.`;
        await this.#clock.sleep(pauseMs, signal);
      }
    }
  }

  async #drain(signal: AbortSignal): Promise<void> {
    try {
      for (;;) {
        const [replica, record] = [this.#compacting, this.#pending[0]];
        if (replica !== null) await this.#replace(replica, signal);
        else if (record === undefined) break;
        else {
          await this.persist(() => this.#store.appendLog(record), signal);
          this.#pending.shift();
        }
      }
    } catch (error) {
      // What is still pending comes again by sync.
      if (!signal.aborted) this.#onFatal(error);
    } finally {
      // In the same step as the last look at the queue: a record that comes later starts a new drain.
      this.#writing = null;
    }
  }

  async #replace(replica: Compactable, signal: AbortSignal): Promise<void> {
    this.#compacting = null;
    const { stored } = replica.horizon;
    await this.persist(() => this.#store.saveCheckpoint(stored), signal);
    await this.persist(async () => {
      // Cut again meanwhile: that checkpoint must be on disk before the log loses what is in it.
      if (this.#compacting !== null) return;
      // What is pending now is in the log that is written, or was overtaken with the rest.
      const { length } = this.#pending;
      await this.#store.replaceLog(replica.records());
      this.#pending.splice(0, length);
    }, signal);
  }
}
