/**
 * moments.bin: what array-file.ts says, written and read in pieces, for it is twice as large as the adapter. It is read
 * once to be checked before anything is taken from it.
 */
import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { z } from 'zod';
import { littleEndian, swapLittleEndian } from '../../protocol/bytes.js';
import { ADAPTER_SIZE_MAX } from '../../protocol/limits.js';
import { errnoOf, makeDurable, readAt } from '../files.js';
import { MomentsLostError, type Moments } from '../interfaces.js';
import {
  arrayFileHead,
  DamagedStateError,
  DIGEST_BYTES,
  payloadStart,
  PREFIX_BYTES,
  readArrayFileHead,
} from './array-file.js';

const count = z.number().int().nonnegative();
const header = z.strictObject({
  runId: z.string(),
  adapterSize: count.max(ADAPTER_SIZE_MAX),
  step: count,
});
const MOMENTS = { magic: 'murmmome', version: 1, schema: header };

/** Coordinates of a piece: 256 kB. */
const PIECE_COORDINATES = 1 << 16;

/** A header beyond this is none of ours. */
const HEADER_BYTES_MAX = 4096;

/** Bytes that lie somewhere and are read in parts; fewer come only from beyond the end. */
export interface ByteSource {
  readonly length: number;
  read(start: number, end: number): Promise<Uint8Array<ArrayBuffer>>;
}

/** The file's content in parts, each written before the next is made. Throws MomentsLostError as Moments.pieces. */
export async function* encodeMoments(runId: string, moments: Moments): AsyncGenerator<Uint8Array> {
  const { step, size } = moments;
  const digest = createHash('sha256');
  for (const part of arrayFileHead(MOMENTS, { runId, adapterSize: size, step })) {
    digest.update(part);
    yield part;
  }
  let coordinates = 0;
  for await (const piece of moments.pieces()) {
    const bytes = littleEndian(piece);
    digest.update(bytes);
    coordinates += piece.length;
    yield bytes;
  }
  if (coordinates !== 2 * size) {
    throw new MomentsLostError(`got ${coordinates} numbers for two moments of ${size}`);
  }
  yield digest.digest();
}

/** What a checked file holds. */
export interface MomentsFile {
  step: number;
  /** Coordinates of the adapter. */
  size: number;
  /** Where m begins. */
  start: number;
  sha256: string;
}

/** Reads all of it once. Throws DamagedStateError for what is not a whole file of this run, with moments that AdamW gives. */
export async function checkMoments(source: ByteSource, runId: string): Promise<MomentsFile> {
  if (source.length < PREFIX_BYTES + DIGEST_BYTES) {
    throw new DamagedStateError(`it holds only ${source.length} bytes`);
  }
  const start = payloadStart(await source.read(0, PREFIX_BYTES));
  const end = source.length - DIGEST_BYTES;
  if (start > Math.min(end, PREFIX_BYTES + HEADER_BYTES_MAX)) {
    throw new DamagedStateError('its header is not valid');
  }
  const head = await source.read(0, start);
  const { adapterSize: size, step, runId: owner } = readArrayFileHead(MOMENTS, head);
  if (owner !== runId) throw new DamagedStateError(`it belongs to run ${owner}, not ${runId}`);
  const length = start + 8 * size;
  if (length > end) throw new DamagedStateError('it is shorter than its header says');
  if (length < end) throw new DamagedStateError('it is longer than its header says');
  let isSound = true;
  const digest = createHash('sha256').update(head);
  for await (const { bytes, first } of piecesOf(source, { size, start })) {
    digest.update(bytes);
    isSound &&= isMoment(valuesOf(bytes), first < size ? -Infinity : 0);
  }
  const sha256 = digest.digest();
  if (!sha256.equals(await source.read(end, source.length))) {
    throw new DamagedStateError('its SHA-256 does not match');
  }
  if (!isSound) throw new DamagedStateError('its moments hold a number that no optimiser gives');
  return { step, size, start, sha256: sha256.toString('hex') };
}

/** The moments of a file that was checked, as Moments.pieces. Throws MomentsLostError where it is another one by now. */
export async function* readMoments(
  source: ByteSource,
  file: MomentsFile,
): AsyncGenerator<Float32Array> {
  const digest = createHash('sha256').update(await source.read(0, file.start));
  for await (const { bytes } of piecesOf(source, file)) {
    digest.update(bytes);
    yield valuesOf(bytes);
  }
  if (digest.digest('hex') !== file.sha256) throw new MomentsLostError('their file has changed');
}

/** The moments in the file at `path`, checked; null when there is none. Throws as checkMoments, and what the system throws. */
export async function openMoments(path: string, runId: string): Promise<Moments | null> {
  let file: MomentsFile;
  try {
    file = await withFile(path, (source) => checkMoments(source, runId));
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return null;
    throw error;
  }
  // Its writer may have been killed before it was synced.
  await makeDurable(path);
  const { step, size } = file;
  return {
    ...{ step, size, isThere: true },
    async *pieces() {
      const handle = await open(path, 'r');
      try {
        yield* readMoments(await sourceOf(handle), file);
      } finally {
        await handle.close();
      }
    },
  };
}

async function withFile<T>(path: string, use: (source: ByteSource) => Promise<T>): Promise<T> {
  const handle = await open(path, 'r');
  try {
    return await use(await sourceOf(handle));
  } finally {
    await handle.close();
  }
}

async function sourceOf(handle: Awaited<ReturnType<typeof open>>): Promise<ByteSource> {
  const { size } = await handle.stat();
  return {
    length: size,
    read: async (start, end) => {
      const bytes = new Uint8Array(end - start);
      return bytes.subarray(0, await readAt(handle, bytes, start));
    },
  };
}

/** m and v in pieces, none of which holds some of both; `first` counts coordinates through both. */
async function* piecesOf(
  source: ByteSource,
  { size, start }: Pick<MomentsFile, 'size' | 'start'>,
): AsyncGenerator<{ bytes: Uint8Array<ArrayBuffer>; first: number }> {
  for (let first = 0; first < 2 * size;) {
    const end = Math.min(first + PIECE_COORDINATES, first < size ? size : 2 * size);
    const bytes = await source.read(start + 4 * first, start + 4 * end);
    if (bytes.length !== 4 * (end - first)) throw new DamagedStateError('it ends too early');
    yield { bytes, first };
    first = end;
  }
}

/** In the machine's order, after the digest has had the file's. */
function valuesOf(bytes: Uint8Array<ArrayBuffer>): Float32Array {
  swapLittleEndian(bytes, 4);
  return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
}

function isMoment(values: Float32Array, least: number): boolean {
  for (let i = 0; i < values.length; i++) {
    const value = values[i] ?? NaN;
    if (!(value >= least && value < Infinity) || value === -Infinity) return false;
  }
  return true;
}
