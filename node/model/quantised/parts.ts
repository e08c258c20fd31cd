/** The tensors that a quantised weight is made of: found by name, held to shape and type, and read. */
import { open, type FileHandle } from 'node:fs/promises';
import { decodeFloats } from '../../engine/storage.js';
import { UserError } from '../../errors.js';
import { readAt } from '../../files.js';
import { unreadable } from '../../json-file.js';
import type { RowSource } from '../row-source.js';
import type { Dtype, TensorEntry } from '../safetensors.js';

/** Of a linear layer. */
export interface LayerShape {
  readonly name: string;
  readonly inFeatures: number;
  readonly outFeatures: number;
}

/** Tensors by name, of which parts are taken. */
export type PartIndex = Map<string, TensorEntry>;

/** The tensor `name`; its shape is checked where one is given. Throws UserError. */
export function partOf(
  index: PartIndex,
  name: string,
  dtypes: readonly Dtype[],
  shape?: readonly number[],
): TensorEntry {
  const entry = index.get(name);
  if (entry === undefined) {
    throw new UserError(
      `the model has no tensor ${name}, which its quantised weight needs: get the rest of the model's files`,
    );
  }
  const { dtype, file } = entry;
  const isRight = shape === undefined || entry.shape.join() === shape.join();
  if (isRight && dtypes.some((one) => one === dtype)) return entry;
  const expected = `${dtypes.join(' or ')}${shape ? ` [${shape.join(', ')}]` : ''}`;
  throw new UserError(
    `${file}: tensor ${name} is ${dtype} [${entry.shape.join(', ')}], but its config makes it ${expected}: config.json and the weights are of different models`,
  );
}

/** A file of the model, to be read from. Throws UserError. */
export async function openFile(file: string): Promise<FileHandle> {
  try {
    return await open(file, 'r');
  } catch (cause) {
    throw unreadable(file, 'a file of the model', cause);
  }
}

/** Fills `into` from `position` on. Throws UserError. */
export async function readFully(
  handle: FileHandle,
  file: string,
  into: Uint8Array,
  position: number,
): Promise<void> {
  let done: number;
  try {
    done = await readAt(handle, into, position);
  } catch (cause) {
    throw unreadable(file, 'a file of the model', cause);
  }
  if (done < into.length) {
    throw new UserError(`${file} became shorter while it was read: leave it alone and try again`);
  }
}

/** All bytes of a part. Throws UserError. */
export async function readPart({
  file,
  offset,
  length,
}: TensorEntry): Promise<Uint8Array<ArrayBuffer>> {
  const handle = await openFile(file);
  try {
    const bytes = new Uint8Array(length);
    await readFully(handle, file, bytes, offset);
    return bytes;
  } finally {
    await handle.close();
  }
}

/** A part of F32, F16 or BF16. Throws UserError. */
export async function readFloats(entry: TensorEntry): Promise<Float32Array> {
  const { dtype } = entry;
  if (dtype !== 'F32' && dtype !== 'F16' && dtype !== 'BF16') {
    throw new UserError(`${entry.file}: tensor ${entry.name} is ${dtype} instead of floats`);
  }
  return decodeFloats(await readPart(entry), dtype);
}

/** A part of I32. Throws UserError. */
export async function readIntegers(entry: TensorEntry): Promise<Int32Array> {
  const bytes = await readPart(entry);
  return new Int32Array(bytes.buffer, 0, bytes.length / 4);
}

/**
 * Puts the weight of `layer` into the index in place of its parts. `what`: the method, for people. The first part stands for
 * the weight where one place in a file is named.
 */
export function takeParts(
  index: PartIndex,
  { name, inFeatures, outFeatures }: LayerShape,
  what: string,
  parts: readonly TensorEntry[],
  openRows: () => Promise<RowSource>,
): void {
  for (const part of parts) index.delete(part.name);
  const { file, offset, length } = parts[0]!;
  const entry = { name: `${name}.weight`, shape: [outFeatures, inFeatures], file, offset, length };
  index.set(entry.name, {
    ...entry,
    dtype: 'QUANTISED',
    quantised: { what, parts, open: openRows },
  });
}
