/**
 * Who keeps a place on a list that anybody may ask to be on, and whom a newcomer is told of. Keys cost nothing, so
 * places are counted by origin (origin.ts), and what has been there longest is the last to go. Pure functions.
 */
import { createHash } from 'node:crypto';

/** What decides about one entry of a list. */
export interface Place {
  /** The network that the entry comes from, or its key where addresses say nothing. */
  readonly origin: string;
  /** Its part of the capacity. */
  readonly cost: number;
  /** When it got its place, in ms. */
  readonly sinceMs: number;
  /** Its last sign of life, in ms. */
  readonly aliveMs: number;
}

/** How much fits on a list. */
export interface Room {
  /** Sum of the costs. */
  readonly capacity: number;
  /** Entries without a sign of life for so long, in ms, go before all others. */
  readonly absentMs: number;
}

/** Part of the capacity that the oldest entries keep against everybody; newcomers compete for the rest. */
export const TRUSTED_SHARE = 3 / 4;

/** Part of the capacity that the entries of one origin keep against everybody; eight networks' worth of names fill a list. */
export const ORIGIN_SHARE = 1 / 8;

/** Part of a sample that one origin may take. */
export const SAMPLE_ORIGIN_SHARE = 1 / 4;

/** In [0, 1) for an origin; of origins with as many places the one with the highest loses one. */
export type Draw = (origin: string) => number;

/**
 * Which of `places` give way so that the others fit: first those that are gone, then the youngest of whichever origin
 * has most, apart from the trusted. Nothing gives way while there is room, however many come from one origin.
 */
export function surplus<P extends Place>(
  places: readonly P[],
  { capacity, absentMs }: Room,
  nowMs: number,
  draw: Draw,
): P[] {
  let excess = sumOf(places) - capacity;
  if (excess <= 0) return [];
  const evicted: P[] = [];
  const isAbsent = ({ aliveMs }: Place): boolean => nowMs - aliveMs > absentMs;
  for (const place of places.filter(isAbsent).sort((a, b) => a.aliveMs - b.aliveMs)) {
    if (excess <= 0) return evicted;
    evicted.push(place);
    excess -= place.cost;
  }
  const crowds = crowdsOf(
    places.filter((place) => !isAbsent(place)),
    capacity,
  );
  while (excess > 0) {
    const crowd = largestOf(crowds, draw);
    const youngest = crowd?.contested.pop();
    if (crowd === null || youngest === undefined) break;
    crowd.cost -= youngest.cost;
    excess -= youngest.cost;
    evicted.push(youngest);
  }
  return evicted;
}

/** The entries of one origin. */
interface Crowd<P> {
  origin: string;
  /** Of all of them. */
  cost: number;
  /** Those that may have to go, the youngest last. */
  contested: P[];
}

function crowdsOf<P extends Place>(places: readonly P[], capacity: number): Crowd<P>[] {
  const crowds = new Map<string, Crowd<P> & { trusted: number }>();
  let trusted = 0;
  for (const place of [...places].sort((a, b) => a.sinceMs - b.sinceMs)) {
    const { origin, cost } = place;
    const crowd = crowds.get(origin) ?? { origin, cost: 0, contested: [], trusted: 0 };
    crowds.set(origin, crowd);
    crowd.cost += cost;
    const isTrusted =
      trusted + cost <= TRUSTED_SHARE * capacity && crowd.trusted + cost <= ORIGIN_SHARE * capacity;
    if (isTrusted) {
      trusted += cost;
      crowd.trusted += cost;
    } else {
      crowd.contested.push(place);
    }
  }
  return [...crowds.values()];
}

function largestOf<P>(crowds: readonly Crowd<P>[], draw: Draw): Crowd<P> | null {
  let largest: Crowd<P> | null = null;
  for (const crowd of crowds) {
    if (crowd.contested.length === 0) continue;
    const isLarger =
      largest === null ||
      crowd.cost > largest.cost ||
      (crowd.cost === largest.cost && draw(crowd.origin) > draw(largest.origin));
    if (isLarger) largest = crowd;
  }
  return largest;
}

/** How long one drawing of lots holds, in ms: the next one gives those that lost another chance. */
export const DRAW_PERIOD_MS = 10 * 60_000;

/**
 * Lots by origin, the same for a whole period: asking more often, or under more names, changes nothing. Nobody can
 * tell their lot beforehand without `secret`.
 */
export function lotsAt(secret: string, nowMs: number): Draw {
  const period = Math.floor(nowMs / DRAW_PERIOD_MS);
  const drawn = new Map<string, number>();
  return (origin) => {
    const known = drawn.get(origin);
    if (known !== undefined) return known;
    const digest = createHash('sha256').update(`${secret}/${period}/${origin}`).digest();
    const lot = digest.readUIntBE(0, 6) / 2 ** 48;
    drawn.set(origin, lot);
    return lot;
  };
}

/** A secret for lotsAt out of `random`, which gives [0, 1). */
export function secretFrom(random: () => number): string {
  return Array.from({ length: 4 }, () => Math.floor(random() * 2 ** 32).toString(16)).join('.');
}

/**
 * Entries of a total cost of `budget` at most, in the order drawn: half of it by age (the second oldest half as likely as
 * the oldest, the third a third, ...), so that those who have been there long outweigh any number that came later, the rest evenly, so that newcomers are found as well, and those
 * that are gone last. Origins take turns, and none gets more than its share. `random` gives [0, 1).
 */
export function sample<P extends Place>(
  places: readonly P[],
  budget: number,
  { absentMs }: Pick<Room, 'absentMs'>,
  nowMs: number,
  random: () => number,
): P[] {
  const chosen = new Sampler<P>(budget);
  const isAbsent = ({ aliveMs }: Place): boolean => nowMs - aliveMs > absentMs;
  const present = places.filter((place) => !isAbsent(place));
  const oldestFirst = [...present].sort((a, b) => a.sinceMs - b.sinceMs);
  const ranks = new Map(oldestFirst.map((place, rank) => [place, rank]));
  // The first of exponentials with rates 1/1, 1/2, 1/3, ..., brought into [0, 1).
  const byAge = (place: P): number => {
    const time = -Math.log(1 - random()) * (1 + (ranks.get(place) ?? 0));
    return time / (1 + time);
  };
  chosen.draw(present, budget / 2, byAge);
  chosen.draw(present, budget, random);
  chosen.draw(places.filter(isAbsent), budget, random);
  return chosen.places;
}

class Sampler<P extends Place> {
  readonly places: P[] = [];
  readonly #chosen = new Set<P>();
  readonly #perOrigin: number;
  readonly #byOrigin = new Map<string, number>();
  #cost = 0;

  constructor(budget: number) {
    this.#perOrigin = budget * SAMPLE_ORIGIN_SHARE;
  }

  /** Adds from `pool` until the whole costs `limit`; within a turn the smallest of `lot`, in [0, 1), comes first. */
  draw(pool: readonly P[], limit: number, lot: (place: P) => number): void {
    const byOrigin = new Map<string, { place: P; dice: number }[]>();
    for (const place of pool) {
      if (this.#chosen.has(place)) continue;
      const queue = byOrigin.get(place.origin) ?? [];
      byOrigin.set(place.origin, queue);
      queue.push({ place, dice: lot(place) });
    }
    const turns: { place: P; turn: number }[] = [];
    for (const [origin, queue] of byOrigin) {
      let used = this.#byOrigin.get(origin) ?? 0;
      for (const { place, dice } of queue.sort((a, b) => a.dice - b.dice)) {
        turns.push({ place, turn: used + place.cost * dice });
        used += place.cost;
      }
    }
    for (const { place } of turns.sort((a, b) => a.turn - b.turn)) this.#add(place, limit);
  }

  #add(place: P, limit: number): void {
    const used = this.#byOrigin.get(place.origin) ?? 0;
    const originMax = Math.max(place.cost, this.#perOrigin);
    if (this.#cost + place.cost > limit || used + place.cost > originMax) return;
    this.#chosen.add(place);
    this.places.push(place);
    this.#cost += place.cost;
    this.#byOrigin.set(place.origin, used + place.cost);
  }
}

function sumOf(places: readonly Place[]): number {
  return places.reduce((sum, { cost }) => sum + cost, 0);
}
