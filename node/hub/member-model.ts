/**
 * A model that comes from members part by part, in the cache: murmurate/KEY/NAME.partial holds what has come, each part at its
 * place in its file, and gets its name when all of it is there. What is there is what its hash says, so that it goes on
 * where it stopped after a kill at any instant.
 */
import { createHash } from 'node:crypto';
import { readdir, rm, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import type { ModelFingerprint } from '../../protocol/manifest.js';
import { BLOB_CHUNK_BYTES } from '../../protocol/limits.js';
import { partsOf, totalBytes, type ModelFile, type ModelPart } from '../../protocol/model-files.js';
import type { BlobName } from '../../protocol/blob.js';
import { disk, errnoOf, makeDirectory, readAt, renameDurably, writeAt } from '../files.js';
import { checkSpace, SPARE_BYTES } from '../model/cache-room.js';
import { parseHubName } from '../model/hub-name.js';
import { isModelDirectory } from '../model/model-directory.js';

/** Of the cache; the models that came by name lie beside it. */
const FOLDER = 'murmurate';
const PARTIAL = '.partial';

/** Models that are looked at. */
const MODELS_MAX = 4096;

/** Hexadecimal digits of each of the two hashes that a folder is named by. */
const KEY_DIGITS = 32;

/** Where the model of a run lies once it has come, and the lock of those who fetch it. */
export class MemberModelPlace {
  readonly dir: string;
  readonly partial: string;
  readonly lock: string;
  /** For people. */
  readonly name: string;

  /** `directory`: of the whole cache, absolute; nothing is made there yet. */
  constructor(
    readonly directory: string,
    model: ModelFingerprint,
    files: BlobName,
  ) {
    this.name = plainName(model.name);
    const key = `${model.weightsSha256.slice(0, KEY_DIGITS)}-${files.root.slice(0, KEY_DIGITS)}`;
    this.dir = join(directory, FOLDER, key, this.name);
    this.partial = `${this.dir}${PARTIAL}`;
    this.lock = join(directory, '.locks', FOLDER, `${key}.lock`);
  }

  isThere(): Promise<boolean> {
    return isModelDirectory(this.dir);
  }
}

/** The directory of a model with these weights that came from members; null where there is none. */
export async function findFromMembers(
  directory: string,
  weightsSha256: string,
): Promise<string | null> {
  const root = join(directory, FOLDER);
  for (const folder of (await list(root)).slice(0, MODELS_MAX)) {
    if (!folder.startsWith(`${weightsSha256.slice(0, KEY_DIGITS)}-`)) continue;
    for (const name of await list(join(root, folder))) {
      const dir = join(root, folder, name);
      if (!name.endsWith(PARTIAL) && (await isModelDirectory(dir))) return dir;
    }
  }
  return null;
}

/** What has come of a model. One process at a time may have it: see MemberModelPlace.lock. */
export class PartialModel {
  readonly #place: MemberModelPlace;
  readonly #files: readonly ModelFile[];
  readonly #signal: AbortSignal;
  #missing: ModelPart[];

  constructor(place: MemberModelPlace, files: readonly ModelFile[], signal: AbortSignal) {
    this.#place = place;
    this.#files = files;
    this.#signal = signal;
    this.#missing = partsOf(files);
  }

  /** Parts that are not here. */
  get missing(): readonly ModelPart[] {
    return this.#missing;
  }

  get totalBytes(): number {
    return totalBytes(this.#files);
  }

  get heldBytes(): number {
    return this.totalBytes - this.#missing.reduce((sum, { size }) => sum + size, 0);
  }

  /** Takes in what an earlier process left, by its hashes. Throws UserError for a full disk, what the system throws. */
  async open(): Promise<void> {
    const { partial, name } = this.#place;
    await makeDirectory(partial);
    const missing: ModelPart[] = [];
    for (const file of this.#files) missing.push(...(await this.#missingOf(file)));
    this.#missing = missing;
    await checkSpace(name, this.totalBytes - this.heldBytes + SPARE_BYTES, this.#place.directory);
  }

  /** Takes a part whose bytes were checked. Throws what the system throws. */
  async put(part: ModelPart, bytes: Uint8Array): Promise<void> {
    const path = join(this.#place.partial, part.file);
    const handle = await openToWrite(path);
    try {
      await writeAt(handle, bytes, part.offset);
    } finally {
      await handle.close();
    }
    this.#missing = this.#missing.filter((other) => other !== part);
  }

  /** Gives the whole model its name, for good also where power is lost. Throws what the system throws. */
  async finish(): Promise<void> {
    for (const { name } of this.#files) {
      const handle = await disk.open(join(this.#place.partial, name), 'r+');
      try {
        await handle.sync();
      } finally {
        await handle.close();
      }
    }
    await renameDurably(this.#place.partial, this.#place.dir);
  }

  /** Throws what the system throws. */
  async discard(): Promise<void> {
    await rm(this.#place.partial, { recursive: true, force: true });
  }

  async #missingOf(file: ModelFile): Promise<ModelPart[]> {
    const parts = partsOf([file]);
    const path = join(this.#place.partial, file.name);
    let handle: FileHandle;
    try {
      handle = await disk.open(path, 'r+');
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return parts;
      throw error;
    }
    try {
      const { size } = await handle.stat();
      if (size > file.size) await handle.truncate(file.size);
      const missing: ModelPart[] = [];
      for (const part of parts) {
        const isThere = part.offset + part.size <= size && (await this.#isRight(handle, part));
        if (!isThere) missing.push(part);
      }
      return missing;
    } finally {
      await handle.close();
    }
  }

  async #isRight(handle: FileHandle, { offset, size, root }: ModelPart): Promise<boolean> {
    const whole = createHash('sha256');
    const buffer = Buffer.alloc(Math.min(BLOB_CHUNK_BYTES, size));
    for (let done = 0; done < size;) {
      this.#signal.throwIfAborted();
      const wanted = buffer.subarray(0, Math.min(buffer.length, size - done));
      const length = await readAt(handle, wanted, offset + done);
      if (length < wanted.length) return false;
      whole.update(createHash('sha256').update(wanted).digest());
      done += length;
    }
    return whole.digest('hex') === root;
  }
}

async function openToWrite(path: string): Promise<FileHandle> {
  try {
    return await disk.open(path, 'r+');
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error;
    return disk.open(path, 'w');
  }
}

/** What a directory may be called: of OWNER/NAME@COMMIT the NAME, and of anything else its letters. */
function plainName(name: string): string {
  const hubName = parseHubName(name)?.name ?? name;
  const last = hubName.slice(hubName.lastIndexOf('/') + 1);
  const plain = last.replace(/[^A-Za-z0-9._-]/g, '-').replace(/^[.-]+|(\.partial)*\.*$/g, '');
  return plain.slice(0, 64) || 'model';
}

async function list(directory: string): Promise<string[]> {
  return readdir(directory).then(
    (names) => names.sort(),
    () => [],
  );
}
