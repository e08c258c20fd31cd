/**
 * One blob from several donors: which chunk to ask of whom, whom to drop, whom to try again. Chunks that have
 * come and were checked stay, whatever becomes of the donors.
 */
import { PartialBlob, type BlobName } from '../../protocol/blob.js';
import { BlobProtocolError } from '../../protocol/errors.js';
import { RUN_PEERS_MAX } from '../../protocol/limits.js';
import { BlobAbsentError, Draw, type DrawComponents } from './draw.js';

/** Donors drawn from at one time: more share the same link. */
const PARALLEL_MAX = 3;

/** How often the donors are looked at, in ms. */
const TICK_MS = 500;

/** So long without a chunk, in ms, and those in reserve are asked too. */
const RESERVE_AFTER_MS = 2_000;

/** A donor that is silent for so long, in ms, while another one could give what it owes, is dropped. */
const SLOW_MS = 3_000;

/** A donor that is silent for so long, in ms, is dropped: 256 KiB in it are 105 kbit/s. */
const SILENT_MS_MAX = 20_000;

/** So long without a chunk from anyone, in ms, ends the attempt. */
const GIVE_UP_MS = 30_000;

/** Pause after a donor's stream broke, in ms, doubled each time; so often in a row without a chunk drops it. */
const REST_MS = 500;
const FAILURES_MAX = 3;

interface Donor {
  peerId: string;
  /** Asked only when the others do not get on. */
  isReserve: boolean;
  state: 'ready' | 'drawing' | 'dropped';
  failures: number;
  /** Not asked before this time. */
  restUntilMs: number;
}

export interface DownloadComponents extends DrawComponents {
  /** A number in [0, 1): peers that begin at different chunks can give to each other. */
  start: number;
  /** `peerId` sent what the root does not name, or broke the protocol. */
  onLie: (peerId: string) => void;
}

export class Download {
  readonly blob: PartialBlob;
  readonly #c: DownloadComponents;
  readonly #donors = new Map<string, Donor>();
  readonly #draws = new Map<Draw, Promise<void>>();
  /** Chunks that were asked for, and of whom. */
  readonly #wanted = new Map<number, Draw>();
  #progressMs = 0;
  #wake: () => void = () => undefined;

  constructor(components: DownloadComponents, name: BlobName) {
    this.#c = components;
    this.blob = new PartialBlob(name);
    this.blob.onMore(() => (this.#progressMs = components.clock.now()));
  }

  /** Adds a donor, or moves it out of the reserve. Returns false when it was dropped. */
  addDonor(peerId: string, isReserve = false): boolean {
    const donor = this.#donors.get(peerId);
    if (donor === undefined) {
      if (this.#donors.size >= RUN_PEERS_MAX) return false;
      const state = 'ready';
      this.#donors.set(peerId, { peerId, isReserve, state, failures: 0, restUntilMs: 0 });
    } else if (donor.state === 'dropped') return false;
    else donor.isReserve &&= isReserve;
    this.#wake();
    return true;
  }

  /**
   * Resolves with the bytes, or null when no donor is left or none gets on: run() again with new donors
   * takes up where it stopped. Rejects with the signal's reason.
   */
  async run(signal: AbortSignal): Promise<Uint8Array<ArrayBuffer> | null> {
    const { clock } = this.#c;
    const ended = new AbortController();
    const onStop = (): void => ended.abort(signal.reason);
    signal.addEventListener('abort', onStop, { once: true });
    this.#progressMs = clock.now();
    try {
      while (this.blob.bytes === null) {
        signal.throwIfAborted();
        this.#startDraws(ended.signal);
        this.#cutSlowDraws();
        if (!this.#hasHope()) break;
        await this.#pause(ended.signal);
      }
    } finally {
      signal.removeEventListener('abort', onStop);
      ended.abort(new Error('the download has ended'));
      await Promise.all(this.#draws.values());
      this.#donors.clear();
    }
    return this.blob.bytes;
  }

  #startDraws(signal: AbortSignal): void {
    const nowMs = this.#c.clock.now();
    const left = [...this.#donors.values()].filter(({ state }) => state !== 'dropped');
    const isReserveDue =
      nowMs - this.#progressMs >= RESERVE_AFTER_MS || left.every(({ isReserve }) => isReserve);
    for (const donor of left) {
      if (this.#draws.size >= PARALLEL_MAX) return;
      const isDue = donor.state === 'ready' && donor.restUntilMs <= nowMs;
      if (isDue && (isReserveDue || !donor.isReserve)) this.#start(donor, signal);
    }
  }

  #start(donor: Donor, signal: AbortSignal): void {
    donor.state = 'drawing';
    const draw = new Draw(this.#c, this.blob, donor.peerId, (asking) => this.#pick(asking));
    const running = draw
      .run(signal)
      .catch((error: unknown) => this.#onFailure(donor, draw, error))
      .finally(() => {
        this.#draws.delete(draw);
        for (const [index, by] of this.#wanted) if (by === draw) this.#wanted.delete(index);
        if (this.blob.bytes === null) for (const other of this.#draws.keys()) other.fill();
        this.#wake();
      });
    this.#draws.set(draw, running);
  }

  #onFailure(donor: Donor, draw: Draw, error: unknown): void {
    const isLie = error instanceof BlobProtocolError;
    const isHopeful = draw.gained > 0 && !draw.isGivenUp;
    donor.failures = isHopeful ? 0 : donor.failures + 1;
    const isOver = isLie || error instanceof BlobAbsentError || donor.failures >= FAILURES_MAX;
    donor.state = isOver ? 'dropped' : 'ready';
    donor.restUntilMs = this.#c.clock.now() + REST_MS * 2 ** donor.failures;
    if (isLie) this.#c.onLie(donor.peerId);
  }

  /** The next chunk to ask `draw` for: one that is neither here nor asked for. */
  #pick(draw: Draw): number | null {
    const { chunkCount } = this.blob;
    const start = Math.floor(this.#c.start * chunkCount);
    for (let i = 0; i < chunkCount; i++) {
      const index = (start + i) % chunkCount;
      if (this.blob.has(index) || this.#wanted.has(index) || !draw.canAsk(index)) continue;
      this.#wanted.set(index, draw);
      return index;
    }
    return null;
  }

  #cutSlowDraws(): void {
    const draws = [...this.#draws.keys()];
    for (const draw of draws) {
      if (draw.silentMs >= SILENT_MS_MAX) draw.giveUp('the donor fell silent');
      if (draw.silentMs < SLOW_MS) continue;
      const owed = [...this.#wanted].filter(([, by]) => by === draw).map(([index]) => index);
      const isReplaceable = draws.some(
        (other) => other.isFree && owed.some((index) => other.canAsk(index)),
      );
      if (isReplaceable) draw.giveUp('another donor is faster');
    }
  }

  #hasHope(): boolean {
    const isStuck = this.#c.clock.now() - this.#progressMs >= GIVE_UP_MS;
    return !isStuck && [...this.#donors.values()].some(({ state }) => state !== 'dropped');
  }

  /** Until a donor comes or goes, and TICK_MS at most. */
  async #pause(signal: AbortSignal): Promise<void> {
    const woken = new AbortController();
    const onStop = (): void => woken.abort();
    signal.addEventListener('abort', onStop, { once: true });
    this.#wake = onStop;
    await this.#c.clock.sleep(TICK_MS, woken.signal).catch(() => undefined);
    this.#wake = (): void => undefined;
    signal.removeEventListener('abort', onStop);
  }
}
