/**
 * What holds for every decoder of foreign bytes: it gives a value or throws an error of a kind that it documents, soon
 * and in little memory.
 */
import { getHeapStatistics } from 'node:v8';

type ErrorClass = abstract new (...args: never[]) => Error;

/** One decoder, as the product calls it. */
export interface FuzzTarget {
  /** Real encodings, from which inputs are made by changing them. */
  readonly seeds: readonly Uint8Array[];
  /** The errors that the decoder documents. */
  readonly refusals: readonly ErrorClass[];
  /** Decodes `bytes`, and asserts what holds for what came out. */
  run(bytes: Uint8Array): void | Promise<void>;
}

/** Targets by name. */
export type FuzzTargets = Readonly<Record<string, FuzzTarget>>;

/** Bytes of an input: as much as a gossip message may have. */
export const INPUT_BYTES_MAX = 64 * 1024;

/** A decode of INPUT_BYTES_MAX takes less than this, in ms of the processor: a busy machine is no finding. */
export const DECODE_MS_MAX = 1_000;

/** Bytes that a decode of INPUT_BYTES_MAX may leave on the heap: some thousand times what came. */
export const DECODE_BYTES_MAX = 128 * 1024 * 1024;

/** Thrown when a decoder broke the oracle; the input is worth keeping. */
export class FuzzFindingError extends Error {
  override readonly name = 'FuzzFindingError';
}

/** Runs `target` on `bytes`. Throws (or rejects with) FuzzFindingError when the oracle is broken. */
export function execute(target: FuzzTarget, bytes: Uint8Array): void | Promise<void> {
  const startMs = processorMs();
  const startBytes = heldBytes();
  const judge = (): void => checkCost(processorMs() - startMs, heldBytes() - startBytes);
  const refuse = (error: unknown): void => {
    if (target.refusals.some((kind) => error instanceof kind)) return;
    const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
    throw new FuzzFindingError(`an error that is not documented: ${text}`, { cause: error });
  };
  try {
    const pending = target.run(bytes);
    if (pending !== undefined) return pending.catch(refuse).then(judge);
  } catch (error) {
    refuse(error);
  }
  judge();
}

function processorMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1_000;
}

function heldBytes(): number {
  const { used_heap_size: heap, external_memory: external } = getHeapStatistics();
  return heap + external;
}

function checkCost(ms: number, bytes: number): void {
  if (ms >= DECODE_MS_MAX) throw new FuzzFindingError(`a decode that took ${Math.round(ms)} ms`);
  if (bytes >= DECODE_BYTES_MAX) {
    throw new FuzzFindingError(`a decode that took ${Math.round(bytes / 2 ** 20)} MiB`);
  }
}
