/** Opens TensorFlow.js on the best backend there is: TensorFlow itself, else WebAssembly, else JavaScript. */
import { ExecutorError } from '../errors.js';
import type { Executor } from '../executor.js';
import { tfjsExecutor, type TfjsBackend } from './executor.js';
import { openNative, type NativeOptions, type NativePackage } from './native.js';
import { loadCore, NotInstalledError, openPlain, openWasm } from './portable.js';

/** The better one first. */
const NATIVE_PACKAGES: readonly NativePackage[] = [
  '@tensorflow/tfjs-node-gpu',
  '@tensorflow/tfjs-node',
];

/** How TensorFlow.js is opened. */
export interface TfjsOptions {
  /** "auto" (default) takes the first of the others that works; one that is named is not replaced. */
  readonly backend?: 'auto' | 'tensorflow' | 'wasm' | 'cpu';
  /**
   * Folder whose node_modules has the native addon; by default that of the environment variable
   * MURMURATE_TFJS, and without it the addon must be installed beside this package.
   */
  readonly folder?: string;
  /** Threads of one operation in TensorFlow, from 1; counts when it is loaded first. Default: one per core. */
  readonly threads?: number;
  /** Told in one sentence when something installed cannot be used. Default: a warning of the process. */
  readonly warn?: (sentence: string) => void;
}

/** Throws ExecutorError when the backend that was named cannot be had. */
export async function openTfjsExecutor(options: TfjsOptions = {}): Promise<Executor> {
  return tfjsExecutor(await openBackend(options));
}

async function openBackend(options: TfjsOptions): Promise<TfjsBackend> {
  const { backend = 'auto', threads = null, warn = warnProcess } = options;
  if (backend === 'wasm') return openWasm();
  if (backend === 'cpu') return openPlain();
  const refusals: string[] = [];
  const folder = options.folder ?? process.env['MURMURATE_TFJS'] ?? null;
  try {
    // Native packages beside this one share it.
    await loadCore();
  } catch (error) {
    // Those in a folder of their own bring another.
    if (!(error instanceof NotInstalledError)) throw error;
  }
  const opened = firstNative({ folder, threads }, refusals);
  if (backend === 'tensorflow' && opened === null) {
    throw new ExecutorError(refusals.join('; ') || '@tensorflow/tfjs-node is not installed');
  }
  const chosen = opened ?? (await firstPortable(refusals));
  if (refusals.length > 0) warn(`${refusals.join('; ')}: computing on ${chosen.device} instead`);
  return chosen;
}

function firstNative(options: NativeOptions, refusals: string[]): TfjsBackend | null {
  for (const name of NATIVE_PACKAGES) {
    try {
      const opened = openNative(name, options);
      if (opened !== null) return opened;
    } catch (error) {
      refusals.push(message(error));
    }
  }
  if (options.folder !== null && refusals.length === 0) {
    refusals.push(`there is no ${NATIVE_PACKAGES.join(' or ')} in ${options.folder}`);
  }
  return null;
}

async function firstPortable(refusals: string[]): Promise<TfjsBackend> {
  try {
    return await openWasm();
  } catch (error) {
    refusals.push(message(error));
    return openPlain();
  }
}

function message(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function warnProcess(sentence: string): void {
  process.emitWarning(sentence, 'TensorFlow.js');
}
