/** Writes the file of a packed copy: one tensor after the other, with no more in memory than pieces of one. */
import { createHash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { STORAGE_BYTES } from '../../engine/storage.js';
import { UserError } from '../../errors.js';
import { firstNotFinite } from '../finite.js';
import { DTYPE_BYTES } from '../safetensors.js';
import type { PackedLayout, PackedTensor } from './layout.js';
import { INPUT_BYTES, SCALES_MAX, type InputSlot, type Packer } from './packer.js';
import type { RowSource } from '../row-source.js';
import { openRows } from './row-source.js';
import { openPacker } from './wasm-packer.js';

/** Bytes that may wait to reach the disk: what a stop must wait for, and what other programs lose of the page cache. */
const UNSYNCED_BYTES_MAX = 64 * 1024 * 1024;

export interface WriteOptions {
  readonly signal?: AbortSignal;
  /** Told now and then. */
  readonly onProgress?: (progress: PackingProgress) => void;
}

/** Weights (numbers of the model) that are packed, of all that there are. */
export interface PackingProgress {
  readonly done: number;
  readonly total: number;
}

/**
 * Writes the copy to an empty file and syncs it. Returns its SHA-256, 64 hex digits. Throws UserError for a weight that
 * is not finite, the signal's reason, what the system throws.
 */
export async function writePacked(
  { tensors, largestCode }: PackedLayout,
  handle: FileHandle,
  { signal, onProgress }: WriteOptions,
): Promise<string> {
  const output = new Output(handle);
  const packer = openPacker();
  const total = tensors.reduce((sum, { shape: [rows, width] }) => sum + rows * width, 0);
  let done = 0;
  for (const tensor of tensors) {
    await output.padTo(tensor.offset);
    const source = await openRows(tensor.source, tensor.isTurned);
    const work = new TensorPacking(tensor, source, packer, largestCode);
    try {
      for await (const codes of work.pieces()) {
        await output.write(codes);
        onProgress?.({ done: done + work.packed, total });
        signal?.throwIfAborted();
      }
    } finally {
      await source.close();
    }
    done += work.packed;
    if (tensor.scales === undefined) continue;
    await output.padTo(tensor.scales.offset);
    for (const scales of work.scales) await output.write(scales);
  }
  return output.finish();
}

/** What is written, hashed in the order of the file. */
class Output {
  readonly #handle: FileHandle;
  readonly #hash = createHash('sha256');
  #position = 0;
  #unsynced = 0;

  constructor(handle: FileHandle) {
    this.#handle = handle;
  }

  async write(bytes: Uint8Array): Promise<void> {
    this.#hash.update(bytes);
    await this.#handle.writeFile(bytes);
    this.#position += bytes.length;
    this.#unsynced += bytes.length;
    if (this.#unsynced < UNSYNCED_BYTES_MAX) return;
    await this.#handle.sync();
    this.#unsynced = 0;
  }

  async padTo(offset: number): Promise<void> {
    await this.write(new Uint8Array(offset - this.#position));
  }

  async finish(): Promise<string> {
    await this.#handle.sync();
    return this.#hash.digest('hex');
  }
}

/** One tensor on its way: rows are read ahead into one region while those of the other are packed. */
class TensorPacking {
  readonly scales: Uint8Array[] = [];
  /** Values so far. */
  packed = 0;
  readonly #tensor: PackedTensor;
  readonly #source: RowSource;
  readonly #packer: Packer;
  readonly #largestCode: number;

  constructor(tensor: PackedTensor, source: RowSource, packer: Packer, largestCode: number) {
    this.#tensor = tensor;
    this.#source = source;
    this.#packer = packer;
    this.#largestCode = largestCode;
  }

  /** Codes; each piece is good until the next is asked for. Throws UserError. */
  async *pieces(): AsyncGenerator<Uint8Array> {
    const [rows, width] = this.#tensor.shape;
    const step = this.#rowsPerPiece();
    const readInto = (slot: InputSlot, first: number): Promise<void> => {
      const bytes = Math.min(step, rows - first) * width * STORAGE_BYTES[this.#source.storage];
      const done = this.#source.read(first, this.#packer.inputs[slot].subarray(0, bytes));
      // It may fail before anybody waits for it.
      done.catch(() => undefined);
      return done;
    };
    let slot: InputSlot = 0;
    let reading = readInto(slot, 0);
    try {
      for (let first = 0; first < rows; first += step) {
        await reading;
        const other: InputSlot = slot === 0 ? 1 : 0;
        if (first + step < rows) reading = readInto(other, first + step);
        yield this.#pack(slot, first, Math.min(step, rows - first));
        slot = other;
      }
    } finally {
      // The file is closed next.
      await reading.catch(() => undefined);
    }
  }

  #rowsPerPiece(): number {
    const { shape, scales } = this.#tensor;
    const width = shape[1];
    const inputRows = Math.floor(INPUT_BYTES / (width * STORAGE_BYTES[this.#source.storage]));
    if (scales === undefined) return inputRows;
    return Math.min(inputRows, Math.floor(SCALES_MAX / Math.ceil(width / scales.block)));
  }

  #pack(slot: InputSlot, first: number, rows: number): Uint8Array {
    const { shape, dtype, scales } = this.#tensor;
    const width = shape[1];
    const bad = this.#call(slot, rows);
    if (bad !== -1) throw this.#refusal(slot, first, bad);
    this.packed += rows * width;
    if (scales !== undefined) {
      const bytes = 4 * rows * Math.ceil(width / scales.block);
      this.scales.push(Uint8Array.from(this.#packer.scales.subarray(0, bytes)));
    }
    return this.#packer.codes.subarray(0, rows * width * DTYPE_BYTES[dtype]);
  }

  #call(slot: InputSlot, rows: number): number {
    const { shape, dtype, scales } = this.#tensor;
    const width = shape[1];
    const { storage } = this.#source;
    switch (dtype) {
      case 'I8':
        return this.#packer.int8(storage, slot, rows, width, this.#largestCode);
      case 'I4':
        return this.#packer.int4(storage, slot, rows, width, scales!.block);
      case 'BF16':
        return this.#packer.bfloat16(slot, rows, width);
    }
  }

  #refusal(slot: InputSlot, first: number, bad: number): UserError {
    const { source, shape, dtype } = this.#tensor;
    const width = shape[1];
    const region = this.#packer.inputs[slot];
    const isTooLarge =
      dtype === 'BF16' &&
      firstNotFinite(
        new Float32Array(region.buffer, region.byteOffset + 4 * bad * width, width),
      ) === -1;
    const what = isTooLarge
      ? 'a number that is too large for bfloat16'
      : 'NaN or infinity, so that the model computes nothing';
    const remedy = isTooLarge
      ? 'choose --weights fp32 or int8'
      : 'get the file again, or choose another model';
    return new UserError(
      `${source.file}: the weight ${source.name} holds ${what} (output feature ${first + bad + 1} of ${shape[0]}): ${remedy}`,
    );
  }
}
