/**
 * The most memory that is alive at one moment of a run: liveness analysis over the order in which ONNX Runtime runs the
 * nodes, with the buffers that it plans.
 */
import {
  describeType,
  elementCount,
  type DType,
  type Shape,
  type TensorType,
  type Value,
} from './graph.js';
import type { Operation } from './operation.js';
import { reshapeOperation } from './ops/broadcast.js';
import {
  attentionWorkspace,
  causalAttentionGradientOperation,
  causalAttentionOperation,
} from './ops/causal-attention.js';
import { codePieces, codesMatmulOperation } from './ops/codes.js';
import * as elementwise from './ops/elementwise.js';
import {
  frozenMatmulOperation,
  piecesOf,
  storedWeight,
  type FrozenMatmulAttributes,
} from './ops/frozen.js';
import * as neural from './ops/neural.js';
import { roundingRestOperation } from './ops/row-codes.js';

const FLOAT_BYTES = 4;
const ELEMENT_BYTES: Readonly<Record<DType, number>> = { float32: FLOAT_BYTES, int32: 4, bool: 1 };

/** Operations whose result is another view of their first operand's bytes. */
const VIEWS: ReadonlySet<Operation<never>> = new Set([reshapeOperation]);

/** Operations whose result takes the place of their operand where that is not read again. */
const IN_PLACE: ReadonlySet<Operation<never>> = new Set([
  elementwise.sigmoidOperation,
  neural.softmaxOperation,
  neural.logSoftmaxOperation,
]);

type Workspace = (result: Value, inputs: readonly Value[]) => number;
/** Bytes beside operands and result while an operation runs. */
const WORKSPACE: ReadonlyMap<Operation<never>, Workspace> = new Map<Operation<never>, Workspace>([
  // ONNX's Where makes two halves first.
  [elementwise.selectOperation, (result) => 2 * bytesOf(result)],
  // The codes, and what they stand for.
  [roundingRestOperation, (result) => elementCount(result.shape) + bytesOf(result)],
  [causalAttentionOperation, attentionWorkspace],
  [causalAttentionGradientOperation, attentionWorkspace],
]);

/**
 * What is made of one piece of a mapped matrix at a time; there are two of them, that of the next product before its
 * time. The products of pieces come to lie between these, where nothing as large as all of them has room later.
 */
export function pieceBytes(order: readonly Value[]): number {
  let [made, between] = [0, 0];
  for (const value of order) {
    const { source } = value;
    if (source.kind !== 'operation') continue;
    const isFrozen = source.operation === frozenMatmulOperation;
    if (!isFrozen && source.operation !== codesMatmulOperation) continue;
    const [, matrix] = source.inputs;
    if (matrix?.source.kind !== 'weight') continue;
    const { weight } = matrix.source;
    const { transB } = source.attributes as FrozenMatmulAttributes;
    const sizeOf = ([from, to]: [number, number], bytes: number): number =>
      (to - from) * weight.shape[1]! * bytes;
    if (isFrozen && weight.storage === 'F32') continue;
    const pieces = isFrozen ? piecesOf(weight) : codePieces(weight, transB);
    // Codes the other way round; those of 4 bits are float32 before they are codes of 8 bits.
    const ofCodes = weight.storage === 'INT4' ? FLOAT_BYTES + 1 : Number(transB);
    made = Math.max(made, sizeOf(pieces[0]!, isFrozen ? FLOAT_BYTES : ofCodes));
    if (transB && pieces.length > 1) between = Math.max(between, bytesOf(value));
  }
  return 2 * made + between;
}

/**
 * ONNX Runtime sorts the nodes anew: depth first from the outputs, and of a node's operands the one that
 * was written last comes first, so that a layer's adapter gradient is computed as soon as it can be.
 */
export function executionOrder(written: readonly Value[]): Value[] {
  const place = new Map(written.map((value, i) => [value, i]));
  const isHere = (value: Value): boolean => place.has(value);
  const order: Value[] = [];
  const entered = new Set<Value>();
  const done = new Set<Value>();
  const stack = [...written];
  for (let value = stack.at(-1); value !== undefined; value = stack.at(-1)) {
    if (entered.has(value)) {
      stack.pop();
      if (!done.has(value)) order.push(value);
      done.add(value);
      continue;
    }
    entered.add(value);
    const inputs = value.source.kind === 'operation' ? value.source.inputs.filter(isHere) : [];
    stack.push(...inputs.sort((a, b) => place.get(a)! - place.get(b)!));
  }
  return order;
}

/** `order` with what products of codes make on their way, and what each of its values reads. */
function withSteps(order: readonly Value[]): {
  order: Value[];
  operands: (value: Value) => readonly Value[];
} {
  const reads = new Map<Value, readonly Value[]>();
  const all: Value[] = [];
  for (const value of order) {
    const { source } = value;
    if (source.kind === 'operation' && source.operation === codesMatmulOperation) {
      const { inputs, attributes } = source;
      const steps = stepsOf(value, inputs, attributes as FrozenMatmulAttributes);
      reads.set(value, [...steps.slice(-1), ...inputs]);
      all.push(...steps);
    }
    all.push(value);
  }
  return { order: all, operands: (value) => reads.get(value) ?? operandsOf(value) };
}

function operandsOf({ source }: Value): readonly Value[] {
  return source.kind === 'operation' ? source.inputs : [];
}

/** In turn: codes of x, a product for each piece of the matrix and term of x, their sums, and all pieces together. */
function stepsOf(
  { shape: [rows = 0, columns = 0] }: TensorType,
  [x, matrix, , rest]: readonly Value[],
  { transB }: FrozenMatmulAttributes,
): Value[] {
  const steps: Value[] = [];
  const step = (shape: Shape, inputs: readonly Value[], dtype: DType = 'float32'): Value => {
    // A sum stands for all of them: none of these works in place.
    const source = { kind: 'operation', operation: elementwise.addOperation, inputs } as const;
    const made: Value = { dtype, shape, source: { ...source, attributes: {} } };
    steps.push(made);
    return made;
  };
  // As wide as 8 bits.
  const codes = [x!, ...(rest === undefined ? [] : [rest])].map((one) =>
    step(one.shape, [one], 'bool'),
  );
  const sums: Value[] = [];
  let joined: Value | null = null;
  for (const [from, to] of codePieces(storedWeight(matrix!), transB)) {
    const shape = [rows, transB ? to - from : columns];
    const products = codes.map((one) => step(shape, [one]));
    const sum = products.length === 1 ? products[0]! : step(shape, products);
    sums.push(sum);
    joined = joined === null || transB ? sum : step(shape, [joined, sum]);
  }
  if (transB && sums.length > 1) step([rows, columns], sums);
  return steps;
}

/** Memory that one value after another lies in: from the first one's making to the last one's last use. */
interface Buffer {
  readonly bytes: number;
  /** Type and shape of the value that it was made for. */
  readonly kind: string;
  /** Places in the order. */
  readonly from: number;
  until: number;
}

/**
 * The most bytes of buffers at one moment, and of what is beside them while an operation runs: first the values
 * that both kinds of run compute, then a branch, until whose end all that it reads of them is held.
 */
export function peakBytes(
  shared: readonly Value[],
  branch: readonly Value[],
  outputs: readonly Value[],
): number {
  const all = [...shared, ...branch];
  const fixed = fixedValues(all);
  const { order, operands } = withSteps(all.filter((value) => !fixed.has(value)));
  const own = new Set(branch);
  const read = branch.flatMap(({ source }) => (source.kind === 'operation' ? source.inputs : []));
  const held = [...outputs, ...read.filter((value) => !own.has(value))];
  const change = new Float64Array(order.length + 1);
  for (const { bytes, from, until } of planBuffers(order, held, operands)) {
    change[from]! += bytes;
    change[until + 1]! -= bytes;
  }
  let live = order.reduce((sum, one) => sum + (one.source.kind === 'input' ? bytesOf(one) : 0), 0);
  let peak = live;
  for (const [i, value] of order.entries()) {
    live += change[i]!;
    const { source } = value;
    const beside =
      source.kind === 'operation' ? WORKSPACE.get(source.operation)?.(value, source.inputs) : 0;
    peak = Math.max(peak, live + (beside ?? 0));
  }
  return peak;
}

/**
 * As ONNX Runtime plans them: a value takes over its operand's buffer, or one that fell free and whose value
 * had the same type and shape, which is then kept in between; else it gets a new one.
 */
function planBuffers(
  order: readonly Value[],
  held: readonly Value[],
  operands: (value: Value) => readonly Value[],
): Buffer[] {
  const lastUse = lastUses(order, held, operands);
  const buffers: Buffer[] = [];
  const bufferOf = new Map<Value, Buffer>();
  const free = new Map<string, Buffer[]>();
  for (const [i, value] of order.entries()) {
    if (value.source.kind !== 'operation') continue;
    const { operation } = value.source;
    const inputs = operands(value);
    const operand = VIEWS.has(operation) || IN_PLACE.has(operation) ? inputs[0] : undefined;
    const own = operand === undefined ? undefined : bufferOf.get(operand);
    const kind = describeType(value);
    let buffer = own !== undefined && (VIEWS.has(operation) || own.until === i) ? own : undefined;
    buffer ??= free.get(kind)?.pop();
    if (buffer === undefined) {
      buffer = { bytes: bytesOf(value), kind, from: i, until: i };
      buffers.push(buffer);
    }
    buffer.until = Math.max(buffer.until, lastUse.get(value)!);
    bufferOf.set(value, buffer);
    for (const left of new Set(inputs.map((one) => bufferOf.get(one)))) {
      if (left !== undefined && left !== buffer && left.until === i) {
        free.set(left.kind, [...(free.get(left.kind) ?? []), left]);
      }
    }
  }
  return buffers;
}

/** The place in `order` at which each value is read last; what is `held` is read after all. */
function lastUses(
  order: readonly Value[],
  held: readonly Value[],
  operands: (value: Value) => readonly Value[],
): Map<Value, number> {
  const lastUse = new Map<Value, number>();
  for (const [i, value] of order.entries()) {
    if (value.source.kind !== 'operation') continue;
    for (const one of [value, ...operands(value)]) lastUse.set(one, i);
  }
  for (const value of held) lastUse.set(value, order.length - 1);
  return lastUse;
}

/** In memory. */
export function bytesOf(value: Value): number {
  return elementCount(value.shape) * ELEMENT_BYTES[value.dtype];
}
/** Results of operations that read nothing but weights and constants, as numbers. */
export function fixedValues(order: readonly Value[]): Set<Value> {
  const fixed = new Set<Value>();
  for (const value of order) {
    const { source } = value;
    if (source.kind !== 'operation' || source.inputs.length === 0) continue;
    const { storedOperands = [] } = source.operation;
    const isFixed = source.inputs.every(
      (one, i) =>
        fixed.has(one) ||
        one.source.kind === 'constant' ||
        (one.source.kind === 'weight' && !storedOperands.includes(i)),
    );
    if (isFixed) fixed.add(value);
  }
  return fixed;
}
