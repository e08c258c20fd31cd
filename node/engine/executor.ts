/** What carries a graph out. One implementation per backend; all of them take the same graphs. */
import { topologicalOrder, type TensorType, type Value } from './graph.js';

/** Elements of a tensor, row-major. */
export type TensorData = Float32Array | Int32Array;

/** A graph to compile. */
export interface Program {
  /** By the name under which `run` returns it; at least one. float32 or int32. */
  readonly outputs: Readonly<Record<string, Value>>;
  /**
   * Some of the outputs again, computed without the rest: equal but for rounding. That is what a brief run gives;
   * it takes no second copy of the weights where the executor can do without.
   */
  readonly brief?: Readonly<Record<string, Value>>;
  /** Weights are held once, as they are read, and not laid out anew for each product: less memory, slower. */
  readonly plainWeights?: boolean;
}

/** A backend. */
export interface Executor {
  /** What the graph runs on, e.g. "cpu (2 threads)". */
  readonly device: string;
  /** It has kernels for products of 8-bit integers. Default: false. */
  readonly hasIntegerProducts?: boolean;
  /** It reads feeds where they lie, so that many small ones cost no more than a large one. Default: false. */
  readonly isInPlace?: boolean;
  /** Throws ExecutorError when the backend refuses: a weight file that is gone, out of memory. */
  compile(program: Program, options?: CompileOptions): Promise<CompiledGraph>;
}

/** How a graph is compiled. */
export interface CompileOptions {
  /**
   * Copies of the graph and its weights, each with its share of the threads, so that as many runs compute at the same
   * time. Default: 1. Taken for 1 by what has no use for it.
   */
  readonly replicas?: number;
  /**
   * There is no room for the weights a second time: an executor that would compile a graph for brief runs by itself takes the
   * whole one for them too. Default: false.
   */
  readonly isTight?: boolean;
}

/** What a run is fed, by name. */
export type Feeds = Readonly<Record<string, TensorData>>;

/** How a graph is run. */
export interface RunOptions {
  /** Computes Program.brief. Default: false. */
  readonly brief?: boolean;
  /** Where outputs are to lie, by name, each as large as its output; the results are then these arrays. */
  readonly into?: Readonly<Record<string, TensorData>>;
}

/** A graph with its weights, ready to run. */
export interface CompiledGraph {
  /** What `run` must be fed: the inputs that the outputs depend on, by name. */
  readonly inputs: ReadonlyMap<string, TensorType>;
  /** A sentence on what goes another way than it should; absent or null when nothing does. */
  readonly remark?: string | null;
  /**
   * Runs once. `feeds` holds each input, row-major; the results are the caller's own. Throws ExecutorError for
   * missing, unknown or mis-sized feeds or places of results, for a brief run of a program that has none, and after
   * `dispose`. No more runs may overlap than there are replicas.
   */
  run(feeds: Feeds, options?: RunOptions): Promise<Record<string, TensorData>>;
  /** Frees weights and buffers; a second call does nothing. */
  dispose(): Promise<void>;
}

/** The values of a program with brief runs, in topological order each. */
export interface Runs {
  /** What both kinds of run compute, and all that is not computed: inputs, weights, constants. */
  readonly shared: readonly Value[];
  /** What is computed beside in a run with all outputs, and in a brief one. */
  readonly full: readonly Value[];
  readonly short: readonly Value[];
}

/** Which of the values belong to which kind of run. */
export function splitRuns(outputs: Program['outputs'], brief: Program['outputs']): Runs {
  const full = topologicalOrder(Object.values(outputs));
  const short = topologicalOrder(Object.values(brief));
  const [inFull, inShort] = [new Set(full), new Set(short)];
  const isLeaf = ({ source }: Value): boolean => source.kind !== 'operation';
  return {
    shared: [
      ...full.filter((value) => isLeaf(value) || inShort.has(value)),
      ...short.filter((value) => isLeaf(value) && !inFull.has(value)),
    ],
    full: full.filter((value) => !isLeaf(value) && !inShort.has(value)),
    short: short.filter((value) => !isLeaf(value) && !inFull.has(value)),
  };
}

/** Of all values of a program, the weights that are an output, or that an operation reads as float32; others are mapped. */
export function readAsFloats(values: readonly Value[], outputs: readonly Value[]): Set<Value> {
  const read = new Set(outputs.filter(({ source }) => source.kind === 'weight'));
  for (const { source } of values) {
    if (source.kind !== 'operation') continue;
    const { storedOperands = [] } = source.operation;
    for (const [i, one] of source.inputs.entries()) {
      if (one.source.kind === 'weight' && !storedOperands.includes(i)) read.add(one);
    }
  }
  return read;
}
