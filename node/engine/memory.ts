/**
 * What a compiled graph holds in memory, read off the graph before anything is compiled: the copies of its
 * weights that ONNX Runtime keeps, and the most that is alive at one moment of a run (liveness analysis over
 * the order in which ONNX Runtime runs the nodes). docs/ENGINE.md compares it with what was measured.
 */
import { readAsFloats, splitRuns, type Program } from './executor.js';
import { elementCount, type Value } from './graph.js';
import type { Operation } from './operation.js';
import { frozenRowsOperation } from './ops/frozen.js';
import { addMatmulOperation, matmulOperation } from './ops/matmul.js';
import { bytesOf, executionOrder, fixedValues, peakBytes, pieceBytes } from './peak-memory.js';

/** What one compiled graph takes, in bytes. */
export interface GraphMemory {
  /** Frozen weights in all of their copies, tables and masks: held as long as the graph. */
  readonly weights: number;
  /**
   * Bytes of weights that a run reads where they are mapped from files, and never copies: the kernel may drop these
   * pages. Of a table that is read by index, those of as many rows as there are indices.
   */
  readonly evictable: number;
  /** The same of all of these weights, whatever of them a run reads: what a device holds, which copies them. */
  readonly stored: number;
  /** Inputs, intermediate values and outputs: the most at one moment of a run. */
  readonly peak: number;
  /** Operations, each of which costs the executor a little as well. */
  readonly operations: number;
  /** The largest single array: a weight that is read as float32, an input, an intermediate value or an output. */
  readonly largest: number;
}

/** Where the right factor of a product stands, of which the kernels lay out a weight. */
const RIGHT_FACTOR: ReadonlyMap<Operation<never>, number> = new Map<Operation<never>, number>([
  [matmulOperation, 1],
  [addMatmulOperation, 2],
]);

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
    stored: storedBytes(order, results),
    peak:
      pieceBytes(order) + Math.max(peak(outputs, full), brief === outputs ? 0 : peak(brief, short)),
    operations: order.filter(({ source }) => source.kind === 'operation').length,
    largest: largestBytes(order, results),
  };
}

/** What is mapped from files is read in pieces. */
function largestBytes(order: readonly Value[], outputs: readonly Value[]): number {
  const loaded = readAsFloats(order, outputs);
  let most = 0;
  for (const value of order) {
    if (value.source.kind !== 'weight' || loaded.has(value)) most = Math.max(most, bytesOf(value));
  }
  return most;
}

/**
 * A weight that is the right factor of a product is laid out anew for the kernels, once for each product;
 * its plain float32 copy is dropped when nothing else reads it. Where weights stay plain there is only that.
 * Of operations on weights alone, which are computed once, only results that others read are held.
 */
function weightBytes(order: readonly Value[], staysPlain: boolean): number {
  let bytes = 0;
  const plain = new Set<Value>();
  const fixed = fixedValues(order);
  for (const value of order) {
    const { source } = value;
    if (source.kind !== 'operation' || fixed.has(value)) continue;
    const { storedOperands = [] } = source.operation;
    for (const [i, one] of source.inputs.entries()) {
      if (fixed.has(one)) plain.add(one);
      if (one.source.kind !== 'weight' || storedOperands.includes(i)) continue;
      const isLaidOut = !staysPlain && i === RIGHT_FACTOR.get(source.operation);
      if (isLaidOut) bytes += bytesOf(one);
      else plain.add(one);
    }
  }
  for (const value of plain) bytes += bytesOf(value);
  return bytes;
}

/** What a run reads of the files of weights, which are mapped: each byte once, however many values lie over it. */
function evictableBytes(order: readonly Value[], outputs: readonly Value[]): number {
  const loaded = readAsFloats(order, outputs);
  const gathered = gatheredRows(order);
  const files = rangesOf(order.filter((value) => !loaded.has(value) && !gathered.has(value)));
  let bytes = 0;
  for (const ranges of files.values()) bytes += coveredBytes(ranges);
  for (const [value, rows] of gathered) {
    if (loaded.has(value)) continue;
    for (const { file, offset, length } of piecesOfFiles(value)) {
      const others = files.get(file) ?? [];
      const added = coveredBytes([...others, [offset, offset + length]]) - coveredBytes(others);
      bytes += Math.min(added, rows * (length / value.shape[0]! + PAGE_BYTES));
    }
  }
  return bytes;
}

function storedBytes(order: readonly Value[], outputs: readonly Value[]): number {
  const loaded = readAsFloats(order, outputs);
  let bytes = 0;
  for (const ranges of rangesOf(order.filter((value) => !loaded.has(value))).values()) {
    bytes += coveredBytes(ranges);
  }
  return bytes;
}

/** Where the weights among `values` lie, by file. */
function rangesOf(values: readonly Value[]): Map<string, [from: number, to: number][]> {
  const files = new Map<string, [from: number, to: number][]>();
  for (const { file, offset, length } of values.flatMap(piecesOfFiles)) {
    files.set(file, [...(files.get(file) ?? []), [offset, offset + length]]);
  }
  return files;
}

/** The kernel maps whole pages; a row lies over one more than it fills. */
const PAGE_BYTES = 4096;

/** Weights of which runs read nothing but rows by index, and of each how many at most. */
function gatheredRows(order: readonly Value[]): Map<Value, number> {
  const rows = new Map<Value, number>();
  const whole = new Set<Value>();
  for (const { source } of order) {
    if (source.kind !== 'operation') continue;
    const [table, indices] = source.inputs;
    for (const one of source.inputs) {
      if (source.operation !== frozenRowsOperation || one !== table) whole.add(one);
      else rows.set(one, (rows.get(one) ?? 0) + elementCount(indices!.shape));
    }
  }
  return new Map([...rows].filter(([value]) => !whole.has(value)));
}

interface FilePiece {
  readonly file: string;
  readonly offset: number;
  readonly length: number;
}

/** Where the elements of a weight lie, and their scales. */
function piecesOfFiles({ source }: Value): FilePiece[] {
  if (source.kind !== 'weight') return [];
  const { scales, ...elements } = source.weight;
  return scales === undefined ? [elements] : [elements, scales];
}

function coveredBytes(ranges: readonly (readonly [from: number, to: number])[]): number {
  let [bytes, end] = [0, 0];
  for (const [from, to] of ranges.toSorted((a, b) => a[0] - b[0])) {
    bytes += Math.max(0, to - Math.max(from, end));
    end = Math.max(end, to);
  }
  return bytes;
}
