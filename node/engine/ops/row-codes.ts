/**
 * Matrices as codes of 8 bits, with a scale for each row, that are made anew in each run (LLM.int8(), Dettmers et al.
 * 2022), and what rounding to them leaves.
 */
import type * as tensorflow from '@tensorflow/tfjs-core';
import { apply, type TensorType, type Value } from '../graph.js';
import { demand, demandFloat, type OnnxEmitter, type Operation } from '../operation.js';

/** The largest code of the other operand, of either sign. */
const ROW_CODE_MAX = 127;
/** The same where it has no negative element. */
const POSITIVE_CODE_MAX = 255;
/** What rounding leaves is half a code at most, and has codes of its own. */
export const FINER = 2 * ROW_CODE_MAX;
/** What stands for 0 where there are two signs: the kernels take it without one. */
export const ZERO_CODE = 128;
/** Stands for the magnitude of a row or column of zeros, whose codes are 0 then. */
const MAGNITUDE_MIN = 1e-30;

/** How the rows of the other operand become codes. */
export type RowAttributes = {
  /** It has no negative element, and all codes are for the others. Default: false. */
  readonly isPositive?: boolean;
};

/**
 * What rounding to codes of 8 bits leaves of a matrix: for another product, of as many bits again. Layers that read the
 * same share it. It has no gradient: that of the product with x is the exact one's.
 */
export const roundingRestOperation: Operation<RowAttributes> = {
  name: 'roundingRest',
  type(inputs) {
    demandFloat('roundingRest', inputs);
    demand(inputs[0]!.shape.length === 2, 'roundingRest', inputs, 'needs a matrix');
    return inputs[0]!;
  },
  gradient: () => [null],
  onnx({ emit, names: [x], inputs, attributes: { isPositive = false }, outputName }) {
    const { codes, perRow, zeros } = quantiseRows(emit, x!, inputs[0]!, isPositive);
    const known = emit.node('DequantizeLinear', [codes, perRow, zeros], OF_ROWS);
    emit.node('Sub', [x!, known], { output: outputName });
  },
  tfjs: ({ tf, inputs: [x], attributes: { isPositive = false } }) =>
    tf.sub(x!, rounded(tf, x!, rowScale(tf, x!, isPositive))),
};

export function rowScale(
  tf: typeof tensorflow,
  matrix: tensorflow.Tensor,
  isPositive: boolean,
): tensorflow.Tensor {
  return scaleOf(tf, matrix, 1, isPositive ? POSITIVE_CODE_MAX : ROW_CODE_MAX);
}

/** What one code is worth, for each of the other axis. */
export function scaleOf(
  tf: typeof tensorflow,
  matrix: tensorflow.Tensor,
  axis: number,
  codes: number,
): tensorflow.Tensor {
  return tf.div(tf.maximum(tf.max(tf.abs(matrix), axis, true), MAGNITUDE_MIN), codes);
}

/** To multiples of `scale`. */
export function rounded(
  tf: typeof tensorflow,
  matrix: tensorflow.Tensor,
  scale: tensorflow.Tensor,
): tensorflow.Tensor {
  return tf.mul(tf.round(tf.div(matrix, scale)), scale);
}

/** A matrix as codes. */
export interface RowCodes {
  /** [M, K] uint8. */
  readonly codes: string;
  /** What stands for 0 in them, and that once for each row. */
  readonly zero: string;
  readonly zeros: string;
  /** What one code is worth: [M] float32. */
  readonly perRow: string;
}

const OF_ROWS = { attributes: { axis: { int: 0 } } } as const;

/** ONNX Runtime computes equal nodes once, so that products of one operand share its codes. */
export function quantiseRows(
  emit: OnnxEmitter,
  matrix: string,
  type: TensorType,
  isPositive: boolean,
): RowCodes {
  const [codeMost, zeroCode] = isPositive ? [POSITIVE_CODE_MAX, 0] : [ROW_CODE_MAX, ZERO_CODE];
  const perRow = emit.node('Div', [largest(emit, matrix, 1, isPositive), emit.float(codeMost)]);
  return rowCodes(emit, matrix, type, perRow, zeroCode);
}

export function rowCodes(
  emit: OnnxEmitter,
  matrix: string,
  { shape: [M] }: TensorType,
  perRow: string,
  zeroCode: number,
): RowCodes {
  const zero = emit.node('Cast', [emit.float(zeroCode)], { attributes: { to: { int: UINT8 } } });
  const zeros = emit.node('Expand', [zero, emit.int64([M!])]);
  const codes = emit.node('QuantizeLinear', [matrix, perRow, zeros], OF_ROWS);
  return { codes, zero, zeros, perRow };
}

/** The largest magnitude along an axis, never 0; the axis is gone. `isPositive`: no element is negative. */
export function largest(
  emit: OnnxEmitter,
  matrix: string,
  axis: number,
  isPositive = false,
): string {
  const reduce = (opType: string): string =>
    emit.node(opType, [matrix, emit.int64([axis])], { attributes: { keepdims: { int: 0 } } });
  const below = isPositive ? [] : [emit.node('Neg', [reduce('ReduceMin')])];
  return emit.node('Max', [reduce('ReduceMax'), ...below, emit.float(MAGNITUDE_MIN)]);
}

/** TensorProto.DataType. */
const UINT8 = 2;

/** One rest for all that read it: ONNX Runtime would compute equal ones anew. */
const RESTS = {
  signed: new WeakMap<Value, Value>(),
  positive: new WeakMap<Value, Value>(),
};

/** x: [M, K] float32 -> the same shape: x less what its codes stand for. */
export function roundingRest(x: Value, isPositive: boolean): Value {
  const rests = isPositive ? RESTS.positive : RESTS.signed;
  const rest = rests.get(x) ?? apply(roundingRestOperation, [x], { isPositive });
  rests.set(x, rest);
  return rest;
}
