/**
 * Products with a frozen weight in 8-bit integers: the weight is quantised once, the other operand at every run
 * (LLM.int8(), Dettmers et al. 2022, without its outliers' part; the backward product is quantised as well).
 */
import { apply, sameShape, type TensorType, type Value } from '../graph.js';
import { demand, demandFloat, type OnnxEmitter, type Operation } from '../operation.js';
import { matmulOperation, type MatmulAttributes } from './matmul.js';
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

/**
 * The largest weight code, of either sign: 127, or 63 where the CPU adds two products of 8 bits in 16 (AVX2 without
 * VNNI), of which 2 x 255 x 64 is the most that fits. See largestCode.
 */
export type CodeMax = 63 | 127;

/** How the weight is read, and how finely it is quantised. */
export type QuantisedMatmulAttributes = {
  /** The weight is given as [N, K]. */
  readonly transB: boolean;
  readonly codeMax: CodeMax;
} & RowAttributes;

/**
 * x op(w), with a scale for each row of x and for each column of op(w). The gradient by x is the quantised product
 * with w the other way round; the weight is frozen.
 */
export const quantisedMatmulOperation: Operation<QuantisedMatmulAttributes> = {
  name: 'quantisedMatmul',
  type(inputs, attributes) {
    const [x, weight, rest = x] = inputs as [Value, Value, Value?];
    demand(sameShape(rest.shape, x.shape), 'quantisedMatmul', inputs, 'needs the rest of x');
    return productType('quantisedMatmul', [x, weight], attributes);
  },
  gradient: ({ inputs: [, weight], attributes, upstream }) => [
    quantisedMatmul(upstream, weight!, turned(attributes)),
    null,
    null,
  ],
  onnx({ emit, names: [x, weight, rest], inputs, attributes, outputName }) {
    const { transB, codeMax, isPositive = false } = attributes;
    const { codes, scales } = quantise(emit, weight!, transB, codeMax);
    const coarse = quantiseRows(emit, x!, inputs[0]!, isPositive);
    // The kernel has one scale for all rows, so theirs come after it.
    const multiply = ({ codes: left, zero }: RowCodes, scale: number): string =>
      emit.node('MatMulIntegerToFloat', [left, codes, emit.float(scale), scales, zero], {
        domain: 'com.microsoft',
      });
    let product = multiply(coarse, 1);
    if (rest !== undefined) {
      const finer = emit.node('Div', [coarse.perRow, emit.float(FINER)]);
      const fine = rowCodes(emit, rest, inputs[0]!, finer, ZERO_CODE);
      product = emit.node('Add', [product, multiply(fine, 1 / FINER)]);
    }
    const column = emit.node('Unsqueeze', [coarse.perRow, emit.int64([1])]);
    emit.node('Mul', [product, column], { output: outputName });
  },
  tfjs({ tf, inputs: [x, weight, rest], attributes: { transB, codeMax, isPositive = false } }) {
    const perRow = rowScale(tf, x!, isPositive);
    let rows = rounded(tf, x!, perRow);
    if (rest !== undefined) rows = tf.add(rows, rounded(tf, rest, tf.div(perRow, FINER)));
    const columns = rounded(tf, weight!, scaleOf(tf, weight!, transB ? 1 : 0, codeMax));
    return tf.matMul(rows, columns, false, transB);
  },
};

/** x op(w) in float32, whose gradient by x is the quantised product with w the other way round. */
export const quantisedGradientOperation: Operation<QuantisedMatmulAttributes> = {
  name: 'matmulWithQuantisedGradient',
  type: (inputs, attributes) =>
    productType('matmulWithQuantisedGradient', inputs as [Value, Value], attributes),
  gradient: (context) => quantisedMatmulOperation.gradient(context),
  onnx: (context) => matmulOperation.onnx({ ...context, attributes: exact(context.attributes) }),
  tfjs: (context) => matmulOperation.tfjs({ ...context, attributes: exact(context.attributes) }),
};

function exact({ transB }: QuantisedMatmulAttributes): MatmulAttributes {
  return { transA: false, transB, alpha: 1 };
}

function turned({ transB, codeMax }: QuantisedMatmulAttributes): QuantisedMatmulAttributes {
  return { transB: !transB, codeMax };
}

function productType(
  name: string,
  inputs: readonly [Value, Value],
  attributes: QuantisedMatmulAttributes,
): TensorType {
  const [x, weight] = inputs;
  demandFloat(name, inputs);
  demand(
    x.shape.length === 2 && weight.shape.length === 2 && weight.source.kind !== 'operation',
    name,
    inputs,
    'needs a matrix and a matrix that is read, not computed',
  );
  return matmulOperation.type(inputs, exact(attributes));
}

/**
 * Codes [K, N] int8 and scales [N] float32 of op(weight): nodes without inputs, computed once, at compiling.
 * All that they make in between is held until the last weight is done: none of it is float32 of its size.
 */
function quantise(
  emit: OnnxEmitter,
  weight: string,
  transB: boolean,
  codeMax: CodeMax,
): { codes: string; scales: string } {
  const magnitudes = largest(emit, weight, transB ? 1 : 0);
  const scales = emit.node('Div', [magnitudes, emit.float(codeMax)]);
  const codes = emit.node('QuantizeLinear', [weight, scales], {
    attributes: { axis: { int: transB ? 0 : 1 }, output_dtype: { int: INT8 } },
  });
  if (!transB) return { codes, scales };
  const columns = emit.node('Transpose', [codes], { attributes: { perm: { ints: [1, 0] } } });
  return { codes: columns, scales };
}

/** TensorProto.DataType. */
const INT8 = 3;

/** How quantisedMatmul is asked for. */
export type QuantisedMatmulOptions = QuantisedMatmulAttributes & {
  /** x is taken in 16 bits, as the sum of two of 8: twice the work. Its gradient is not. Default: false. */
  readonly isFine?: boolean;
};

/** x: [M, K] float32, weight: [K, N] float32, read from a file or a constant (transB: [N, K]) -> [M, N]. */
export function quantisedMatmul(
  x: Value,
  weight: Value,
  { isFine = false, ...attributes }: QuantisedMatmulOptions,
): Value {
  const { isPositive = false } = attributes;
  const operands = isFine ? [x, weight, roundingRest(x, isPositive)] : [x, weight];
  return apply(quantisedMatmulOperation, operands, attributes);
}

/** As quantisedMatmul, with the product itself in float32. */
export function matmulWithQuantisedGradient(
  x: Value,
  weight: Value,
  attributes: QuantisedMatmulAttributes,
): Value {
  return apply(quantisedGradientOperation, [x, weight], attributes);
}
