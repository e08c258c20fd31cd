/** A pause that was asked for: whether this peer trains, and a signal that ends its step or wait when that changes. */

/** What a step or a wait ends with when the peer is told to rest or to go on. */
const CHANGED = new Error('training was paused or resumed');

export class Rest {
  readonly #stop: AbortSignal;
  #isResting: boolean;
  #change = new AbortController();
  #signal: AbortSignal;

  /** `stop`: aborted when the peer ends. */
  constructor(isResting: boolean, stop: AbortSignal) {
    this.#isResting = isResting;
    this.#stop = stop;
    this.#signal = AbortSignal.any([stop, this.#change.signal]);
  }

  get isResting(): boolean {
    return this.#isResting;
  }

  /** Aborts when the peer ends, with isChange() when it is told to rest or to go on: for what may be cut off. */
  get signal(): AbortSignal {
    return this.#signal;
  }

  set(isResting: boolean): void {
    if (isResting === this.#isResting) return;
    this.#isResting = isResting;
    const before = this.#change;
    this.#change = new AbortController();
    this.#signal = AbortSignal.any([this.#stop, this.#change.signal]);
    before.abort(CHANGED);
  }

  /** Whether `error` says no more than that set() was called. */
  static isChange(error: unknown): boolean {
    return error === CHANGED;
  }
}
