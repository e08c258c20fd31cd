/** theta0 of a run that begins from an adapter: in the data directory, and for members who lack it. */
import { join } from 'node:path';
import { UserError } from './errors.js';
import { readIfThere, replaceFile } from './files.js';
import type { ModelSource } from './interfaces.js';
import { adapterLayout, adapterSha256 } from '../protocol/adapter.js';
import {
  blobRoot,
  chunkHashes,
  wholeBlob,
  type BlobName,
  type BlobSource,
  type Chunk,
} from '../protocol/blob.js';
import { copyOf, littleEndian, swapLittleEndian, toHex } from '../protocol/bytes.js';
import type { Run } from '../protocol/manifest.js';

const FILE = 'initial-adapter.f32';

/** Root of theta as a blob. */
export function initialRootOf(theta: Float32Array): string {
  return toHex(blobRoot(chunkHashes([littleEndian(theta)])));
}

/** What to fetch of a run that begins from an adapter; null for one that draws its start. */
export function initialBlob({ manifest: { adapter } }: Run): BlobName | null {
  if (adapter.initialRoot === undefined) return null;
  return { root: adapter.initialRoot, size: 4 * adapterLayout(adapter).size };
}

/** The run with theta0 of these bytes. Throws UserError, which begins with `where`, for bytes of another adapter. */
export function withInitial(run: Run, bytes: Uint8Array, where: string): Run {
  const { adapter } = run.manifest;
  const { size = -1 } = initialBlob(run) ?? {};
  const isWhole = bytes.length === size;
  const own = swapLittleEndian(copyOf(bytes.subarray(0, isWhole ? size : 0)), 4);
  const theta0 = new Float32Array(own.buffer, own.byteOffset, own.byteLength / 4);
  if (isWhole && adapterSha256(theta0) === adapter.initialSha256 && theta0.every(Number.isFinite)) {
    return { ...run, manifest: { ...run.manifest, adapter: { ...adapter, theta0 } } };
  }
  throw new UserError(
    `${where} is not the adapter that the run "${run.manifest.name}" begins from, or it is damaged: remove it, and join the run again`,
  );
}

/** The run with its theta0 from the data directory, where it needs one. Throws UserError where that is missing or damaged. */
export async function readInitial(dir: string, run: Run): Promise<Run> {
  if (initialBlob(run) === null) return run;
  const path = join(dir, FILE);
  const bytes = await readIfThere(path);
  if (bytes !== null) return withInitial(run, bytes, path);
  throw new UserError(
    `${path}, the adapter that the run "${run.manifest.name}" begins from, is missing: put it back, or join the run again in another --dir`,
  );
}

/** Throws what the system throws. */
export async function writeInitial(dir: string, theta: Float32Array): Promise<void> {
  await replaceFile(join(dir, FILE), [littleEndian(theta)]);
}

/** What a peer gives to members who lack the base model, where it shares that, and theta0. */
export class InitialSource implements ModelSource {
  readonly #root: string;
  readonly #blob: BlobSource;
  readonly #model: (ModelSource & { attention: readonly string[] }) | null;

  constructor(
    theta0: Float32Array,
    model: (ModelSource & { attention: readonly string[] }) | null,
  ) {
    const bytes = littleEndian(theta0);
    const hashes = chunkHashes([bytes]);
    this.#root = toHex(blobRoot(hashes));
    this.#blob = wholeBlob([bytes], hashes);
    this.#model = model;
  }

  /** Sentences for the status. */
  get attention(): readonly string[] {
    return this.#model?.attention ?? [];
  }

  find(root: string): Promise<BlobSource<Chunk> | undefined> {
    if (root === this.#root) return Promise.resolve(this.#blob);
    return this.#model?.find(root) ?? Promise.resolve(undefined);
  }
}
