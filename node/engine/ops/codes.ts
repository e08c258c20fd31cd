/**
 * Products with a frozen matrix whose file holds 8 or 4 bits, in 8-bit integers. There is one copy of its codes for both
 * directions: scales belong to its rows, and multiply what comes out forward and what goes in backward.
 */
import { apply, sameShape, scalar, weight, type Value, type WeightSource } from '../graph.js';
import { demand, demandFloat, type OnnxEmitter, type Operation } from '../operation.js';
import { dequantise } from '../onnx/stored.js';
import { isCodes } from '../storage.js';
import { div, mul } from './elementwise.js';
import {
  columns,
  frozenMatmulOperation,
  frozenProductType,
  isStored,
  piecesOf,
  storedWeight,
  type FrozenMatmulAttributes,
} from './frozen.js';
import {
  FINER,
  largest,
  quantiseRows,
  rounded,
  roundingRest,
  rowCodes,
  rowScale,
  scaleOf,
  ZERO_CODE,
  type RowAttributes,
  type RowCodes,
} from './row-codes.js';

/** How codes are read, and how the other operand becomes codes. */
export type CodesMatmulAttributes = FrozenMatmulAttributes & RowAttributes;

/** Codes of 8 bits in one of 4 bits, where a block has the largest scale of its row: -8 becomes -128. */
const FINER_CODES = 16;

/**
 * x op(codes), in 8-bit integers. Operands: x, the matrix, what a code is worth in each of its rows, and what rounding
 * leaves of x, where that counts. With transB (forward) rows are worth what their scales say; else (backward) one each,
 * and it is for x to be multiplied by the scales before.
 */
export const codesMatmulOperation: Operation<CodesMatmulAttributes> = {
  name: 'codesMatmul',
  storedOperands: [1],
  type(inputs, { transB }) {
    const [x, matrix, scales, rest = x] = inputs as [Value, Value, Value, Value?];
    demand(
      isStored(matrix) && isCodes(matrix.source.weight.storage),
      'codesMatmul',
      inputs,
      'needs a matrix of codes that is read from a file',
    );
    demandFloat('codesMatmul', inputs);
    demand(
      sameShape(scales.shape, matrix.shape.slice(0, 1)) && sameShape(rest.shape, x.shape),
      'codesMatmul',
      inputs,
      'needs a scale for each row of the matrix, and the rest of x',
    );
    return frozenProductType('codesMatmul', [x, matrix], transB);
  },
  gradient({ inputs: [, matrix, scales], attributes: { transB }, upstream }) {
    const terms = 1;
    const product = frozenMatmul(upstream, matrix!, { transB: !transB, terms });
    return [transB ? product : div(product, scales!), null, null, null];
  },
  onnx({ emit, names: [x, , scales, rest], inputs, attributes, outputName }) {
    const { transB, isPositive = false } = attributes;
    const coarse = quantiseRows(emit, x!, inputs[0]!, isPositive);
    const terms: Term[] = [{ ...coarse, worth: 1 }];
    if (rest !== undefined) {
      const finer = emit.node('Div', [coarse.perRow, emit.float(FINER)]);
      terms.push({ ...rowCodes(emit, rest, inputs[0]!, finer, ZERO_CODE), worth: 1 / FINER });
    }
    const sum = product(emit, terms, inputs[1] as Value, scales!, transB);
    const column = emit.node('Unsqueeze', [coarse.perRow, emit.int64([1])]);
    emit.node('Mul', [sum, column], { output: outputName });
  },
  tfjs({ tf, inputs: [x, matrix, scales, rest], attributes: { transB, isPositive = false } }) {
    const perRow = rowScale(tf, x!, isPositive);
    let rows = rounded(tf, x!, perRow);
    if (rest !== undefined) rows = tf.add(rows, rounded(tf, rest, tf.div(perRow, FINER)));
    const worth = tf.expandDims(scales!, 1);
    const known = tf.round(tf.div(matrix!, worth));
    return tf.matMul(rows, transB ? tf.mul(known, worth) : known, false, transB);
  },
};

/** Codes of x, each of which is worth so much of what a row says. */
type Term = RowCodes & { readonly worth: number };

/** The name of the sum of all terms times the codes of the matrix, which are taken piece by piece. */
function product(
  emit: OnnxEmitter,
  terms: readonly Term[],
  matrix: Value,
  scales: string,
  transB: boolean,
): string {
  const source = storedWeight(matrix);
  const pieces = codePieces(source, transB);
  const parts = pieces.map(([from, to]) => {
    const isAll = pieces.length === 1;
    const own = isAll ? scales : part(emit, scales, from, to);
    const known = codesOf(emit, source, [from, to], transB, own);
    const right = transB
      ? emit.node('Transpose', [known], { attributes: { perm: { ints: [1, 0] } }, isEarly: true })
      : known;
    const products = terms.map(({ codes, zero, worth }) => {
      const left = transB || isAll ? codes : columns(emit, codes, from, to);
      const factors = [emit.float(worth), transB ? own : emit.float(1), zero];
      return emit.node('MatMulIntegerToFloat', [left, right, ...factors], {
        domain: 'com.microsoft',
      });
    });
    return products.reduce((sum, one) => emit.node('Add', [sum, one]));
  });
  if (!transB) return parts.reduce((sum, one) => emit.node('Add', [sum, one]));
  if (parts.length === 1) return parts[0]!;
  return emit.node('Concat', parts, { attributes: { axis: { int: 1 } } });
}

/**
 * Rows, first to last, of each piece: codes of 8 bits are turned over forward and read as they lie backward, those of 4
 * bits are float32 and then 8 bits.
 */
export function codePieces(source: WeightSource, transB: boolean): [from: number, to: number][] {
  if (source.storage === 'INT4') return piecesOf(source, MADE_OF_FOUR_BITS);
  return transB ? piecesOf(source, 1) : [[0, source.shape[0]!]];
}

/** Bytes that are made of a code of 4 bits. */
const MADE_OF_FOUR_BITS = 5;

/** Rows of the matrix as int8; codes of 4 bits, whose blocks have scales of their own, become others with one scale a row. */
function codesOf(
  emit: OnnxEmitter,
  source: WeightSource,
  [from, to]: readonly [number, number],
  transB: boolean,
  scales: string,
): string {
  const rows = emit.stored(source, from, to, { inner: transB ? 1 : 0 });
  if (source.storage === 'INT8') return rows.elements;
  const known = dequantise(emit, source, rows, { isEarly: true });
  const attributes = { axis: { int: 0 }, output_dtype: { int: INT8 } };
  return emit.node('QuantizeLinear', [known, scales], { attributes, isEarly: true });
}

function part(emit: OnnxEmitter, vector: string, from: number, to: number): string {
  const range = [[from], [to]].map((one) => emit.int64(one));
  return emit.node('Slice', [vector, ...range], { isEarly: true });
}

/** TensorProto.DataType. */
const INT8 = 3;

/** The largest magnitude of each row, never 0. It has no gradient: what it is for does not train. */
export const rowMagnitudesOperation: Operation<Readonly<Record<string, never>>> = {
  name: 'rowMagnitudes',
  type(inputs) {
    demandFloat('rowMagnitudes', inputs);
    demand(inputs[0]!.shape.length === 2, 'rowMagnitudes', inputs, 'needs a matrix');
    return { dtype: 'float32', shape: inputs[0]!.shape.slice(0, 1) };
  },
  gradient: () => [null],
  onnx({ emit, names: [x], outputName }) {
    emit.node('Identity', [largest(emit, x!, 1)], { output: outputName });
  },
  tfjs: ({ tf, inputs: [x] }) => tf.squeeze(scaleOf(tf, x!, 1, 1), [1]),
};

/** One for all products with a matrix, in both directions. */
const SCALES = new WeakMap<Value, Value>();

/** What a code of 8 bits is worth in each row of a matrix of codes: [N] float32. */
function rowScales(matrix: Value): Value {
  const known = SCALES.get(matrix);
  if (known !== undefined) return known;
  const { name, shape, storage, scales } = storedWeight(matrix);
  const { file, offset, length, block } = scales!;
  const [rows, inner] = shape as [number, number];
  const source = { name: `${name}/row scales`, storage: 'F32', file, offset, length } as const;
  const isByRow = storage === 'INT8';
  const blocks = Math.ceil(inner / block);
  const all = weight({ ...source, shape: isByRow ? [rows] : [rows, blocks] });
  const made = isByRow
    ? all
    : mul(apply(rowMagnitudesOperation, [all], {}), scalar(1 / FINER_CODES));
  SCALES.set(matrix, made);
  return made;
}

/** How a product with a frozen matrix is computed. */
export type FrozenMatmulOptions = CodesMatmulAttributes & {
  /**
   * 0: in float32. 1 or 2: codes in 8-bit integers, for which x is taken in 8 bits, or as the sum of two terms of 8 bits.
   * The gradient then takes one. Default: 0.
   */
  readonly terms?: 0 | 1 | 2;
};

/**
 * x: [M, K] float32, matrix: [K, N] (transB: [N, K]), a matrix of a file -> [M, N] float32. The gradient by x is the
 * product with the same matrix the other way round; the matrix has none.
 */
export function frozenMatmul(
  x: Value,
  matrix: Value,
  { terms = 0, transB, ...rows }: FrozenMatmulOptions,
): Value {
  if (terms === 0) return apply(frozenMatmulOperation, [x, matrix], { transB });
  const scales = rowScales(matrix);
  const left = transB ? x : mul(x, scales);
  const rest = terms === 2 ? [roundingRest(left, rows.isPositive ?? false)] : [];
  return apply(codesMatmulOperation, [left, matrix, scales, ...rest], { transB, ...rows });
}
