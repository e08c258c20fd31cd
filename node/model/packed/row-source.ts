/** Rows of a weight from the model's files, in the order in which they are packed. */
import type { FileHandle } from 'node:fs/promises';
import { STORAGE_BYTES, type FloatStorage } from '../../engine/storage.js';
import { UserError } from '../../errors.js';
import { openFile, readFully } from '../quantised/parts.js';
import type { RowSource } from '../row-source.js';
import type { TensorEntry } from '../safetensors.js';

/** `isTurned`: rows are the columns of the tensor, of which all is then held in memory. Throws UserError. */
export async function openRows(entry: TensorEntry, isTurned: boolean): Promise<RowSource> {
  const { dtype, file, quantised } = entry;
  if (quantised !== undefined && !isTurned) return quantised.open();
  if (dtype !== 'F32' && dtype !== 'F16' && dtype !== 'BF16') {
    throw new UserError(`${file}: the weight ${entry.name} is ${dtype}, which cannot be packed`);
  }
  const handle = await openFile(file);
  if (!isTurned) return new Rows(handle, entry, dtype);
  try {
    return new Columns(await readWhole(handle, entry), entry, dtype);
  } finally {
    await handle.close();
  }
}

class Rows implements RowSource {
  readonly #handle: FileHandle;
  readonly #entry: TensorEntry;

  constructor(
    handle: FileHandle,
    entry: TensorEntry,
    readonly storage: FloatStorage,
  ) {
    this.#handle = handle;
    this.#entry = entry;
  }

  async read(first: number, into: Uint8Array<ArrayBuffer>): Promise<void> {
    const { offset, shape } = this.#entry;
    const rowBytes = shape[1]! * STORAGE_BYTES[this.storage];
    await readFully(this.#handle, this.#entry.file, into, offset + first * rowBytes);
  }

  close(): Promise<void> {
    return this.#handle.close();
  }
}

/** Turns the matrix while it is read. */
class Columns implements RowSource {
  readonly #bytes: Uint8Array<ArrayBuffer>;
  readonly #shape: readonly number[];

  constructor(
    bytes: Uint8Array<ArrayBuffer>,
    { shape }: TensorEntry,
    readonly storage: FloatStorage,
  ) {
    this.#bytes = bytes;
    this.#shape = shape;
  }

  async read(first: number, into: Uint8Array<ArrayBuffer>): Promise<void> {
    const [height, width] = this.#shape as [number, number];
    // Bits are moved, not numbers: their order in a byte does not matter.
    const Words = STORAGE_BYTES[this.storage] === 4 ? Uint32Array : Uint16Array;
    const from = new Words(this.#bytes.buffer);
    const to = new Words(into.buffer, into.byteOffset, into.length / Words.BYTES_PER_ELEMENT);
    const rows = to.length / height;
    for (let k = 0; k < height; k++) {
      const start = k * width + first;
      for (let row = 0; row < rows; row++) to[row * height + k] = from[start + row]!;
    }
  }

  async close(): Promise<void> {
    // Its file is closed since it was opened.
  }
}

async function readWhole(handle: FileHandle, entry: TensorEntry): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(entry.length);
  await readFully(handle, entry.file, bytes, entry.offset);
  return bytes;
}
