/**
 * One file from a hub into the cache: goes on where it stopped, also after a kill -9, and is checked before it
 * gets its name. @huggingface/hub does neither.
 */
import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { UserError } from '../errors.js';
import { disk, renameDurably, writeAt } from '../files.js';
import { sizeOf } from './cache.js';
import { HubUnreachableError, type HubClient } from './client.js';
import type { HubFile } from './listing.js';

/** Attempts in a row that bring nothing; the pause after each is twice the last. */
const FAILURES_MAX = 5;
const PAUSE_MS = 1_000;

export interface TransferInit {
  client: HubClient;
  url: string;
  file: HubFile;
  /** Where it goes; beside it lies what has come so far. */
  path: string;
  /** Bytes of this file that are here. */
  onProgress: (bytes: number) => void;
  /** After the first failed attempt, in ms. */
  pauseMs?: number;
}

/** Where the bytes of an unfinished file lie: not Python's place for them, which may be at work on its own. */
export function partOf(path: string): string {
  return `${path}.murmurate.incomplete`;
}

/**
 * Throws UserError for other bytes than the hub named, which are then removed; HubUnreachableError after some
 * attempts, HubRefusal, HubAnswerError, the signal's reason, what the system throws.
 */
export async function transfer(init: TransferInit): Promise<void> {
  const { client, file, path, pauseMs = PAUSE_MS } = init;
  const part = partOf(path);
  const held = (await sizeOf(part)) ?? 0;
  const handle = await disk.open(part, held > 0 && held <= file.bytes ? 'r+' : 'w');
  try {
    const copy = new Copy(init, handle);
    await copy.readHeld(part);
    for (let failures = 0; !copy.isWhole;) {
      const before = copy.size;
      try {
        await copy.attempt();
      } catch (error) {
        failures = copy.size > before ? 1 : failures + 1;
        if (!(error instanceof HubUnreachableError) || failures >= FAILURES_MAX) throw error;
        await delay(pauseMs * 2 ** (failures - 1), undefined, { signal: client.signal });
      }
    }
    await handle.sync();
    if (copy.digest() !== file.hash) {
      await disk.remove(part);
      throw new UserError(
        `${file.name} came with another hash than the hub named (${file.hash}, ${file.bytes} bytes): it was not kept; ` +
          'run the command again, and where that does not help, without a proxy or mirror in between',
      );
    }
  } finally {
    await handle.close();
  }
  await renameDurably(part, path);
}

/** A file that grows, and its hash. */
class Copy {
  readonly #init: TransferInit;
  readonly #handle: FileHandle;
  #hash: Hash;
  #size = 0;

  constructor(init: TransferInit, handle: FileHandle) {
    this.#init = init;
    this.#handle = handle;
    this.#hash = hashFor(init.file);
  }

  get size(): number {
    return this.#size;
  }

  get isWhole(): boolean {
    return this.#size === this.#init.file.bytes;
  }

  digest(): string {
    return this.#hash.digest('hex');
  }

  /** Takes in what an earlier process left. */
  async readHeld(path: string): Promise<void> {
    for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) {
      this.#init.client.signal.throwIfAborted();
      this.#take(chunk as Buffer);
    }
  }

  /** Asks for what is missing, once. */
  async attempt(): Promise<void> {
    const { client, url, file } = this.#init;
    const range = this.#size === 0 ? {} : { range: `bytes=${this.#size}-` };
    const response = await client.get(url, range);
    if (this.#size > 0 && !isFrom(response, this.#size)) await this.#restart();
    for await (const chunk of client.bodyOf(response)) {
      if (this.#size + chunk.length > file.bytes) {
        throw new UserError(
          `${file.name} is longer than the ${file.bytes} bytes that the hub named: run the command again`,
        );
      }
      // The hash has only what the disk took.
      await writeAt(this.#handle, chunk, this.#size);
      this.#take(chunk);
    }
    if (!this.isWhole) throw new HubUnreachableError('the connection ended early');
  }

  /** The server sends the whole file. */
  async #restart(): Promise<void> {
    await this.#handle.truncate(0);
    this.#hash = hashFor(this.#init.file);
    this.#size = 0;
  }

  #take(chunk: Uint8Array): void {
    this.#hash.update(chunk);
    this.#size += chunk.length;
    this.#init.onProgress(this.#size);
  }
}

/** Git hashes a small file with a header before it (git-hash-object); of a large one SHA-256 is known. */
function hashFor({ hash, bytes }: HubFile): Hash {
  return hash.length === 64 ? createHash('sha256') : createHash('sha1').update(`blob ${bytes}\0`);
}

function isFrom(response: Response, start: number): boolean {
  const range = response.headers.get('content-range') ?? '';
  return response.status === 206 && range.startsWith(`bytes ${start}-`);
}
