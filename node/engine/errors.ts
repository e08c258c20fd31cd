/** What can go wrong in the engine; both kinds are faults of the calling code or of the machine, not of a peer. */

/** Operands do not fit together. Thrown while a graph is built, before anything runs. */
export class ShapeError extends Error {
  override readonly name = 'ShapeError';
}

/** A graph could not be compiled or run: out of memory, unreadable weights, wrong feeds, disposed. */
export class ExecutorError extends Error {
  override readonly name = 'ExecutorError';
}
