/** Reads frozen weights from their model files, for executors that do not read files themselves. */
import { open, type FileHandle } from 'node:fs/promises';
import { ExecutorError } from '../errors.js';
import type { WeightSource } from '../graph.js';
import { decodeFloats } from '../storage.js';

/** Bytes of one read call: the system refuses more than 2 GiB at once. */
const READ_BYTES = 64 * 1024 * 1024;

/** The weight's elements, row-major. Throws ExecutorError, which names the file, when it is gone or too short. */
export async function readWeight(weight: WeightSource): Promise<Float32Array> {
  let handle: FileHandle | null = null;
  try {
    handle = await open(weight.file, 'r');
    const bytes = new Uint8Array(weight.length);
    for (let done = 0; done < bytes.length;) {
      const wanted = Math.min(READ_BYTES, bytes.length - done);
      const { bytesRead } = await handle.read(bytes, done, wanted, weight.offset + done);
      if (bytesRead === 0) throw new Error('the file ends before it');
      done += bytesRead;
    }
    return decodeFloats(bytes, weight.storage);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new ExecutorError(`${weight.file}, which holds weight ${weight.name}: ${why}`, {
      cause: error,
    });
  } finally {
    await handle?.close();
  }
}
