/** Fetches blobs from members: some at a time, within a budget of memory; half-done ones are kept for later. */
import type { BlobName, BlobSource } from '../../protocol/blob.js';
import * as limits from '../../protocol/limits.js';
import type { Prng } from '../../protocol/prng.js';
import { Download, type DownloadComponents } from './download.js';

/** Liars that are remembered; the oldest is forgotten first. */
const LIARS_MAX = 1024;

export interface FetcherComponents extends Omit<DownloadComponents, 'start'> {
  random: Prng;
}

export interface FetchOptions {
  /** Members that hold the blob, or are about to. */
  donors: readonly string[];
  /** Members that are asked only when the donors do not get on: they have others to serve. */
  reserve?: readonly string[];
  /** Goes before those that wait. */
  isUrgent?: boolean;
}

interface Job {
  name: BlobName;
  download: Download;
  result: Promise<Uint8Array<ArrayBuffer> | null>;
  settle: (bytes: Uint8Array<ArrayBuffer> | null) => void;
}

export class Fetcher {
  readonly #c: FetcherComponents;
  readonly #signal: AbortSignal;
  readonly #active = new Map<string, Job>();
  #waiting: Job[] = [];
  /** Half-done, without a donor; the oldest is dropped first. */
  readonly #kept = new Map<string, Download>();
  readonly #liars = new Set<string>();
  readonly #running = new Set<Promise<void>>();

  constructor(components: FetcherComponents, signal: AbortSignal) {
    this.#c = components;
    this.#signal = signal;
  }

  /**
   * Resolves with the checked bytes, or null when nobody gave them all, there is no room to wait, or the peer
   * stops. Several calls for one blob share one download.
   */
  async fetch(name: BlobName, options: FetchOptions): Promise<Uint8Array<ArrayBuffer> | null> {
    const job = this.#job(name) ?? this.#add(name, options.isUrgent ?? false);
    if (job === null) return null;
    for (const peerId of options.donors) this.#addDonor(job, peerId, false);
    for (const peerId of options.reserve ?? []) this.#addDonor(job, peerId, true);
    this.#startSome();
    return job.result;
  }

  /** Adds a donor to a blob that is being fetched, or waits for it; false when there is none such. */
  addDonor(name: BlobName, peerId: string): boolean {
    const job = this.#job(name);
    return job !== undefined && this.#addDonor(job, peerId, false);
  }

  /** What has come so far of the blob with this root (hex), to be passed on. */
  source(root: string): BlobSource | undefined {
    const jobs = [...this.#active.values(), ...this.#waiting];
    const downloads = [...jobs.map(({ download }) => download), ...this.#kept.values()];
    return downloads.find(({ blob }) => blob.root === root)?.blob;
  }

  /** Whether `peerId` has sent something wrong: it is asked for nothing any more. */
  isLiar(peerId: string): boolean {
    return this.#liars.has(peerId);
  }

  /** Resolves, after the signal has aborted, when nothing is under way any more. */
  async ended(): Promise<void> {
    for (const job of this.#waiting.splice(0)) job.settle(null);
    await Promise.all(this.#running);
  }

  #job(name: BlobName): Job | undefined {
    const key = keyOf(name);
    return this.#active.get(key) ?? this.#waiting.find((job) => keyOf(job.name) === key);
  }

  #add(name: BlobName, isUrgent: boolean): Job | null {
    if (this.#waiting.length >= limits.BLOBS_WAITING_MAX || this.#signal.aborted) return null;
    const key = keyOf(name);
    const start = this.#c.random.nextFloat();
    const onLie = (peerId: string): void => this.#onLie(peerId);
    const download = this.#kept.get(key) ?? new Download({ ...this.#c, start, onLie }, name);
    this.#kept.delete(key);
    let settle: Job['settle'] = () => undefined;
    const result = new Promise<Uint8Array<ArrayBuffer> | null>((resolve) => (settle = resolve));
    const job = { name, download, result, settle };
    if (isUrgent) this.#waiting.unshift(job);
    else this.#waiting.push(job);
    return job;
  }

  #addDonor({ download }: Job, peerId: string, isReserve: boolean): boolean {
    return !this.#liars.has(peerId) && download.addDonor(peerId, isReserve);
  }

  #startSome(): void {
    let next = this.#waiting[0];
    while (next !== undefined && this.#hasRoom(next)) {
      this.#waiting.shift();
      this.#start(next);
      next = this.#waiting[0];
    }
  }

  #hasRoom({ name }: Job): boolean {
    const sizes = [...this.#active.values()].map((job) => job.name.size);
    const bytes = sizes.reduce((sum, size) => sum + size, name.size);
    if (sizes.length === 0) return true;
    return sizes.length < limits.BLOBS_MAX && bytes <= limits.BLOBS_BYTES_MAX;
  }

  #start(job: Job): void {
    const key = keyOf(job.name);
    this.#active.set(key, job);
    const running = job.download
      .run(this.#signal)
      .catch(() => null)
      .then((bytes) => {
        this.#active.delete(key);
        this.#running.delete(running);
        if (bytes === null && job.download.blob.held > 0) this.#keep(key, job.download);
        job.settle(bytes);
        if (!this.#signal.aborted) this.#startSome();
      });
    this.#running.add(running);
  }

  #keep(key: string, download: Download): void {
    this.#kept.set(key, download);
    let bytes = [...this.#kept.values()].reduce((sum, { blob }) => sum + blob.size, 0);
    for (const [oldest, { blob }] of this.#kept) {
      if (bytes <= limits.BLOBS_BYTES_MAX && this.#kept.size <= limits.BLOBS_MAX) return;
      this.#kept.delete(oldest);
      bytes -= blob.size;
    }
  }

  #onLie(peerId: string): void {
    const oldest = this.#liars.values().next().value;
    if (this.#liars.size >= LIARS_MAX && oldest !== undefined) this.#liars.delete(oldest);
    this.#liars.add(peerId);
    this.#c.onLie(peerId);
  }
}

function keyOf({ root, size }: BlobName): string {
  return `${root}/${size}`;
}
