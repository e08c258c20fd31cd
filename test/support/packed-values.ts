/** The numbers that packed weights stand for, for comparisons. */
import assert from 'node:assert/strict';
import { open } from 'node:fs/promises';
import { decodeCodes, decodeFloats } from '../../node/engine/storage.js';
import { readAt } from '../../node/files.js';
import { readTensorF32, type TensorEntry } from '../../node/model/safetensors.js';

/** Bytes of a file from `offset` on. */
export async function bytesAt({
  file,
  offset,
  length,
}: Pick<TensorEntry, 'file' | 'offset' | 'length'>): Promise<Uint8Array<ArrayBuffer>> {
  const handle = await open(file, 'r');
  try {
    const bytes = new Uint8Array(length);
    assert.equal(await readAt(handle, bytes, offset), length);
    return bytes;
  } finally {
    await handle.close();
  }
}

/** What the graph makes of a weight, packed or not: float32, row-major. */
export async function valuesOf(entry: TensorEntry): Promise<Float32Array> {
  const { dtype, shape, scales } = entry;
  if (scales === undefined) return readTensorF32(entry);
  assert.ok(dtype === 'I8' || dtype === 'I4');
  const factors = decodeFloats(await bytesAt(scales), 'F32');
  const storage = dtype === 'I8' ? 'INT8' : 'INT4';
  return decodeCodes(await bytesAt(entry), storage, shape[1]!, factors, scales.block);
}

/** The matrix with rows for columns. */
export function turned(values: Float32Array, [rows, columns]: readonly number[]): Float32Array {
  return values.map((_, i) => values[(i % rows!) * columns! + Math.floor(i / rows!)]!);
}
