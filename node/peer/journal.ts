/** Brings records to the log on disk in the background; when the disk refuses, they wait in memory and are retried. */
import { StoreUnavailableError, type Clock, type RecordPlace, type Store } from '../interfaces.js';
import { asSentence } from './attention.js';

/** First and longest pause before a refused write is tried again. */
const RETRY_MS_MIN = 500;
const RETRY_MS_MAX = 30_000;

/** One record on its way to the disk. */
export interface LogRecord {
  /** Called when it is written, so that a body waits there in one copy only. */
  encode(): Uint8Array;
  /** Called when it survives power loss. */
  onSaved?(place: RecordPlace): void;
}

/** What is to stay in the log: records by their places, and others encoded. */
export interface Compaction {
  records: readonly (RecordPlace | Uint8Array)[];
  /** See Store.compactLog. */
  onMoved(places: readonly RecordPlace[]): void;
}

export class Journal {
  readonly #store: Store;
  readonly #clock: Clock;
  /** Records not on disk yet. Bounded by the log itself, which takes no more when too many bodies wait. */
  readonly #pending: LogRecord[] = [];
  /** Asked for what is to stay when the log is compacted; null when it need not be. */
  #compaction: (() => Compaction) | null = null;
  /** The writes under way; null when nothing is pending. Never rejects. */
  #writing: Promise<void> | null = null;
  readonly #onFatal: (error: unknown) => void;
  #problem: string | null = null;

  /** `onFatal` gets what no retry can help, e.g. a log of another run. */
  constructor(store: Store, clock: Clock, onFatal: (error: unknown) => void) {
    this.#store = store;
    this.#clock = clock;
    this.#onFatal = onFatal;
  }

  /** What the disk said last, until a write succeeds again. */
  get problem(): string | null {
    return this.#problem;
  }

  append(record: LogRecord, signal: AbortSignal): void {
    this.#pending.push(record);
    this.#writing ??= this.#drain(signal);
  }

  /** Rewrites the log once what is pending now has been written. */
  compact(compaction: () => Compaction, signal: AbortSignal): void {
    this.#compaction = compaction;
    this.#writing ??= this.#drain(signal);
  }

  /** Resolves when everything appended so far is on disk, or the signal given to append() has aborted. */
  async flush(): Promise<void> {
    await this.#writing;
  }

  /** Runs `write` until the disk takes it; rejects only when `signal` aborts. */
  async persist<T>(write: () => Promise<T>, signal: AbortSignal): Promise<T> {
    for (let pauseMs = RETRY_MS_MIN; ; pauseMs = Math.min(2 * pauseMs, RETRY_MS_MAX)) {
      try {
        const result = await write();
        this.#problem = null;
        return result;
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
        const record = this.#pending[0];
        if (record !== undefined) {
          const encoded = record.encode();
          const place = await this.persist(() => this.#store.appendLog(encoded), signal);
          this.#pending.shift();
          record.onSaved?.(place);
        } else if (this.#compaction !== null) {
          const compaction = this.#compaction;
          this.#compaction = null;
          // Asked again for each try: one that failed may have moved the records.
          await this.persist(() => {
            const asked = compaction();
            return this.#store.compactLog(asked.records, (places) => asked.onMoved(places));
          }, signal);
        } else break;
      }
    } catch (error) {
      // What is still pending comes again by sync.
      if (!signal.aborted) this.#onFatal(error);
    } finally {
      // In the same step as the last look at the queue: a record that comes later starts a new drain.
      this.#writing = null;
    }
  }
}
