/**
 * What a compiled graph holds in memory, read off the graph before anything is compiled: the copies of its
 * weights that ONNX Runtime keeps, and the most that is alive at one moment of a run (liveness analysis over
 * the order in which ONNX Runtime runs the nodes). docs/ENGINE.md compares it with what was measured.
 */
import { readAsFloats, splitRuns, type Program } from './executor.js';
import { describeType, elementCount, type DType, type Value } from './graph.js';
import type { Operation } from './operation.js';
import { reshapeOperation } from './ops/broadcast.js';
import {
  attentionWorkspace,
  causalAttentionGradientOperation,
  causalAttentionOperation,
} from './ops/causal-attention.js';
import * as elementwise from './ops/elementwise.js';
import { codePieces, codesMatmulOperation } from './ops/codes.js';
import { frozenMatmulOperation, piecesOf, type FrozenMatmulAttributes } from './ops/frozen.js';
import { addMatmulOperation, matmulOperation } from './ops/matmul.js';
import * as neural from './ops/neural.js';
import { roundingRestOperation } from './ops/row-codes.js';

/** What one compiled graph takes, in bytes. */
export interface GraphMemory {
  /** Frozen weights in all of their copies, tables and masks: held as long as the graph. */
  readonly weights: number;
  /** Bytes of weights that are mapped from files and never copied: the kernel may drop these pages. */
  readonly evictable: number;
  /** Inputs, intermediate values and outputs: the most at one moment of a run. */
  readonly peak: number;
  /** Operations, each of which costs the executor a little as well. */
  readonly operations: number;
}

const FLOAT_BYTES = 4;
const ELEMENT_BYTES: Readonly<Record<DType, number>> = { float32: FLOAT_BYTES, int32: 4, bool: 1 };

/** Where the right factor of a product stands, of which the kernels lay out a weight. */
const RIGHT_FACTOR: ReadonlyMap<Operation<never>, number> = new Map<Operation<never>, number>([
  [matmulOperation, 1],
  [addMatmulOperation, 2],
]);

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
  [codesMatmulOperation, besideCodes],
  // The codes, and what they stand for.
  [roundingRestOperation, (result) => elementCount(result.shape) + bytesOf(result)],
  [causalAttentionOperation, attentionWorkspace],
  [causalAttentionGradientOperation, attentionWorkspace],
]);

/** The codes of the operand and of its rest, and the products of both before their sum and the scaling of its rows. */
function besideCodes(result: Value, [x, , , rest]: readonly Value[]): number {
  const codes = elementCount(x!.shape);
  return rest === undefined ? Math.max(codes, bytesOf(result)) : 2 * (codes + bytesOf(result));
}

/** Memory of `program` once it is compiled. Costs no more than walking the graph. */
export function graphMemory({
  outputs,
  brief = outputs,
  plainWeights = false,
}: Program): GraphMemory {
  const { shared, full, short } = splitRuns(outputs, brief);
  const order = [...shared, ...full, ...short];
  const results = [...Object.values(outputs), ...Object.values(brief)];
  const constants = order.filter(({ source }) => source.kind === 'constant');
  const peak = (results: Program['outputs'], branch: readonly Value[]): number =>
    peakBytes(executionOrder(shared), executionOrder(branch), Object.values(results));
  return {
    weights:
      weightBytes(order, plainWeights) + constants.reduce((sum, value) => sum + bytesOf(value), 0),
    evictable: evictableBytes(order, results),
    peak:
      pieceBytes(order) + Math.max(peak(outputs, full), brief === outputs ? 0 : peak(brief, short)),
    operations: order.filter(({ source }) => source.kind === 'operation').length,
  };
}

/**
 * A weight that is the right factor of a product is laid out anew for the kernels, once for each product;
 * its plain float32 copy is dropped when nothing else reads it. Where weights stay plain there is only that.
 */
function weightBytes(order: readonly Value[], staysPlain: boolean): number {
  let bytes = 0;
  const plain = new Set<Value>();
  for (const { source } of order) {
    if (source.kind !== 'operation') continue;
    const { storedOperands = [] } = source.operation;
    for (const [i, one] of source.inputs.entries()) {
      if (one.source.kind !== 'weight' || storedOperands.includes(i)) continue;
      const isLaidOut = !staysPlain && i === RIGHT_FACTOR.get(source.operation);
      if (isLaidOut) bytes += bytesOf(one);
      else plain.add(one);
    }
  }
  for (const value of plain) bytes += bytesOf(value);
  return bytes;
}

/** What is mapped of the files of weights: each byte once, however many values lie over it. */
function evictableBytes(order: readonly Value[], outputs: readonly Value[]): number {
  const loaded = readAsFloats(order, outputs);
  const files = new Map<string, [from: number, to: number][]>();
  for (const value of order) {
    if (value.source.kind !== 'weight' || loaded.has(value)) continue;
    const { scales, ...elements } = value.source.weight;
    for (const { file, offset, length } of scales === undefined ? [elements] : [elements, scales]) {
      files.set(file, [...(files.get(file) ?? []), [offset, offset + length]]);
    }
  }
  let bytes = 0;
  for (const ranges of files.values()) {
    let end = 0;
    for (const [from, to] of ranges.sort((a, b) => a[0] - b[0])) {
      bytes += Math.max(0, to - Math.max(from, end));
      end = Math.max(end, to);
    }
  }
  return bytes;
}

/** What is made of one piece of a mapped matrix at a time; there are two of them, that of the next product before its time. */
function pieceBytes(order: readonly Value[]): number {
  let most = 0;
  for (const { source } of order) {
    if (source.kind !== 'operation') continue;
    const isFrozen = source.operation === frozenMatmulOperation;
    if (!isFrozen && source.operation !== codesMatmulOperation) continue;
    const [, matrix] = source.inputs;
    if (matrix?.source.kind !== 'weight') continue;
    const { weight } = matrix.source;
    const { transB } = source.attributes as FrozenMatmulAttributes;
    const sizeOf = ([from, to]: [number, number], bytes: number): number =>
      (to - from) * weight.shape[1]! * bytes;
    if (isFrozen) {
      if (weight.storage !== 'F32')
        most = Math.max(most, sizeOf(piecesOf(weight)[0]!, FLOAT_BYTES));
    } else {
      // Codes the other way round; those of 4 bits are float32 before they are codes of 8 bits.
      const made = weight.storage === 'INT4' ? FLOAT_BYTES + 1 : Number(transB);
      most = Math.max(most, sizeOf(codePieces(weight, transB)[0]!, made));
    }
  }
  return 2 * most;
}

/**
 * ONNX Runtime sorts the nodes anew: depth first from the outputs, and of a node's operands the one that
 * was written last comes first, so that a layer's adapter gradient is computed as soon as it can be.
 */
function executionOrder(written: readonly Value[]): Value[] {
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
function peakBytes(
  shared: readonly Value[],
  branch: readonly Value[],
  outputs: readonly Value[],
): number {
  const order = [...shared, ...branch];
  const own = new Set(branch);
  const read = branch.flatMap(({ source }) => (source.kind === 'operation' ? source.inputs : []));
  const held = [...outputs, ...read.filter((value) => !own.has(value))];
  const change = new Float64Array(order.length + 1);
  for (const { bytes, from, until } of planBuffers(order, held)) {
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
function planBuffers(order: readonly Value[], held: readonly Value[]): Buffer[] {
  const lastUse = lastUses(order, held);
  const buffers: Buffer[] = [];
  const bufferOf = new Map<Value, Buffer>();
  const free = new Map<string, Buffer[]>();
  for (const [i, value] of order.entries()) {
    if (value.source.kind !== 'operation') continue;
    const { operation, inputs } = value.source;
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
function lastUses(order: readonly Value[], held: readonly Value[]): Map<Value, number> {
  const lastUse = new Map<Value, number>();
  for (const [i, value] of order.entries()) {
    if (value.source.kind !== 'operation') continue;
    for (const one of [value, ...value.source.inputs]) lastUse.set(one, i);
  }
  for (const value of held) lastUse.set(value, order.length - 1);
  return lastUse;
}

function bytesOf(value: Value): number {
  return elementCount(value.shape) * ELEMENT_BYTES[value.dtype];
}
