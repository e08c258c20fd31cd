/** The backends of TensorFlow.js that run wherever Node does: WebAssembly and plain JavaScript. */
import type * as tensorflow from '@tensorflow/tfjs-core';
import { ExecutorError, OutOfMemoryError } from '../errors.js';
import type { TfjsBackend } from './executor.js';

/** What the wasm backend has beside the common interface: its module, as Emscripten made it. */
export interface WasmBackend extends tensorflow.KernelBackend {
  readonly wasm: { _malloc: (bytes: number) => number; _free: (address: number) => void };
}

/** A package of TensorFlow.js is not there: all of them are optional peers. */
export class NotInstalledError extends ExecutorError {}

async function loadOptional<T>(name: string, load: () => Promise<T>): Promise<T> {
  try {
    return await load();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_MODULE_NOT_FOUND') throw error;
    throw new NotInstalledError(`${name} is not installed`, { cause: error });
  }
}

/**
 * In production mode: else TensorFlow.js advertises its other packages, and checks again what a graph has checked.
 * Throws NotInstalledError.
 */
export async function loadCore(): Promise<typeof tensorflow> {
  const tf = await loadOptional('@tensorflow/tfjs-core', () => import('@tensorflow/tfjs-core'));
  tf.enableProdMode();
  return tf;
}

/** The wasm backend's allocator takes sizes of 2 GB for negative ones; it adds up to 64 KB by itself. */
const PIECE_BYTES = 2 ** 31 - 2 ** 17;

let wasm: Promise<TfjsBackend> | null = null;

/**
 * WebAssembly with SIMD, one thread (it has no threads under Node). Throws NotInstalledError, or ExecutorError when it
 * does not start.
 */
export function openWasm(): Promise<TfjsBackend> {
  wasm ??= startWasm();
  return wasm;
}

async function startWasm(): Promise<TfjsBackend> {
  const tf = await loadCore();
  await loadOptional(
    '@tensorflow/tfjs-backend-wasm',
    () => import('@tensorflow/tfjs-backend-wasm'),
  );
  if (!(await keepListeners(() => tf.setBackend('wasm')))) {
    throw new ExecutorError('the wasm backend of TensorFlow.js does not start here');
  }
  const { wasm: module } = tf.backend() as WasmBackend;
  module._free(module._malloc(1)); // the first call puts another function into its own place
  const allocate = module._malloc;
  // The backend does not look whether memory was left, and would write to address 0.
  module._malloc = (bytes) => {
    const address = bytes < PIECE_BYTES ? allocate(bytes) : 0;
    if (address !== 0) return address;
    throw new OutOfMemoryError(
      `the wasm backend of TensorFlow.js has no room for ${bytes} bytes (it holds 4 GB, less than 2 GB in one piece): take a smaller batch, or install @tensorflow/tfjs-node`,
    );
  };
  return { tf, name: 'wasm', device: 'tfjs wasm' };
}

/** The module that starts also listens for every uncaught error of the process, which is not its business. */
async function keepListeners<T>(start: () => Promise<T>): Promise<T> {
  const events = ['uncaughtException', 'unhandledRejection'] as const;
  const before = events.map((event) => process.rawListeners(event));
  const result = await start();
  for (const [i, event] of events.entries()) {
    for (const listener of process.rawListeners(event)) {
      if (!before[i]!.includes(listener)) process.removeListener(event, listener as () => void);
    }
  }
  return result;
}

/** Plain JavaScript, for machines on which nothing else starts. Throws as openWasm does. */
export async function openPlain(): Promise<TfjsBackend> {
  const tf = await loadCore();
  await loadOptional('@tensorflow/tfjs-backend-cpu', () => import('@tensorflow/tfjs-backend-cpu'));
  if (!(await tf.setBackend('cpu'))) {
    throw new ExecutorError('the cpu backend of TensorFlow.js does not start here');
  }
  return { tf, name: 'cpu', device: 'tfjs cpu (plain JavaScript)' };
}
