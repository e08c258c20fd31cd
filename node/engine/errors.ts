/** What can go wrong in the engine: faults of the calling code or of the machine, not of a peer. */

/** Operands do not fit together. Thrown while a graph is built, before anything runs. */
export class ShapeError extends Error {
  override readonly name = 'ShapeError';
}

/** A graph could not be compiled or run: out of memory, unreadable weights, wrong feeds, disposed. */
export class ExecutorError extends Error {
  override readonly name: string = 'ExecutorError';
}

/** The machine had no memory left for a graph: a smaller batch may fit. */
export class OutOfMemoryError extends ExecutorError {
  override readonly name = 'OutOfMemoryError';
}

/**
 * What native code and JavaScript say when an allocation fails: std::bad_alloc, the arena of ONNX Runtime,
 * V8 ("Array buffer allocation failed", "JavaScript heap out of memory").
 */
export function isOutOfMemory(message: string): boolean {
  return /bad_alloc|failed to allocate memory|allocation failed|out of memory/i.test(message);
}
