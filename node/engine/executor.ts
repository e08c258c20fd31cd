/** What carries a graph out. One implementation per backend; all of them take the same graphs. */
import type { TensorType, Value } from './graph.js';

/** Elements of a tensor, row-major. */
export type TensorData = Float32Array | Int32Array;

/** A graph to compile. */
export interface Program {
  /** By the name under which `run` returns it; at least one. float32 or int32. */
  readonly outputs: Readonly<Record<string, Value>>;
}

/** A backend. */
export interface Executor {
  /** What the graph runs on, e.g. "cpu (2 threads)". */
  readonly device: string;
  /** Throws ExecutorError when the backend refuses: a weight file that is gone, out of memory. */
  compile(program: Program): Promise<CompiledGraph>;
}

/** A graph with its weights, ready to run. */
export interface CompiledGraph {
  /** What `run` must be fed: the inputs that the outputs depend on, by name. */
  readonly inputs: ReadonlyMap<string, TensorType>;
  /**
   * Runs once. `feeds` holds each input, row-major; the results are the caller's own copies. Throws
   * ExecutorError for missing, unknown or mis-sized feeds, and after `dispose`. Runs must not overlap.
   */
  run(feeds: Readonly<Record<string, TensorData>>): Promise<Record<string, TensorData>>;
  /** Frees weights and buffers; a second call does nothing. */
  dispose(): Promise<void>;
}
