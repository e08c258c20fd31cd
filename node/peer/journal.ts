/** Brings records to disk in the background; when the disk refuses, they wait in memory and are retried. */
import { StoreUnavailableError, type Clock, type Store } from '../interfaces.js';
import { asSentence } from './attention.js';

/** First and longest pause before a refused write is tried again. */
const RETRY_MS_MIN = 500;
const RETRY_MS_MAX = 30_000;

export class Journal {
  readonly #store: Store;
  readonly #clock: Clock;
  /** Records not on disk yet. Bounded by the log itself: every record here is in memory anyway. */
  readonly #pending: Uint8Array[] = [];
  #writing: Promise<void> | null = null;
  #problem: string | null = null;

  constructor(store: Store, clock: Clock) {
    this.#store = store;
    this.#clock = clock;
  }

  /** What the disk said last, until a write succeeds again. */
  get problem(): string | null {
    return this.#problem;
  }

  append(record: Uint8Array, signal: AbortSignal): void {
    this.#pending.push(record);
    this.#writing ??= this.#drain(signal).finally(() => {
      this.#writing = null;
    });
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
    for (let record = this.#pending[0]; record !== undefined; record = this.#pending[0]) {
      const next = record;
      try {
        await this.persist(() => this.#store.appendLog(next), signal);
      } catch (error) {
        if (signal.aborted) return;
        throw error;
      }
      this.#pending.shift();
    }
  }
}
