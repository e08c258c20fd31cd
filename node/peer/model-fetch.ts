/**
 * The base model of a run from members that share it: who does is asked for the catalogue, then each part comes from some of
 * them, a few parts at a time. It runs before there is a peer, and knows neither files nor libp2p.
 */
import { setMaxListeners } from 'node:events';
import type { BlobName } from '../../protocol/blob.js';
import {
  BLOB_CHUNK_BYTES,
  BLOB_STREAMS_MAX,
  BLOBS_BYTES_MAX,
  MODEL_PART_BYTES,
} from '../../protocol/limits.js';
import type { ModelPart } from '../../protocol/model-files.js';
import { Download } from './download.js';
import { Fetcher, type FetcherComponents } from './fetcher.js';

/** Parts fetched at one time. */
const PARTS_MAX = BLOBS_BYTES_MAX / MODEL_PART_BYTES;

/** Waits that may hang on the stop signal at one time: some for each stream. Node takes more than ten for a leak. */
const STOP_LISTENERS_MAX = 4 * BLOB_STREAMS_MAX;

/** Where parts go. */
export interface Shelf {
  /** Parts that are not there yet. */
  readonly missing: readonly ModelPart[];
  /** Takes a part; its bytes were checked. */
  put(part: ModelPart, bytes: Uint8Array): Promise<void>;
}

export class ModelFetch {
  readonly #c: FetcherComponents;
  readonly #signal: AbortSignal;
  readonly #fetcher: Fetcher;
  readonly #liars = new Set<string>();
  /** Members that have given the catalogue. */
  readonly #donors = new Set<string>();
  readonly #underWay = new Set<ModelPart>();
  /** Of parts that have come and are on their way to the shelf. */
  #bytesInHand = 0;
  readonly #waiting = new Set<() => void>();

  constructor(components: FetcherComponents, signal: AbortSignal) {
    this.#c = components;
    this.#signal = signal;
    setMaxListeners(STOP_LISTENERS_MAX, signal);
    signal.addEventListener('abort', () => this.#wake(), { once: true });
    this.#fetcher = new Fetcher({ ...components, onLie: (peerId) => this.#onLie(peerId) }, signal);
  }

  /** Members that share the model, as far as it is known. */
  get donors(): ReadonlySet<string> {
    return this.#donors;
  }

  /** Whether `peerId` has sent something wrong: it is asked for nothing any more. */
  isLiar(peerId: string): boolean {
    return this.#liars.has(peerId);
  }

  /** Bytes that have come of parts that are not on the shelf yet. */
  get bytesUnderWay(): number {
    let bytes = this.#bytesInHand;
    for (const { root } of this.#underWay) {
      const source = this.#fetcher.source(root);
      for (let i = 0; i < (source?.chunkCount ?? 0); i++) {
        if (source?.has(i)) bytes += BLOB_CHUNK_BYTES;
      }
    }
    return bytes;
  }

  /**
   * Asks `peerId` for the catalogue; whoever has it is a donor from then on. Resolves with its bytes, null when it has not, or
   * does not answer. Rejects with the signal's reason.
   */
  async ask(peerId: string, catalogue: BlobName): Promise<Uint8Array | null> {
    if (this.#liars.has(peerId)) return null;
    const onLie = (liar: string): void => this.#onLie(liar);
    const download = new Download({ ...this.#c, onLie, start: 0 }, catalogue);
    download.addDonor(peerId);
    const bytes = await download.run(this.#signal);
    if (bytes === null || this.#liars.has(peerId)) return null;
    this.#donors.add(peerId);
    for (const part of this.#underWay) this.#fetcher.addDonor(part, peerId);
    this.#wake();
    return bytes;
  }

  /**
   * Fetches what `shelf` lacks; waits while there is no donor. Resolves when nothing is missing; rejects with what `shelf`
   * throws, or the signal's reason.
   */
  async fill(shelf: Shelf): Promise<void> {
    // Newcomers that begin at different parts ask different ones of a donor.
    const order = this.#c.random.permutation(shelf.missing.length);
    const queue = [...order].flatMap((i) => shelf.missing[i] ?? []);
    const work = async (): Promise<void> => {
      for (let part = queue.shift(); part !== undefined; part = queue.shift()) {
        const bytes = await this.#part(part);
        this.#bytesInHand += bytes.length;
        await shelf.put(part, bytes);
        this.#bytesInHand -= bytes.length;
      }
    };
    await Promise.all(Array.from({ length: PARTS_MAX }, work));
  }

  /** Resolves, after the signal has aborted, when nothing is under way any more. */
  ended(): Promise<void> {
    return this.#fetcher.ended();
  }

  async #part(part: ModelPart): Promise<Uint8Array> {
    for (;;) {
      await this.#someDonor();
      const donors = [...this.#donors];
      const order = [...this.#c.random.permutation(donors.length)];
      this.#underWay.add(part);
      const bytes = await this.#fetcher.fetch(part, {
        donors: order.flatMap((i) => donors[i] ?? []),
      });
      this.#underWay.delete(part);
      if (bytes !== null) return bytes;
      this.#signal.throwIfAborted();
      // They share it no more, or cannot be reached: whoever still does says so when it is asked again.
      for (const peerId of donors) this.#donors.delete(peerId);
    }
  }

  async #someDonor(): Promise<void> {
    this.#signal.throwIfAborted();
    while (this.#donors.size === 0) {
      await new Promise<void>((resolve) => this.#waiting.add(resolve));
      this.#signal.throwIfAborted();
    }
  }

  #wake(): void {
    for (const resolve of this.#waiting) resolve();
    this.#waiting.clear();
  }

  #onLie(peerId: string): void {
    if (this.#liars.has(peerId)) return;
    this.#liars.add(peerId);
    this.#donors.delete(peerId);
    this.#c.onLie(peerId);
  }
}
