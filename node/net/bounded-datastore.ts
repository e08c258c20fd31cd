/**
 * libp2p's datastore in memory, with bounds on what strangers can put into it: any peer may hand the DHT provider
 * records for as many keys as it likes, and come back under a new name as often as it likes. Who keeps its entries is
 * decided as for all lists (places.ts).
 */
import { MemoryDatastore } from 'datastore-core';
import { lotsAt, secretFrom, surplus, type Place } from './places.js';

/** Bytes of one entry under a prefix: a provider record has eight, a peer's addresses and protocols some 2,000. */
const ENTRY_BYTES_MAX = 16_384;

/** An entry that was not renewed for so long, in ms, goes before all others; members provide their run every 2 min. */
export const ENTRY_ABSENT_MS = 60 * 60_000;

/** Part of the entries that goes at a time, because choosing among thousands for each one would be work in itself. */
const EVICTED_SHARE = 1 / 16;

/** Of entries about peers that are not connected, as others told: one origin, whoever told. */
const HEARSAY = 'hearsay';

type Key = Parameters<MemoryDatastore['put']>[0];

interface Entry extends Place {
  key: Key;
}

export class BoundedDatastore extends MemoryDatastore {
  /** Entries at most, by the prefix of their keys without the "/" behind it. */
  readonly #bounds: ReadonlyMap<string, number>;
  /** By prefix, the entries under it by the names of their keys. */
  readonly #entries = new Map<string, Map<string, Entry>>();
  readonly #now: () => number;
  readonly #secret = secretFrom(Math.random);
  /** Whether the entry with this key is in use and makes no room. */
  isSpared: (name: string) => boolean = () => false;
  /** Where the peer that an entry is about comes from (origin.ts); null when it is not connected. */
  originOf: (name: string) => string | null = () => null;

  /** Keeps so many entries under each prefix; others are not counted. */
  constructor(bounds: Readonly<Record<string, number>>, now: () => number = Date.now) {
    super();
    this.#now = now;
    this.#bounds = new Map(Object.entries(bounds));
  }

  /** Entries under the prefix. */
  sizeOf(prefix: string): number {
    return this.#entries.get(prefix)?.size ?? 0;
  }

  /** Others make room for it, or it for them at once. @throws RangeError for one that is too large. */
  override put(
    ...[key, value, options]: Parameters<MemoryDatastore['put']>
  ): ReturnType<MemoryDatastore['put']> {
    const name = key.toString();
    const prefix = this.#prefixOf(name);
    if (prefix === null) return super.put(key, value, options);
    if (value.byteLength > ENTRY_BYTES_MAX) {
      throw new RangeError(
        `a record under ${prefix} has at most ${ENTRY_BYTES_MAX} bytes, not ${value.byteLength}`,
      );
    }
    const entries = this.#entries.get(prefix) ?? new Map<string, Entry>();
    this.#entries.set(prefix, entries);
    const nowMs = this.#now();
    const known = entries.get(name);
    // Who left is remembered as what it was; who comes from elsewhere begins there.
    const origin = this.originOf(name) ?? known?.origin ?? HEARSAY;
    const sinceMs = known?.origin === origin ? known.sinceMs : nowMs;
    entries.set(name, { key, origin, cost: 1, sinceMs, aliveMs: nowMs });
    const result = super.put(key, value, options);
    if (entries.size > (this.#bounds.get(prefix) ?? 0)) this.#makeRoom(prefix, entries, nowMs);
    return result;
  }

  override delete(
    ...[key, options]: Parameters<MemoryDatastore['delete']>
  ): ReturnType<MemoryDatastore['delete']> {
    const name = key.toString();
    this.#entries.get(this.#prefixOf(name) ?? '')?.delete(name);
    return super.delete(key, options);
  }

  #prefixOf(name: string): string | null {
    for (const prefix of this.#bounds.keys()) if (name.startsWith(`${prefix}/`)) return prefix;
    return null;
  }

  #makeRoom(prefix: string, entries: ReadonlyMap<string, Entry>, nowMs: number): void {
    const entriesMax = this.#bounds.get(prefix) ?? 0;
    const free = [...entries].filter(([name]) => !this.isSpared(name)).map(([, entry]) => entry);
    const spared = entries.size - free.length;
    const left = Math.ceil(entriesMax * (1 - EVICTED_SHARE)) - spared;
    // Where all are in use, one goes all the same.
    const [pool, capacity] = left > 0 ? [free, left] : [[...entries.values()], entriesMax];
    const room = { capacity, absentMs: ENTRY_ABSENT_MS };
    for (const { key } of surplus(pool, room, nowMs, lotsAt(this.#secret, nowMs))) {
      void this.delete(key);
    }
  }
}
