/**
 * Places for what others may have open here at one time. When all are taken, whoever has had little of them lately takes the
 * place of whoever has had most, so that a few peers that hold theirs for as long as they may keep nobody out for long.
 */
import type { Clock } from '../interfaces.js';

/** A place is had so long, in ms, before it can be lost: most sessions are over by then. */
export const SEAT_MS_MIN = 5_000;

/** Time in places counts half after so long, in ms: some sessions of the longest kind. */
const HALF_LIFE_MS = 300_000;

/** Peers whose time is remembered; the one that left its place first is forgotten first. */
const REMEMBERED_MAX = 1024;

interface Seat {
  readonly sinceMs: number;
  /** Tells the holder that it must go. */
  readonly onLost: () => void;
}

export class Seats {
  readonly #clock: Clock;
  readonly #max: number;
  readonly #taken = new Map<string, Seat>();
  /** Time in places before the present one: ms, as of `atMs`. */
  readonly #past = new Map<string, { ms: number; atMs: number }>();

  /** `max`: places, at least 1; a peer has one at most. */
  constructor(clock: Clock, max: number) {
    this.#clock = clock;
    this.#max = max;
  }

  get taken(): number {
    return this.#taken.size;
  }

  /** A place for `peerId` until release; false when there is none for it. `onLost` is called when another takes it. */
  take(peerId: string, onLost: () => void): boolean {
    if (this.#taken.has(peerId)) return false;
    if (this.#taken.size >= this.#max) {
      const holder = this.#mostServed(this.#hadMs(peerId) + SEAT_MS_MIN);
      if (holder === undefined) return false;
      this.release(holder.peerId, holder.seat.onLost);
      holder.seat.onLost();
    }
    this.#taken.set(peerId, { sinceMs: this.#clock.now(), onLost });
    return true;
  }

  /** The place that was taken with `onLost` is free; nothing when it was lost already. */
  release(peerId: string, onLost: () => void): void {
    if (this.#taken.get(peerId)?.onLost !== onLost) return;
    const ms = this.#hadMs(peerId);
    this.#taken.delete(peerId);
    this.#past.delete(peerId);
    this.#past.set(peerId, { ms, atMs: this.#clock.now() });
    const oldest = this.#past.keys().next().value;
    if (this.#past.size > REMEMBERED_MAX && oldest !== undefined) this.#past.delete(oldest);
  }

  /** The holder with the most time in places, of those with more than `ms` and a full SEAT_MS_MIN in the present one. */
  #mostServed(ms: number): { peerId: string; seat: Seat } | undefined {
    const latestMs = this.#clock.now() - SEAT_MS_MIN;
    return [...this.#taken]
      .filter(([, { sinceMs }]) => sinceMs <= latestMs)
      .map(([peerId, seat]) => ({ peerId, seat, ms: this.#hadMs(peerId) }))
      .filter((holder) => holder.ms > ms)
      .sort((a, b) => b.ms - a.ms)[0];
  }

  /** Time in places until now, in ms. */
  #hadMs(peerId: string): number {
    const nowMs = this.#clock.now();
    const past = this.#past.get(peerId);
    // A clock that was set back takes nothing away.
    const since = (thenMs: number): number => Math.max(0, nowMs - thenMs);
    const before = past === undefined ? 0 : past.ms * 2 ** (-since(past.atMs) / HALF_LIFE_MS);
    const seat = this.#taken.get(peerId);
    return before + (seat === undefined ? 0 : since(seat.sinceMs));
  }
}
