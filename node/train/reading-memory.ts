/**
 * What a graph that only reads will take (generate, eval), said before its weights are loaded, and a refusal
 * where that is more than is free.
 */
import type { Program } from '../engine/executor.js';
import { graphMemory } from '../engine/memory.js';
import { UserError } from '../errors.js';
import { freeMemory } from './free-memory.js';
import { FRAGMENTATION, NODE_BYTES, RUNTIME_BYTES, size } from './memory-plan.js';

/** What it is for. */
export interface ReadingPurpose {
  /** Begins a sentence: "generating". */
  readonly doing: string;
  /** What to do where it does not fit, beside closing other programs. */
  readonly remedy: string;
}

/** What there is, in bytes. */
export interface ReadingRoom {
  /** What this process takes now, and what it may still take. */
  readonly processBytes: number;
  readonly free: number;
}

/**
 * E.g. "generating takes about 640 MB of memory (weights 420 MB, activations 24 MB, the process 196 MB) of 21.1 GB".
 * Throws UserError with the sizes when it does not fit.
 */
export function planReading(
  program: Program,
  { doing, remedy }: ReadingPurpose,
  { processBytes, free }: ReadingRoom = {
    processBytes: process.memoryUsage.rss(),
    free: freeMemory(),
  },
): string {
  const graph = graphMemory(program);
  const weights = graph.weights + graph.loading + NODE_BYTES * graph.operations;
  const activations = FRAGMENTATION * graph.peak;
  const needed = weights + activations;
  const room = Math.max(0, free - RUNTIME_BYTES);
  const own = processBytes + RUNTIME_BYTES;
  const parts = `weights ${size(weights)}, activations ${size(activations)}`;
  if (needed > room) {
    throw new UserError(
      `the model does not fit into memory: ${doing} takes ${size(needed)} (${parts}), but only ${size(room)} ` +
        `are free: close other programs, ${remedy} or take a smaller model`,
    );
  }
  return `${doing} takes about ${size(needed + own)} of memory (${parts}, the process ${size(own)}) of ${size(room + own)}`;
}
