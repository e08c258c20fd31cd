/**
 * libp2p's datastore in memory, with bounds on what strangers can put into it: any peer may hand the DHT provider
 * records for as many keys as it likes, and come back under a new name as often as it likes.
 */
import { MemoryDatastore } from 'datastore-core';

/** Bytes of one entry under a prefix: a provider record has eight, a peer's addresses and protocols some 2,000. */
const ENTRY_BYTES_MAX = 16_384;

type Key = Parameters<MemoryDatastore['put']>[0];

export class BoundedDatastore extends MemoryDatastore {
  /** Entries at most, by the prefix of their keys without the "/" behind it. */
  readonly #bounds: ReadonlyMap<string, number>;
  /** By prefix, the keys under it, the one written longest ago first. */
  readonly #keys = new Map<string, Map<string, Key>>();
  /** Entries that are in use and make no room; their keys. */
  isSpared: (name: string) => boolean = () => false;

  /** Keeps so many entries under each prefix; others are not counted. */
  constructor(bounds: Readonly<Record<string, number>>) {
    super();
    this.#bounds = new Map(Object.entries(bounds));
  }

  /** Entries under the prefix. */
  sizeOf(prefix: string): number {
    return this.#keys.get(prefix)?.size ?? 0;
  }

  /** The entry that was written longest ago makes room. @throws RangeError for one that is too large. */
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
    const keys = this.#keys.get(prefix) ?? new Map<string, Key>();
    this.#keys.set(prefix, keys);
    keys.delete(name);
    keys.set(name, key);
    this.#makeRoom(keys, this.#bounds.get(prefix) ?? 0);
    return super.put(key, value, options);
  }

  override delete(
    ...[key, options]: Parameters<MemoryDatastore['delete']>
  ): ReturnType<MemoryDatastore['delete']> {
    const name = key.toString();
    this.#keys.get(this.#prefixOf(name) ?? '')?.delete(name);
    return super.delete(key, options);
  }

  #prefixOf(name: string): string | null {
    for (const prefix of this.#bounds.keys()) if (name.startsWith(`${prefix}/`)) return prefix;
    return null;
  }

  #makeRoom(keys: Map<string, Key>, entriesMax: number): void {
    // Each entry is looked at once: where all are in use, the oldest goes all the same.
    let looks = keys.size;
    for (const [name, key] of keys) {
      if (keys.size <= entriesMax) return;
      if (looks-- > 0 && this.isSpared(name)) {
        keys.delete(name);
        keys.set(name, key);
      } else {
        void this.delete(key);
      }
    }
  }
}
