/** Matrix products, one kernel each (ONNX Runtime's FusedMatMul: no copy of a transposed operand). */
import { apply, sameShape, type TensorType, type Value } from '../graph.js';
import {
  demand,
  demandFloat,
  type OnnxAttribute,
  type OnnxNodeOptions,
  type Operation,
} from '../operation.js';

/** How the operands of a product are read. */
export type MatmulAttributes = {
  readonly transA: boolean;
  readonly transB: boolean;
  /** Factor on the product. */
  readonly alpha: number;
};

/** Columns of a product that count as few: see isTall. */
const NARROW = 16;

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
  onnx({ emit, names, inputs, attributes, output, outputName }) {
    const fused = (factors: readonly string[], options: OnnxNodeOptions): string =>
      emit.node('FusedMatMul', factors, {
        domain: 'com.microsoft',
        attributes: onnxAttributes(attributes),
        ...options,
      });
    if (!isTall(inputs, attributes, output)) {
      fused(names, { output: outputName });
      return;
    }
    // (a^T b) = (b^T a)^T
    const turned = fused([...names].reverse(), {});
    emit.node('Transpose', [turned], {
      output: outputName,
      attributes: { perm: { ints: [1, 0] } },
    });
  },
  tfjs({ tf, inputs: [a, b], attributes: { transA, transB, alpha } }) {
    const product = tf.matMul(a!, b!, transA, transB);
    return alpha === 1 ? product : tf.mul(product, alpha);
  },
};

/** a: [..., M, K], b: [..., K, N] float32 (last axes swapped with transA, transB) -> [..., M, N]. */
export function matmul(a: Value, b: Value, options: Partial<MatmulAttributes> = {}): Value {
  const attributes = { transA: false, transB: false, alpha: 1, ...options };
  return apply(matmulOperation, [a, b], attributes);
}

/** c + alpha op(a) op(b) in one pass over the result (ONNX Gemm). */
export const addMatmulOperation: Operation<MatmulAttributes> = {
  name: 'addMatmul',
  type(inputs, attributes) {
    const [c, ...factors] = inputs as [Value, Value, Value];
    const product = matmulOperation.type(factors, attributes);
    demandFloat('addMatmul', inputs);
    demand(
      product.shape.length === 2 && sameShape(c.shape, product.shape),
      'addMatmul',
      inputs,
      'needs a matrix and two factors of a product of its shape',
    );
    return product;
  },
  gradient: ({ inputs: [, a, b], attributes, output, upstream }) => [
    upstream,
    ...matmulOperation.gradient({ inputs: [a!, b!], attributes, output, upstream }),
  ],
  onnx({ emit, names: [c, a, b], attributes, outputName }) {
    emit.node('Gemm', [a!, b!, c!], {
      output: outputName,
      attributes: onnxAttributes(attributes),
    });
  },
  tfjs({ tf, inputs: [c, a, b], attributes, output }) {
    return tf.add(c!, matmulOperation.tfjs({ tf, inputs: [a!, b!], attributes, output }));
  },
};

/** c: [M, N] float32 plus the matmul of two matrices a and b -> [M, N]. */
export function addMatmul(
  c: Value,
  a: Value,
  b: Value,
  options: Partial<MatmulAttributes> = {},
): Value {
  const attributes = { transA: false, transB: false, alpha: 1, ...options };
  return apply(addMatmulOperation, [c, a, b], attributes);
}

/** What `value` is the matmul of; null when it is not one. */
export function matmulFactors(
  value: Value,
): { a: Value; b: Value; attributes: MatmulAttributes } | null {
  const { source } = value;
  if (source.kind !== 'operation' || source.operation !== matmulOperation) return null;
  const [a, b] = source.inputs as [Value, Value];
  return { a, b, attributes: source.attributes as MatmulAttributes };
}

function matrix(type: TensorType, transposed: boolean): [number, number] {
  const [rows, columns] = type.shape.slice(-2) as [number, number];
  return transposed ? [columns, rows] : [rows, columns];
}

/**
 * Whether op(a)^T would have to be laid out anew for a few columns, as for the gradient by a low-rank factor: the product
 * the other way round takes 0.6 to 0.8 of the time (ONNX Runtime 1.30 on the CPU).
 */
function isTall(
  inputs: readonly TensorType[],
  { transA, transB }: MatmulAttributes,
  { shape }: TensorType,
): boolean {
  return inputs[0]!.shape.length === 2 && transA && !transB && shape[1]! <= NARROW;
}

function onnxAttributes({
  transA,
  transB,
  alpha,
}: MatmulAttributes): Record<string, OnnxAttribute> {
  return {
    transA: { int: transA ? 1 : 0 },
    transB: { int: transB ? 1 : 0 },
    alpha: { float: alpha },
  };
}
