/** Reshape, sum over axes and broadcast: each is (part of) another one's gradient. */
import { apply, elementCount, sameShape, type Shape, type Value } from '../graph.js';
import { demand, demandFloat, type Operation } from '../operation.js';

/** The same elements in row-major order under another shape. */
export const reshapeOperation: Operation<{ readonly shape: Shape }> = {
  name: 'reshape',
  type(inputs, { shape }) {
    const [x] = inputs as [Value];
    demand(
      elementCount(x.shape) === elementCount(shape),
      'reshape',
      inputs,
      `[${shape.join(', ')}] holds another number of elements`,
    );
    return { dtype: x.dtype, shape };
  },
  gradient: ({ inputs, upstream }) => [reshape(upstream, inputs[0]!.shape)],
  onnx({ emit, names, attributes, outputName }) {
    emit.node('Reshape', [names[0]!, emit.int64(attributes.shape)], { output: outputName });
  },
  tfjs: ({ tf, inputs: [x], output }) => tf.reshape(x!, [...output.shape]),
};

/** x: [any] -> [shape] with as many elements; the dtype stays. */
export function reshape(x: Value, shape: Shape): Value {
  return sameShape(x.shape, shape) ? x : apply(reshapeOperation, [x], { shape });
}

/** Sum over axes. */
export const sumOperation: Operation<{
  readonly axes: readonly number[];
  readonly keepDims: boolean;
}> = {
  name: 'sum',
  type(inputs, { axes, keepDims }) {
    const [x] = inputs as [Value];
    demandFloat('sum', inputs);
    demand(
      axes.length > 0 &&
        new Set(axes).size === axes.length &&
        axes.every((axis) => Number.isInteger(axis) && axis >= 0 && axis < x.shape.length),
      'sum',
      inputs,
      `axes [${axes.join(', ')}] must be distinct axes of the operand`,
    );
    const shape = keepDims
      ? x.shape.map((dimension, axis) => (axes.includes(axis) ? 1 : dimension))
      : x.shape.filter((_, axis) => !axes.includes(axis));
    return { dtype: 'float32', shape };
  },
  gradient({ inputs, attributes, upstream }) {
    const { shape } = inputs[0]!;
    const kept = shape.map((dimension, axis) => (attributes.axes.includes(axis) ? 1 : dimension));
    return [expand(reshape(upstream, kept), shape)];
  },
  onnx({ emit, names, attributes, outputName }) {
    emit.node('ReduceSum', [names[0]!, emit.int64(attributes.axes)], {
      output: outputName,
      attributes: { keepdims: { int: attributes.keepDims ? 1 : 0 } },
    });
  },
  tfjs: ({ tf, inputs: [x], attributes: { axes, keepDims } }) => tf.sum(x!, [...axes], keepDims),
};

/** x: float32; sums over `axes` (from 0), which stay as 1 with `keepDims` and vanish without. */
export function sum(x: Value, axes: readonly number[], keepDims = false): Value {
  return apply(sumOperation, [x], { axes, keepDims });
}

/** Repeats along axes of length 1, NumPy's broadcasting to a given shape. */
export const expandOperation: Operation<{ readonly shape: Shape }> = {
  name: 'expand',
  type(inputs, { shape }) {
    const [x] = inputs as [Value];
    const lead = shape.length - x.shape.length;
    demand(
      lead >= 0 && x.shape.every((dimension, axis) => [1, shape[lead + axis]].includes(dimension)),
      'expand',
      inputs,
      `cannot become [${shape.join(', ')}]: an axis must be 1 or stay as it is`,
    );
    return { dtype: x.dtype, shape };
  },
  gradient: ({ inputs, upstream }) => [unbroadcast(upstream, inputs[0]!.shape)],
  onnx({ emit, names, attributes, outputName }) {
    emit.node('Expand', [names[0]!, emit.int64(attributes.shape)], { output: outputName });
  },
  tfjs: ({ tf, inputs: [x], output }) => tf.broadcastTo(x!, [...output.shape]),
};

/** x: [a shape that broadcasts to `shape`] -> [shape]. */
export function expand(x: Value, shape: Shape): Value {
  return sameShape(x.shape, shape) ? x : apply(expandOperation, [x], { shape });
}

/** Sums x: float32 over the axes along which `shape` was broadcast to x's; the adjoint of expand. */
export function unbroadcast(x: Value, shape: Shape): Value {
  const lead = x.shape.length - shape.length;
  const axes = x.shape.flatMap((dimension, axis) =>
    axis < lead || (shape[axis - lead] === 1 && dimension !== 1) ? [axis] : [],
  );
  return axes.length === 0 ? reshape(x, shape) : reshape(sum(x, axes), shape);
}

/** The shape to which all `shapes` broadcast, aligned at the last axis; null when they do not. */
export function broadcastShape(shapes: readonly Shape[]): Shape | null {
  const rank = Math.max(...shapes.map((shape) => shape.length));
  const result: number[] = [];
  for (let axis = 1; axis <= rank; axis++) {
    const dimensions = shapes.map((shape) => shape.at(-axis) ?? 1).filter((n) => n !== 1);
    if (shapes.every((shape) => shape.length < axis)) continue;
    if (new Set(dimensions).size > 1) return null;
    result.unshift(dimensions[0] ?? 1);
  }
  return result;
}
