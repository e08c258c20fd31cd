/**
 * What one primitive operation is: a single record that holds its shape rule, its gradient and how each
 * executor carries it out. A new operation is one record in ops/ and one case in test/compliance/ops.ts.
 */
import type * as tensorflow from '@tensorflow/tfjs-core';
import { ShapeError } from './errors.js';
import {
  describeType,
  type Shape,
  type TensorType,
  type Value,
  type WeightSource,
} from './graph.js';

/** What an operation is told besides its operands: fixed when the graph is built. */
export type Attributes = Readonly<Record<string, number | boolean | readonly number[]>>;
/** Of an operation that has none. */
export type NoAttributes = Readonly<Record<string, never>>;

/** What a gradient is made from. */
export interface GradientContext<A extends Attributes> {
  readonly inputs: readonly Value[];
  readonly attributes: A;
  /** What the operation returned. */
  readonly output: Value;
  /** d loss / d output: float32, same shape as `output`. */
  readonly upstream: Value;
}

/** Adds nodes to an ONNX graph; tensors are called by name there. */
export interface OnnxEmitter {
  /** Adds a node and returns the names of its outputs (fresh ones unless `outputs` is given). */
  node(opType: string, inputs: readonly string[], options?: OnnxNodeOptions): string;
  /** The name of an int64 constant [values.length], as ONNX takes shapes and axes. */
  int64(values: readonly number[]): string;
  /** The name of a float32 scalar constant. */
  float(value: number): string;
  /**
   * Rows `from` to `to` of a frozen matrix as its file holds them, mapped and never copied. Each call gives names of its
   * own where the executor maps files: what one direction of a layer makes of them is not kept for the other.
   */
  stored(weight: WeightSource, from: number, to: number, options?: StoredOptions): StoredRows;
  /** Whether Gather reads codes of 8 bits. */
  readonly gathersCodes: boolean;
  /** Products and lookups are to read the same pieces of a large table, of which a device makes copies. */
  readonly sharesPieces: boolean;
  /**
   * A Loop of `count` steps whose nodes `body` adds once; absent where the device has none. `step` is the step's
   * number, int64 without dimensions; `state` goes from step to step. The body may read names from outside of it.
   */
  loop?(
    count: number,
    state: readonly OnnxFloats[],
    body: (step: string, state: readonly string[]) => OnnxStep,
  ): OnnxLoop;
}

/** How rows of a frozen matrix are given to ONNX Runtime. */
export interface StoredOptions {
  /**
   * The axis whose length it is not told: it frees what it makes of them after use, where it would keep it for the next
   * value of equal shape.
   */
  readonly inner?: 0 | 1;
  /** Nodes that read nothing else may be computed once, when the graph is compiled. Default: false. */
  readonly isFixed?: boolean;
}

/** Rows of a frozen matrix as they lie in a file. */
export interface StoredRows {
  /** [rows, K] of the storage's own type. */
  readonly elements: string;
  /** Float32, [rows] or [rows, blocks]; null for elements that are numbers by themselves. */
  readonly scales: string | null;
}

/** A float32 tensor of a graph that is being emitted. */
export interface OnnxFloats {
  readonly name: string;
  readonly shape: Shape;
}

/** What one step of a Loop makes: the next state, as many tensors of the same shapes, and one more. */
export interface OnnxStep {
  readonly state: readonly string[];
  readonly row: OnnxFloats;
}

/** Names of what a Loop gives: the last state, and the rows of all steps in one tensor, [count, ...]. */
export interface OnnxLoop {
  readonly state: readonly string[];
  readonly rows: string;
}

/** What a node has besides its type and inputs. */
export interface OnnxNodeOptions {
  /** Name of the (first) output. */
  readonly output?: string;
  readonly attributes?: Readonly<Record<string, OnnxAttribute>>;
  /** Operator set; ONNX's own when absent. */
  readonly domain?: 'com.microsoft';
  /**
   * It is written before all other nodes. ONNX Runtime runs nodes that read nothing but constants before the rest, in
   * the order of the file; those that it finds first there it leaves until their results are read.
   */
  readonly isEarly?: boolean;
  /** Axes of the (first) output, for a node whose output another one reads as an operand of a product. */
  readonly rank?: number;
}

/** A typed attribute of a node. */
export type OnnxAttribute =
  | { readonly int: number }
  | { readonly float: number }
  | { readonly ints: readonly number[] }
  | { readonly string: string };

/** One operation of a graph that is being emitted. */
export interface OnnxContext<A extends Attributes> {
  readonly emit: OnnxEmitter;
  /** Names of the inputs, and their types. */
  readonly names: readonly string[];
  readonly inputs: readonly TensorType[];
  readonly attributes: A;
  readonly output: TensorType;
  /** The name that the last node's output must have. */
  readonly outputName: string;
}

/**
 * One operation that TensorFlow.js carries out at once. The library is handed in, so that nothing loads it
 * but the executor that needs it; only what every backend has a kernel for may be called.
 */
export interface TfjsContext<A extends Attributes> {
  readonly tf: typeof tensorflow;
  readonly inputs: readonly tensorflow.Tensor[];
  readonly attributes: A;
  readonly output: TensorType;
}

/** The record of one operation. */
export interface Operation<A extends Attributes = Attributes> {
  readonly name: string;
  /** Places of frozen weights that `onnx` does not read as float32, but by OnnxEmitter.stored or not at all. */
  readonly storedOperands?: readonly number[];
  /** Type of the output. Throws ShapeError when the inputs do not fit together. */
  type(inputs: readonly Value[], attributes: A): TensorType;
  /**
   * d loss / d input for each input, as more graph; null where there is none (integers, masks). Values
   * that nobody asks for cost nothing: they are unreachable.
   */
  gradient(context: GradientContext<A>): readonly (Value | null)[];
  /** Emits nodes for ONNX Runtime, the last of which writes `context.outputName`. */
  onnx(context: OnnxContext<A>): void;
  /** A new tensor of the output's type, never an input itself. Other tensors made here are freed by the caller. */
  tfjs(context: TfjsContext<A>): tensorflow.Tensor;
}

/** Throws the ShapeError of `operation` for these inputs: "matmul of float32 [2, 3], int32 [3]: why". */
export function refuse(operation: string, inputs: readonly TensorType[], why: string): never {
  throw new ShapeError(`${operation} of ${inputs.map(describeType).join(', ')}: ${why}`);
}

/** Throws ShapeError unless `holds`. */
export function demand(
  holds: boolean,
  operation: string,
  inputs: readonly TensorType[],
  why: string,
): asserts holds {
  if (!holds) refuse(operation, inputs, why);
}

/** Throws ShapeError unless every input is float32. */
export function demandFloat(operation: string, inputs: readonly TensorType[]): void {
  demand(
    inputs.every(({ dtype }) => dtype === 'float32'),
    operation,
    inputs,
    'every operand must be float32',
  );
}
