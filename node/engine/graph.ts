/**
 * Symbolic values: a graph is the set of values that its outputs reach. Values never change, shapes are
 * static, and nothing is computed until an executor compiles the graph.
 */
import { ShapeError } from './errors.js';
import type { Attributes, Operation } from './operation.js';
import { isCodes, STORAGE_BYTES, type WeightStorage } from './storage.js';

/** Element types inside a graph; what is fed and returned is float32 or int32. */
export type DType = 'float32' | 'int32' | 'bool';
/** Lengths of the axes, 1 or more each. */
export type Shape = readonly number[];

/** dtype and static shape of a value; [] is a scalar. */
export interface TensorType {
  readonly dtype: DType;
  readonly shape: Shape;
}

/** Where a frozen weight lies on disk; its elements are float32 once loaded. */
export interface WeightSource {
  /** Unique name, for errors and profiles. */
  readonly name: string;
  readonly shape: Shape;
  /** Element type on disk. */
  readonly storage: WeightStorage;
  /** Absolute path. */
  readonly file: string;
  /** First byte in the file. */
  readonly offset: number;
  /** Bytes. */
  readonly length: number;
  /** What the codes of INT8 and INT4 are multiplied by; absent for other storages. */
  readonly scales?: WeightScales;
}

/** Where the scales of a weight [N, K] of codes lie on disk: float32 [N, ceil(K / block)]. */
export interface WeightScales {
  /** Absolute path. */
  readonly file: string;
  /** First byte in the file. */
  readonly offset: number;
  /** Bytes. */
  readonly length: number;
  /** Codes of a row that share a scale: all K of INT8, 1 to K of INT4; the last block of a row may be shorter. */
  readonly block: number;
}

/** Where a value comes from: fed, part of the graph, read from a model file, or computed. */
export type Source =
  | { readonly kind: 'input'; readonly name: string }
  | { readonly kind: 'constant'; readonly data: Float32Array | Int32Array }
  | { readonly kind: 'weight'; readonly weight: WeightSource }
  | {
      readonly kind: 'operation';
      readonly operation: Operation;
      readonly inputs: readonly Value[];
      readonly attributes: Attributes;
    };

/** A tensor that will exist when the graph runs. Immutable; compared by identity. */
export interface Value extends TensorType {
  readonly source: Source;
}

/** Elements of a tensor of this shape. */
export function elementCount(shape: Shape): number {
  return shape.reduce((product, dimension) => product * dimension, 1);
}

/** "float32 [2, 3]", for messages. */
export function describeType(type: TensorType): string {
  return `${type.dtype} [${type.shape.join(', ')}]`;
}

/** Whether two shapes are equal, axis by axis. */
export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((dimension, axis) => dimension === b[axis]);
}

/** A tensor that is fed at every run under `name`. */
export function input(name: string, dtype: 'float32' | 'int32', shape: Shape): Value {
  checkShape(shape);
  return { dtype, shape, source: { kind: 'input', name } };
}

/** A tensor whose elements (row-major) are part of the graph: tables, masks, scalars. Not copied. */
export function constant(data: Float32Array | Int32Array, shape: Shape): Value {
  checkShape(shape);
  if (data.length !== elementCount(shape)) {
    throw new ShapeError(
      `constant: ${data.length} elements for shape [${shape.join(', ')}], which holds ${elementCount(shape)}`,
    );
  }
  const dtype = data instanceof Float32Array ? 'float32' : 'int32';
  return { dtype, shape, source: { kind: 'constant', data } };
}

/** A float32 constant without dimensions. */
export function scalar(value: number): Value {
  return constant(Float32Array.of(value), []);
}

/** A frozen tensor of a model file, float32 in the graph. The file is read when the graph is compiled. */
export function weight(source: WeightSource): Value {
  checkShape(source.shape);
  const bytes = Math.ceil(elementCount(source.shape) * STORAGE_BYTES[source.storage]);
  if (source.length !== bytes) {
    throw new ShapeError(
      `weight ${source.name}: ${source.length} bytes for ${source.storage} [${source.shape.join(', ')}], which takes ${bytes}`,
    );
  }
  checkScales(source);
  return { dtype: 'float32', shape: source.shape, source: { kind: 'weight', weight: source } };
}

/** Rows `from` to `to` of a frozen matrix, where they lie. Throws ShapeError where a row does not begin with a byte. */
export function weightRows(source: WeightSource, from: number, to: number): WeightSource {
  const [rows, columns] = source.shape as [number, number];
  if (from === 0 && to === rows) return source;
  const rowBytes = columns * STORAGE_BYTES[source.storage];
  if (!Number.isInteger(rowBytes)) {
    throw new ShapeError(`weight ${source.name}: a row of ${rowBytes} bytes cannot be read alone`);
  }
  const { scales } = source;
  const scaleBytes = scales === undefined ? 0 : scales.length / rows;
  return {
    ...source,
    shape: [to - from, columns],
    offset: source.offset + from * rowBytes,
    length: (to - from) * rowBytes,
    ...(scales && {
      scales: {
        ...scales,
        offset: scales.offset + from * scaleBytes,
        length: (to - from) * scaleBytes,
      },
    }),
  };
}

function checkScales({ name, shape, storage, scales }: WeightSource): void {
  if (isCodes(storage) !== (scales !== undefined)) {
    throw new ShapeError(`weight ${name}: ${storage} ${scales ? 'has no' : 'needs'} scales`);
  }
  if (scales === undefined) return;
  const [rows, columns, ...rest] = shape;
  const { block, length } = scales;
  if (rows === undefined || columns === undefined || rest.length > 0) {
    throw new ShapeError(`weight ${name}: ${storage} [${shape.join(', ')}] is not a matrix`);
  }
  const isBlock = storage === 'INT8' ? block === columns : block >= 1 && block <= columns;
  if (!Number.isInteger(block) || !isBlock) {
    throw new ShapeError(`weight ${name}: blocks of ${block} in rows of ${columns} codes`);
  }
  const bytes = 4 * rows * Math.ceil(columns / block);
  if (length !== bytes) {
    throw new ShapeError(
      `weight ${name}: ${length} bytes of scales for blocks of ${block} in [${shape.join(', ')}], which take ${bytes}`,
    );
  }
}

/** The value that `operation` makes of `inputs`. Throws ShapeError when they do not fit. */
export function apply<A extends Attributes>(
  operation: Operation<A>,
  inputs: readonly Value[],
  attributes: A,
): Value {
  const { dtype, shape } = operation.type(inputs, attributes);
  checkShape(shape);
  return { dtype, shape, source: { kind: 'operation', operation, inputs, attributes } };
}

/** Every value that `outputs` reach, each after all of its inputs. */
export function topologicalOrder(outputs: readonly Value[]): Value[] {
  const order: Value[] = [];
  const entered = new Set<Value>();
  const done = new Set<Value>();
  // Depth first without recursion: a deep model has paths of thousands of values.
  const stack: Value[] = [...outputs].reverse();
  for (let value = stack.at(-1); value !== undefined; value = stack.at(-1)) {
    if (!entered.has(value)) {
      entered.add(value);
      if (value.source.kind === 'operation') {
        for (const one of [...value.source.inputs].reverse())
          if (!entered.has(one)) stack.push(one);
      }
      continue;
    }
    stack.pop();
    if (!done.has(value)) {
      done.add(value);
      order.push(value);
    }
  }
  return order;
}

function checkShape(shape: Shape): void {
  if (!shape.every((dimension) => Number.isInteger(dimension) && dimension >= 1)) {
    throw new ShapeError(
      `shape [${shape.join(', ')}]: every dimension must be a whole number from 1`,
    );
  }
}
