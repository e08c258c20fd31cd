/** Reads frozen weights from their files, for executors that do not read files themselves. */
import { open, type FileHandle } from 'node:fs/promises';
import { ExecutorError } from '../errors.js';
import type { WeightSource } from '../graph.js';
import { decodeCodes, decodeFloats } from '../storage.js';

/** Bytes of one read call: the system refuses more than 2 GiB at once. */
const READ_BYTES = 64 * 1024 * 1024;

/** The weight's elements as float32, row-major. Throws ExecutorError, which names the file, when it is gone or too short. */
export async function readWeight(weight: WeightSource): Promise<Float32Array> {
  const { name, shape, storage, scales } = weight;
  const bytes = await readBytes(weight, name);
  if (storage !== 'INT8' && storage !== 'INT4') return decodeFloats(bytes, storage);
  const factors = decodeFloats(await readBytes(scales!, name), 'F32');
  return decodeCodes(bytes, storage, shape.at(-1)!, factors, scales!.block);
}

async function readBytes(
  { file, offset, length }: Pick<WeightSource, 'file' | 'offset' | 'length'>,
  weight: string,
): Promise<Uint8Array<ArrayBuffer>> {
  let handle: FileHandle | null = null;
  try {
    handle = await open(file, 'r');
    const bytes = new Uint8Array(length);
    for (let done = 0; done < bytes.length;) {
      const wanted = Math.min(READ_BYTES, bytes.length - done);
      const { bytesRead } = await handle.read(bytes, done, wanted, offset + done);
      if (bytesRead === 0) throw new Error('the file ends before it');
      done += bytesRead;
    }
    return bytes;
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new ExecutorError(`${file}, which holds weight ${weight}: ${why}`, { cause: error });
  } finally {
    await handle?.close();
  }
}
