/** Matrix products, one kernel each (ONNX Runtime's FusedMatMul: no copy of a transposed operand). */
import { apply, sameShape, type TensorType, type Value } from '../graph.js';
import { demand, demandFloat, type OnnxContext, type Operation } from '../operation.js';
import { transpose } from './layout.js';

export type MatmulAttributes = {
  readonly transA: boolean;
  readonly transB: boolean;
  /** Factor on the product. */
  readonly alpha: number;
};

/** alpha op(a) op(b), where op transposes the last two axes or does nothing. */
export const matmulOperation: Operation<MatmulAttributes> = {
  name: 'matmul',
  type(inputs, { transA, transB }) {
    const [a, b] = inputs as [Value, Value];
    demandFloat('matmul', inputs);
    demand(
      a.shape.length >= 2 &&
        a.shape.length === b.shape.length &&
        sameShape(a.shape.slice(0, -2), b.shape.slice(0, -2)),
      'matmul',
      inputs,
      'needs two matrices, or two equal stacks of matrices',
    );
    const [rows, innerA] = matrix(a, transA);
    const [innerB, columns] = matrix(b, transB);
    demand(
      innerA === innerB,
      'matmul',
      inputs,
      `inner lengths ${innerA} and ${innerB} differ (transA ${transA}, transB ${transB})`,
    );
    return { dtype: 'float32', shape: [...a.shape.slice(0, -2), rows, columns] };
  },
  gradient({ inputs: [a, b], attributes: { transA, transB, alpha }, upstream }) {
    return [
      transA
        ? matmul(b!, upstream, { transA: transB, transB: true, alpha })
        : matmul(upstream, b!, { transB: !transB, alpha }),
      transB
        ? matmul(upstream, a!, { transA: true, transB: transA, alpha })
        : matmul(a!, upstream, { transA: !transA, alpha }),
    ];
  },
  onnx: (context) => emitMatmul(context, context.names, context.attributes),
};

/** a: [..., M, K], b: [..., K, N] float32 (last axes swapped with transA, transB) -> [..., M, N]. */
export function matmul(a: Value, b: Value, options: Partial<MatmulAttributes> = {}): Value {
  const attributes = { transA: false, transB: false, alpha: 1, ...options };
  return apply(matmulOperation, [a, b], attributes);
}

/**
 * x W'^T for a linear layer with LoRA, where W' = W + scale B A is given: cheaper than adding
 * scale (x A^T) B^T whenever there are many more rows in x than the rank. The gradient for A and B
 * goes the low-rank way; W' itself gets none.
 */
export const adaptedLinearOperation: Operation<{ readonly scale: number }> = {
  name: 'adaptedLinear',
  type(inputs) {
    const [x, merged, loraA, loraB] = inputs as [Value, Value, Value, Value];
    demandFloat('adaptedLinear', inputs);
    const [rows = 0, inFeatures = 0] = x.shape;
    const [outFeatures = 0] = merged.shape;
    const [rank = 0] = loraA.shape;
    demand(
      x.shape.length === 2 &&
        sameShape(merged.shape, [outFeatures, inFeatures]) &&
        sameShape(loraA.shape, [rank, inFeatures]) &&
        sameShape(loraB.shape, [outFeatures, rank]),
      'adaptedLinear',
      inputs,
      'needs x [N, in], merged [out, in], A [r, in] and B [out, r]',
    );
    return { dtype: 'float32', shape: [rows, outFeatures] };
  },
  gradient({ inputs, attributes: { scale }, upstream }) {
    const [x, merged, loraA, loraB] = inputs as [Value, Value, Value, Value];
    const down = matmul(x, loraA, { transB: true }); // [N, r]
    const up = matmul(upstream, loraB); // [N, r]
    // [r, out] first: a product with few rows is cheaper than one with few columns.
    const gradientB = matmul(down, upstream, { transA: true, alpha: scale });
    return [
      matmul(upstream, merged),
      null,
      matmul(up, x, { transA: true, alpha: scale }),
      transpose(gradientB, [1, 0]),
    ];
  },
  onnx: (context) =>
    emitMatmul(context, context.names.slice(0, 2), { transA: false, transB: true, alpha: 1 }),
};

/** x: [N, in], merged = W + scale B A: [out, in], loraA: [r, in], loraB: [out, r] float32 -> [N, out]. */
export function adaptedLinear(
  x: Value,
  merged: Value,
  loraA: Value,
  loraB: Value,
  scale: number,
): Value {
  return apply(adaptedLinearOperation, [x, merged, loraA, loraB], { scale });
}

function matrix(type: TensorType, transposed: boolean): [number, number] {
  const [rows, columns] = type.shape.slice(-2) as [number, number];
  return transposed ? [columns, rows] : [rows, columns];
}

function emitMatmul(
  { emit, outputName }: OnnxContext<MatmulAttributes | { readonly scale: number }>,
  names: readonly string[],
  { transA, transB, alpha }: MatmulAttributes,
): void {
  emit.node('FusedMatMul', names, {
    output: outputName,
    domain: 'com.microsoft',
    attributes: {
      transA: { int: transA ? 1 : 0 },
      transB: { int: transB ? 1 : 0 },
      alpha: { float: alpha },
    },
  });
}
