/**
 * Reads and writes safetensors files (8 bytes: header length, little-endian; JSON header; tensor bytes;
 * the format section of the safetensors README). A file is foreign bytes: nothing in its header is
 * believed before it is checked against the file.
 */
import { open, type FileHandle } from 'node:fs/promises';
import { z } from 'zod';
import { littleEndian } from '../../protocol/bytes.js';
import type { WeightScales } from '../engine/graph.js';
import { decodeFloats } from '../engine/storage.js';
import { fileSha256 } from '../files.js';
import { UserError } from '../errors.js';
import { parseJson, unreadable } from '../json-file.js';
import type { RowSource } from './row-source.js';
import { writeWhole } from './write-whole.js';

/** Bytes of one value. Of those below one byte there is only I4, which no file of a model may hold. */
export const DTYPE_BYTES = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  F8_E4M3: 1,
  F8_E5M2: 1,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U64: 8,
  U32: 4,
  U16: 2,
  U8: 1,
  BOOL: 1,
  I4: 0.5,
} as const;
export type Dtype = keyof typeof DTYPE_BYTES;

/** Signed codes of 4 bits, two a byte: in the cache of packed weights alone. */
const PACKED_DTYPE = 'I4';

/** Where one tensor lies: `length` = product(shape) x DTYPE_BYTES[dtype], checked. */
export interface TensorEntry {
  name: string;
  /** QUANTISED: only `quantised` knows its numbers. */
  dtype: Dtype | 'QUANTISED';
  shape: readonly number[];
  /** Path of the safetensors file that holds it. */
  file: string;
  /** Bytes from the start of the file. */
  offset: number;
  /** Bytes. */
  length: number;
  /** Of packed weights, I8 or I4, whose codes they multiply; absent for every tensor of a model's files. */
  scales?: WeightScales;
  /** Of a weight that others have quantised, of which `offset` and `length` are the first part's. */
  quantised?: QuantisedWeight;
}

/** A weight that is read as rows of numbers, and cannot be mapped. */
export interface QuantisedWeight {
  /** The method, for people: "GPTQ, 4 bits". */
  readonly what: string;
  /** The tensors that it is made of. */
  readonly parts: readonly TensorEntry[];
  /** Throws UserError. */
  open(): Promise<RowSource>;
}

/** All tensors of a model by name, over one file or many shards. */
export type WeightIndex = ReadonlyMap<string, TensorEntry>;

export interface SafetensorsHeader {
  /** In the order in which their bytes lie in the file. */
  tensors: TensorEntry[];
  metadata: Record<string, string>;
}

/** Bytes of a header, as in the reference implementation. */
export const HEADER_BYTES_MAX = 100_000_000;
/** Dimensions of a tensor. */
const RANK_MAX = 8;
const PREFIX_BYTES = 8;
/** Bytes of one read call: the system refuses more than 2 GiB at once. */
const READ_BYTES = 64 * 1024 * 1024;

const size = z.int({ error: 'but must be a whole number' }).min(0, { error: 'but must be >= 0' });
const tensorSchema = z.object(
  {
    dtype: z.string({ error: 'but must name a dtype' }),
    shape: z.array(size, { error: 'but must be a list of sizes' }).max(RANK_MAX, {
      error: `but has more than ${RANK_MAX} dimensions`,
    }),
    data_offsets: z.tuple([size, size], { error: 'but must be [begin, end] in bytes' }),
  },
  { error: 'but must be an object with dtype, shape and data_offsets' },
);
const headerSchema = z
  .object(
    {
      __metadata__: z
        .record(z.string(), z.string(), { error: 'but must be an object of strings' })
        .optional(),
    },
    { error: 'but must be a JSON object' },
  )
  .catchall(tensorSchema);

/** A weight file that is no longer what its writer made: cut short or overwritten. Names the file and its hash. */
export class DamagedFileError extends UserError {
  constructor(
    message: string,
    readonly file: string,
    options?: ErrorOptions,
  ) {
    super(message, undefined, options);
  }
}

/** Throws UserError. */
async function openToRead(file: string): Promise<FileHandle> {
  try {
    return await open(file, 'r');
  } catch (cause) {
    throw unreadable(file, 'a safetensors file', cause);
  }
}

/**
 * Reads and checks the header of one safetensors file; no tensor is read.
 * Throws UserError: missing file, unknown dtype; DamagedFileError: truncated file, damaged header, a tensor
 * whose byte count does not follow from its shape, or bytes that overlap, leave gaps or end beyond the file.
 */
export async function readSafetensorsHeader(file: string): Promise<SafetensorsHeader> {
  const handle = await openToRead(file);
  try {
    return await readHeader(handle, file);
  } catch (error) {
    if (!(error instanceof DamagedFileError)) throw error;
    // The page of a model names the hash of each file, so that the two can be compared.
    const sha256 = await fileSha256(file);
    throw new DamagedFileError(`${error.message} (its SHA-256 is ${sha256})`, file);
  } finally {
    await handle.close();
  }
}

async function readHeader(handle: FileHandle, file: string): Promise<SafetensorsHeader> {
  const { size: fileBytes } = await handle.stat();
  const headerBytes = await readHeaderLength(handle, file, fileBytes);
  const json = await readBytes(handle, file, PREFIX_BYTES, headerBytes);
  const { __metadata__: metadata = {}, ...raw } = parseHeader(json, file);
  const start = PREFIX_BYTES + headerBytes;
  const tensors = Object.entries(raw).map(([name, tensor]) => toEntry(file, start, name, tensor));
  tensors.sort((a, b) => a.offset - b.offset || a.length - b.length);
  checkCoverage(tensors, file, start, fileBytes);
  return { tensors, metadata };
}

function parseHeader(json: Uint8Array, file: string): z.infer<typeof headerSchema> {
  try {
    return parseJson(json, `the header of ${file}`, headerSchema);
  } catch (cause) {
    if (!(cause instanceof UserError)) throw cause;
    throw new DamagedFileError(cause.message, file, { cause });
  }
}

async function readHeaderLength(
  handle: FileHandle,
  file: string,
  fileBytes: number,
): Promise<number> {
  if (fileBytes < PREFIX_BYTES) {
    throw new DamagedFileError(
      `${file} has ${fileBytes} bytes, too few for a safetensors file: it is cut short, get it again`,
      file,
    );
  }
  const prefix = await readBytes(handle, file, 0, PREFIX_BYTES);
  const length = new DataView(prefix.buffer).getBigUint64(0, true);
  if (length > BigInt(HEADER_BYTES_MAX)) {
    throw new DamagedFileError(
      `${file} claims a header of ${length.toString()} bytes, more than ${HEADER_BYTES_MAX}: it is no safetensors file (a Git LFS pointer or a page saved as a file looks like this), get it again`,
      file,
    );
  }
  if (PREFIX_BYTES + Number(length) > fileBytes) {
    throw new DamagedFileError(
      `${file} has ${fileBytes} bytes, but its header alone needs ${PREFIX_BYTES + Number(length)}: it is cut short, get it again`,
      file,
    );
  }
  return Number(length);
}

function toEntry(
  file: string,
  start: number,
  name: string,
  tensor: z.infer<typeof tensorSchema>,
): TensorEntry {
  const [begin, end] = tensor.data_offsets;
  if (!isDtype(tensor.dtype)) {
    throw new UserError(
      `${file}: tensor ${name} has the unknown dtype ${tensor.dtype}; known: ${FILE_DTYPES.join(', ')}`,
    );
  }
  const expected = tensor.shape.reduce((product, n) => product * n, DTYPE_BYTES[tensor.dtype]);
  if (end - begin !== expected) {
    throw new DamagedFileError(
      `${file}: tensor ${name} of ${tensor.dtype} [${tensor.shape.join(', ')}] needs ${expected} bytes but has ${end - begin}: the file is damaged, get it again`,
      file,
    );
  }
  return {
    name,
    dtype: tensor.dtype,
    shape: tensor.shape,
    file,
    offset: start + begin,
    length: expected,
  };
}

/** What a tensor of a model's file may be. */
const FILE_DTYPES = Object.keys(DTYPE_BYTES).filter((dtype) => dtype !== PACKED_DTYPE);

function isDtype(text: string): text is Dtype {
  return FILE_DTYPES.includes(text);
}

/** The format allows neither overlap nor gaps nor bytes after the last tensor. */
function checkCoverage(
  tensors: readonly TensorEntry[],
  file: string,
  start: number,
  fileBytes: number,
): void {
  let end = start;
  for (const tensor of tensors) {
    if (tensor.offset !== end) {
      throw new DamagedFileError(
        `${file}: tensor ${tensor.name} starts at byte ${tensor.offset} where byte ${end} was due (tensors overlap or leave a gap): the file is damaged, get it again`,
        file,
      );
    }
    end += tensor.length;
  }
  if (end > fileBytes) {
    throw new DamagedFileError(
      `${file} has ${fileBytes} bytes, but its header promises ${end}: it is cut short, get it again`,
      file,
    );
  }
  if (end < fileBytes) {
    throw new DamagedFileError(
      `${file} has ${fileBytes} bytes, but its header accounts for only ${end}: it is damaged, get it again`,
      file,
    );
  }
}

/**
 * Reads one F32, F16 or BF16 tensor as float32, row-major, product(shape) values.
 * Throws UserError: another dtype, or a file that changed since its header was read.
 */
export async function readTensorF32(entry: TensorEntry): Promise<Float32Array> {
  const { dtype } = entry;
  if (dtype !== 'F32' && dtype !== 'F16' && dtype !== 'BF16') {
    throw new UserError(
      `${entry.file}: tensor ${entry.name} is ${entry.quantised?.what ?? dtype}, but weights must be F32, F16 or BF16: get the model in one of these`,
    );
  }
  let handle: FileHandle;
  try {
    handle = await open(entry.file, 'r');
  } catch (cause) {
    throw unreadable(entry.file, 'a safetensors file', cause);
  }
  try {
    const bytes = await readBytes(handle, entry.file, entry.offset, entry.length);
    return decodeFloats(bytes, dtype);
  } finally {
    await handle.close();
  }
}

/**
 * Reads a tensor in pieces of at most `bytesMax` bytes, each a multiple of `unit` bytes; a unit that is longer comes
 * alone. Throws UserError: a file that is gone or became shorter.
 */
export async function* readTensorPieces(
  { file, offset, length }: TensorEntry,
  unit: number,
  bytesMax: number,
): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  const handle = await openToRead(file);
  try {
    const step = Math.max(1, Math.floor(bytesMax / unit)) * unit;
    for (let start = 0; start < length; start += step) {
      yield await readBytes(handle, file, offset + start, Math.min(step, length - start));
    }
  } finally {
    await handle.close();
  }
}

async function readBytes(
  handle: FileHandle,
  file: string,
  offset: number,
  length: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(length);
  let done = 0;
  while (done < length) {
    const wanted = Math.min(READ_BYTES, length - done);
    const { bytesRead } = await handle.read(bytes, done, wanted, offset + done);
    if (bytesRead === 0) {
      throw new UserError(`${file} became shorter while it was read: leave it alone and try again`);
    }
    done += bytesRead;
  }
  return bytes;
}

/** One tensor to write: product(shape) values, row-major. */
export interface F32Tensor {
  name: string;
  shape: readonly number[];
  data: Float32Array;
}

/**
 * Writes float32 tensors in the given order. The file appears whole or not at all: it is written beside
 * its place, flushed to disk and renamed. Throws UserError when the disk refuses.
 */
export async function writeSafetensors(
  path: string,
  tensors: readonly F32Tensor[],
  metadata: Readonly<Record<string, string>>,
): Promise<void> {
  const streamed = tensors.map(({ name, shape, data }): StreamedTensor => ({
    ...{ name, shape, dtype: 'F32' },
    pieces: () => [littleEndian(data)],
  }));
  await streamSafetensors(path, streamed, metadata);
}

/** One tensor to write, whose bytes come when they are due. */
export interface StreamedTensor {
  name: string;
  dtype: Dtype;
  shape: readonly number[];
  /** product(shape) x DTYPE_BYTES[dtype] bytes in all, row-major. */
  pieces: () => Iterable<Uint8Array> | AsyncIterable<Uint8Array>;
}

/** As writeSafetensors, with no more in memory than a piece of a tensor. */
export async function streamSafetensors(
  path: string,
  tensors: readonly StreamedTensor[],
  metadata: Readonly<Record<string, string>>,
): Promise<void> {
  await writeWhole(path, fileParts(tensors, metadata));
}

async function* fileParts(
  tensors: readonly StreamedTensor[],
  metadata: Readonly<Record<string, string>>,
): AsyncGenerator<Uint8Array> {
  yield encodeHeader(tensors, metadata);
  for (const tensor of tensors) yield* tensor.pieces();
}

/** Bytes of a tensor. */
function byteCount({ dtype, shape }: Pick<StreamedTensor, 'dtype' | 'shape'>): number {
  return shape.reduce((product, n) => product * n, DTYPE_BYTES[dtype]);
}

function encodeHeader(
  tensors: readonly StreamedTensor[],
  metadata: Readonly<Record<string, string>>,
): Uint8Array {
  const header: Record<string, unknown> = { __metadata__: metadata };
  let offset = 0;
  for (const tensor of tensors) {
    const { name, dtype, shape } = tensor;
    const end = offset + byteCount(tensor);
    header[name] = { dtype, shape, data_offsets: [offset, end] };
    offset = end;
  }
  const json = new TextEncoder().encode(JSON.stringify(header));
  // Padding with spaces puts the tensors on 8-byte boundaries, as the reference writer does.
  const padded = Math.ceil(json.length / 8) * 8;
  const bytes = new Uint8Array(PREFIX_BYTES + padded).fill(0x20);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(padded), true);
  bytes.set(json, PREFIX_BYTES);
  return bytes;
}
