/**
 * Products with a frozen weight in 8-bit integers, as ONNX Runtime's DynamicQuantizeMatMul: the weight is
 * quantised once, the other operand at every run (LLM.int8(), Dettmers et al. 2022, without its outliers'
 * part; the backward product is quantised as well).
 */
import type * as tensorflow from '@tensorflow/tfjs-core';
import { apply, type Value } from '../graph.js';
import { demand, demandFloat, type OnnxEmitter, type Operation } from '../operation.js';
import { matmulOperation } from './matmul.js';

/**
 * Weight codes go from -63 to 63: AVX2 without VNNI adds two products of 8 bits in 16, and 2 x 255 x 64 is the
 * most that fits.
 */
const CODE_MAX = 63;
/** Largest code of the other operand. */
const BYTE_MAX = 255;
/** Stands for the magnitude of a row or column of zeros, whose codes are 0 then. */
const MAGNITUDE_MIN = 1e-30;

/** How the weight is read. */
export type QuantisedMatmulAttributes = {
  /** The weight is given as [N, K]. */
  readonly transB: boolean;
};

/**
 * x op(w) with op(w) quantised column by column, and x with a scale for each row and one zero point.
 * The gradient by x is the quantised product with w the other way round; the weight is frozen.
 */
export const quantisedMatmulOperation: Operation<QuantisedMatmulAttributes> = {
  name: 'quantisedMatmul',
  type(inputs, { transB }) {
    const [x, weight] = inputs as [Value, Value];
    demandFloat('quantisedMatmul', inputs);
    demand(
      x.shape.length === 2 && weight.shape.length === 2 && weight.source.kind !== 'operation',
      'quantisedMatmul',
      inputs,
      'needs a matrix and a matrix that is read, not computed',
    );
    return matmulOperation.type(inputs, { transA: false, transB, alpha: 1 });
  },
  gradient: ({ inputs: [, weight], attributes: { transB }, upstream }) => [
    quantisedMatmul(upstream, weight!, !transB),
    null,
  ],
  onnx({ emit, names: [x, weight], attributes: { transB }, outputName }) {
    const { codes, scales } = quantise(emit, weight!, transB);
    // The kernel has one scale for all rows: brought to one magnitude, none loses to the largest.
    const perRow = largest(emit, x!, 1, true); // [M, 1]
    const scaled = emit.node('Div', [x!, perRow]);
    const product = emit.node('DynamicQuantizeMatMul', [scaled, codes, scales], {
      domain: 'com.microsoft',
    });
    emit.node('Mul', [product, perRow], { output: outputName });
  },
  tfjs({ tf, inputs: [x, weight], attributes: { transB } }) {
    const magnitude = (matrix: tensorflow.Tensor, axis: number): tensorflow.Tensor =>
      tf.maximum(tf.max(tf.abs(matrix), axis, true), MAGNITUDE_MIN);
    const scales = tf.div(magnitude(weight!, transB ? 1 : 0), CODE_MAX);
    const rounded = tf.mul(tf.round(tf.div(weight!, scales)), scales);
    const perRow = magnitude(x!, 1); // [M, 1]
    const scaled = tf.div(x!, perRow);
    // As DynamicQuantizeLinear of ONNX: codes of 8 bits without a sign, 0 being one of them.
    const low = tf.minimum(tf.min(scaled), 0);
    const range = tf.sub(tf.maximum(tf.max(scaled), 0), low);
    const scale = tf.div(tf.maximum(range, MAGNITUDE_MIN), BYTE_MAX);
    const zero = tf.round(tf.div(tf.neg(low), scale));
    const codes = tf.clipByValue(tf.add(tf.round(tf.div(scaled, scale)), zero), 0, BYTE_MAX);
    const known = tf.mul(tf.sub(codes, zero), tf.mul(perRow, scale));
    return tf.matMul(known, rounded, false, transB);
  },
};

/**
 * Codes [K, N] int8 and scales [N] float32 of op(weight): nodes without inputs, computed once, at compiling.
 * All that they make in between is held until the last weight is done: none of it is float32 of its size.
 */
function quantise(
  emit: OnnxEmitter,
  weight: string,
  transB: boolean,
): { codes: string; scales: string } {
  const magnitudes = largest(emit, weight, transB ? 1 : 0, false);
  const scales = emit.node('Div', [magnitudes, emit.float(CODE_MAX)]);
  const codes = emit.node('QuantizeLinear', [weight, scales], {
    attributes: { axis: { int: transB ? 0 : 1 }, output_dtype: { int: INT8 } },
  });
  if (!transB) return { codes, scales };
  const turned = emit.node('Transpose', [codes], { attributes: { perm: { ints: [1, 0] } } });
  return { codes: turned, scales };
}

/** The largest magnitude along an axis, never 0. */
function largest(emit: OnnxEmitter, matrix: string, axis: number, keepDims: boolean): string {
  const reduce = (opType: string): string =>
    emit.node(opType, [matrix, emit.int64([axis])], {
      attributes: { keepdims: { int: keepDims ? 1 : 0 } },
    });
  const below = emit.node('Neg', [reduce('ReduceMin')]);
  return emit.node('Max', [reduce('ReduceMax'), below, emit.float(MAGNITUDE_MIN)]);
}

/** TensorProto.DataType. */
const INT8 = 3;

/** x: [M, K] float32, weight: [K, N] float32, read from a file or a constant (transB: [N, K]) -> [M, N]. */
export function quantisedMatmul(x: Value, weight: Value, transB = false): Value {
  return apply(quantisedMatmulOperation, [x, weight], { transB });
}
