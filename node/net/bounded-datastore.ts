/**
 * libp2p's datastore in memory, with a bound on what strangers can put into it: any peer may hand the DHT
 * provider records for as many keys as it likes, each kept for two days.
 */
import { MemoryDatastore } from 'datastore-core';

/** Bytes of one entry under the prefix: a provider record has eight, a public key a few hundred. */
const ENTRY_BYTES_MAX = 4_096;

type Key = Parameters<MemoryDatastore['put']>[0];

export class BoundedDatastore extends MemoryDatastore {
  readonly #prefix: string;
  readonly #entriesMax: number;
  /** Keys under the prefix, the one written longest ago first. */
  readonly #keys = new Map<string, Key>();

  /** Keeps at most `entriesMax` entries whose key begins with `prefix`/; others are not counted. */
  constructor(prefix: string, entriesMax: number) {
    super();
    this.#prefix = `${prefix}/`;
    this.#entriesMax = entriesMax;
  }

  /** Entries under the prefix. */
  get size(): number {
    return this.#keys.size;
  }

  /** The entry that was renewed longest ago makes room. @throws RangeError for one that is too large. */
  override put(
    ...[key, value, options]: Parameters<MemoryDatastore['put']>
  ): ReturnType<MemoryDatastore['put']> {
    const name = key.toString();
    if (!name.startsWith(this.#prefix)) return super.put(key, value, options);
    if (value.byteLength > ENTRY_BYTES_MAX) {
      throw new RangeError(
        `a DHT record has at most ${ENTRY_BYTES_MAX} bytes, not ${value.byteLength}`,
      );
    }
    this.#keys.delete(name);
    this.#keys.set(name, key);
    for (const oldest of this.#keys.values()) {
      if (this.#keys.size <= this.#entriesMax) break;
      void this.delete(oldest);
    }
    return super.put(key, value, options);
  }

  override delete(
    ...[key, options]: Parameters<MemoryDatastore['delete']>
  ): ReturnType<MemoryDatastore['delete']> {
    this.#keys.delete(key.toString());
    return super.delete(key, options);
  }
}
