/** TensorFlow itself, through the native addon of one of two packages that a user may have installed. */
import { createRequire } from 'node:module';
import path from 'node:path';
import util from 'node:util';
import type * as tensorflow from '@tensorflow/tfjs-core';
import { ExecutorError } from '../errors.js';
import type { TfjsBackend } from './executor.js';

/** Optional peers; each is all of TensorFlow.js, with TensorFlow as its backend. */
export type NativePackage = '@tensorflow/tfjs-node-gpu' | '@tensorflow/tfjs-node';

/** Where the addon is looked for, and how TensorFlow is set up when it is first loaded. */
export interface NativeOptions {
  /** Folder whose node_modules has the package; null is wherever this package finds its own dependencies. */
  readonly folder: string | null;
  /** Threads of one operation, from 1; null is one per core. */
  readonly threads: number | null;
}

/** What tfjs-node's backend has beside the common interface. */
interface NativeBackend extends tensorflow.KernelBackend {
  readonly binding: { readonly TF_Version: string };
  readonly isUsingGpuDevice: boolean;
}

/** Null when the package is not installed. Throws ExecutorError, with the reason, when it does not load. */
export function openNative(name: NativePackage, options: NativeOptions): TfjsBackend | null {
  const { folder, threads } = options;
  const require = createRequire(folder === null ? import.meta.url : path.resolve(folder, 'any.js'));
  let file: string;
  try {
    file = require.resolve(name);
  } catch {
    return null;
  }
  // Read by TensorFlow when the addon is loaded. Its notes on the processor are no news to a user.
  process.env['TF_CPP_MIN_LOG_LEVEL'] ??= '2';
  if (threads !== null) process.env['TF_NUM_INTRAOP_THREADS'] = String(threads);
  // tfjs-node calls these, which Node deprecated and then (23) removed.
  Object.assign(util, {
    isArray: Array.isArray,
    isNullOrUndefined: (value: unknown) => value === null || value === undefined,
  });
  // node-pre-gyp, which looks for the addon, would take options of this command (--dir) for its own.
  const { argv } = process;
  process.argv = argv.slice(0, 2);
  let tf: typeof tensorflow;
  try {
    tf = require(file) as typeof tensorflow;
  } catch (error) {
    const [reason] = String(error instanceof Error ? error.message : error).split('\n');
    throw new ExecutorError(`${name} does not load (${reason?.replace(/[\s.]+$/, '')})`, {
      cause: error,
    });
  } finally {
    process.argv = argv;
  }
  const { binding, isUsingGpuDevice } = tf.backend() as NativeBackend;
  const device = `${name.slice('@tensorflow/'.length)} (TensorFlow ${binding.TF_Version}, ${isUsingGpuDevice ? 'gpu' : 'cpu'})`;
  return { tf, name: tf.getBackend(), device };
}
