/**
 * Bodies of updates: in memory until they are on disk, then in a bounded cache in front of it. The fold, sync and
 * blob streams read them from here.
 */
import type { Bodies } from '../../protocol/bodies.js';
import { decodeRecordBody } from '../../protocol/gossip.js';
import type { Quantised } from '../../protocol/quantise.js';
import type { Update, UpdateHeader } from '../../protocol/update.js';
import type { RecordPlace } from '../interfaces.js';

/** Bytes of bodies kept in memory besides those that are not on disk yet: an epoch is folded again as its updates come. */
const CACHE_BYTES_MAX = 128 * 1024 * 1024;

/** Bytes of bodies that may wait for a disk that refuses; beyond that updates are left to a later sync. */
const UNSAVED_BYTES_MAX = 256 * 1024 * 1024;

export class StoredBodies implements Bodies {
  readonly #readRecord: (place: RecordPlace) => Uint8Array;
  readonly #cacheBytesMax: number;
  /** Of updates that are not on disk yet. */
  readonly #unsaved = new Map<string, Quantised>();
  /** The least recently used comes first. */
  readonly #cache = new Map<string, Quantised>();
  readonly #places = new Map<string, RecordPlace>();
  #unsavedBytes = 0;
  #cacheBytes = 0;

  constructor(
    readRecord: (place: RecordPlace) => Uint8Array,
    { cacheBytesMax = CACHE_BYTES_MAX } = {},
  ) {
    this.#readRecord = readRecord;
    this.#cacheBytesMax = cacheBytesMax;
  }

  /** Whether another update can be taken in before the disk has those that wait. */
  get hasRoom(): boolean {
    return this.#unsavedBytes < UNSAVED_BYTES_MAX;
  }

  /** Of an update whose place is known already, as at the start, the disk has the body. */
  put({ id, scales, codes }: Update): void {
    if (this.#places.has(id) || this.#unsaved.has(id)) return;
    this.#unsaved.set(id, { scales, codes });
    this.#unsavedBytes += scales.length + codes.length;
  }

  /** The update `id` is on disk at `place`. */
  saved(id: string, place: RecordPlace): void {
    this.#places.set(id, place);
    const body = this.#unsaved.get(id);
    if (body === undefined) return;
    this.#unsaved.delete(id);
    this.#unsavedBytes -= bytesOf(body);
    this.#remember(id, body);
  }

  /** Forgets an update that nobody will ask for any more. */
  forget(id: string): void {
    const [unsaved, cached] = [this.#unsaved.get(id), this.#cache.get(id)];
    if (unsaved) this.#unsavedBytes -= bytesOf(unsaved);
    if (cached) this.#cacheBytes -= bytesOf(cached);
    this.#unsaved.delete(id);
    this.#cache.delete(id);
    this.#places.delete(id);
  }

  placeOf(id: string): RecordPlace | undefined {
    return this.#places.get(id);
  }

  /** @throws StoreUnavailableError when the disk does not give it, RangeError when it was never put. */
  read({ id }: UpdateHeader): Quantised {
    const unsaved = this.#unsaved.get(id);
    if (unsaved !== undefined) return unsaved;
    const cached = this.#cache.get(id);
    if (cached !== undefined) {
      // The most recently used goes to the end.
      this.#cache.delete(id);
      this.#cache.set(id, cached);
      return cached;
    }
    const place = this.#places.get(id);
    if (place === undefined) throw new RangeError(`no body of update ${id}`);
    const body = decodeRecordBody(this.#readRecord(place), id);
    this.#remember(id, body);
    return body;
  }

  #remember(id: string, body: Quantised): void {
    this.#cache.set(id, body);
    this.#cacheBytes += bytesOf(body);
    for (const [oldest, { scales, codes }] of this.#cache) {
      if (this.#cacheBytes <= this.#cacheBytesMax || oldest === id) return;
      this.#cache.delete(oldest);
      this.#cacheBytes -= scales.length + codes.length;
    }
  }
}

function bytesOf({ scales, codes }: Quantised): number {
  return scales.length + codes.length;
}
