/** Where elements lie: transpose, slice, pad, concat. */
import { apply, sameShape, type Value } from '../graph.js';
import { demand, demandFloat, type Operation } from '../operation.js';

/** Permutation of axes. */
export const transposeOperation: Operation<{ readonly permutation: readonly number[] }> = {
  name: 'transpose',
  type(inputs, { permutation }) {
    const [x] = inputs as [Value];
    demand(
      permutation.length === x.shape.length &&
        [...permutation].sort((a, b) => a - b).every((axis, i) => axis === i),
      'transpose',
      inputs,
      `[${permutation.join(', ')}] is no permutation of its axes`,
    );
    return { dtype: x.dtype, shape: permutation.map((axis) => x.shape[axis]!) };
  },
  gradient({ attributes, upstream }) {
    const inverse = attributes.permutation.map((_, axis) => attributes.permutation.indexOf(axis));
    return [transpose(upstream, inverse)];
  },
  onnx({ emit, names, attributes, outputName }) {
    emit.node('Transpose', names, {
      output: outputName,
      attributes: { perm: { ints: attributes.permutation } },
    });
  },
  tfjs: ({ tf, inputs: [x], attributes }) => tf.transpose(x!, [...attributes.permutation]),
};

/** Axis i of the result is axis permutation[i] of x; the dtype stays. */
export function transpose(x: Value, permutation: readonly number[]): Value {
  return apply(transposeOperation, [x], { permutation });
}

/** A range along one axis. */
export const sliceOperation: Operation<{
  readonly axis: number;
  readonly start: number;
  readonly end: number;
}> = {
  name: 'slice',
  type(inputs, { axis, start, end }) {
    const [x] = inputs as [Value];
    const dimension = x.shape[axis] ?? 0;
    demand(
      Number.isInteger(start) &&
        Number.isInteger(end) &&
        0 <= start &&
        start < end &&
        end <= dimension,
      'slice',
      inputs,
      `${start} to ${end} is no range of axis ${axis}`,
    );
    return { dtype: x.dtype, shape: x.shape.map((n, i) => (i === axis ? end - start : n)) };
  },
  gradient({ inputs, attributes: { axis, start, end }, upstream }) {
    return [pad(upstream, axis, start, inputs[0]!.shape[axis]! - end)];
  },
  onnx({ emit, names, attributes: { axis, start, end }, outputName }) {
    const range = [[start], [end], [axis]].map((values) => emit.int64(values));
    emit.node('Slice', [names[0]!, ...range], { output: outputName });
  },
  tfjs({ tf, inputs: [x], attributes: { axis, start }, output }) {
    const begin = output.shape.map((_, i) => (i === axis ? start : 0));
    return tf.slice(x!, begin, [...output.shape]);
  },
};

/** Indices start <= i < end of `axis`; the dtype stays. */
export function slice(x: Value, axis: number, start: number, end: number): Value {
  return apply(sliceOperation, [x], { axis, start, end });
}

/** Zeros before and after along one axis: the adjoint of slice. */
export const padOperation: Operation<{
  readonly axis: number;
  readonly before: number;
  readonly after: number;
}> = {
  name: 'pad',
  type(inputs, { axis, before, after }) {
    const [x] = inputs as [Value];
    demandFloat('pad', inputs);
    demand(
      axis in x.shape && [before, after].every((n) => Number.isInteger(n) && n >= 0),
      'pad',
      inputs,
      `cannot add ${before} and ${after} along axis ${axis}`,
    );
    const shape = x.shape.map((n, i) => (i === axis ? before + n + after : n));
    return { dtype: 'float32', shape };
  },
  gradient({ inputs, attributes: { axis, before }, upstream }) {
    return [slice(upstream, axis, before, before + inputs[0]!.shape[axis]!)];
  },
  onnx({ emit, names, inputs, attributes: { axis, before, after }, outputName }) {
    const pads = [before, after].flatMap((n) =>
      inputs[0]!.shape.map((_, i) => (i === axis ? n : 0)),
    );
    emit.node('Pad', [names[0]!, emit.int64(pads)], { output: outputName });
  },
  tfjs({ tf, inputs: [x], attributes: { axis, before, after } }) {
    return tf.pad(
      x!,
      x!.shape.map((_, i): [number, number] => (i === axis ? [before, after] : [0, 0])),
    );
  },
};

/** x: float32 with `before` and `after` zeros along `axis`. */
export function pad(x: Value, axis: number, before: number, after: number): Value {
  return apply(padOperation, [x], { axis, before, after });
}

/** Joins along one axis. */
export const concatOperation: Operation<{ readonly axis: number }> = {
  name: 'concat',
  type(inputs, { axis }) {
    const [first] = inputs;
    demand(
      first !== undefined &&
        axis in first.shape &&
        inputs.every(
          ({ dtype, shape }) =>
            dtype === first.dtype &&
            shape.length === first.shape.length &&
            shape.every((n, i) => i === axis || n === first.shape[i]),
        ),
      'concat',
      inputs,
      `needs one type and equal shapes but for axis ${axis}`,
    );
    const length = inputs.reduce((total, { shape }) => total + shape[axis]!, 0);
    return { dtype: first.dtype, shape: first.shape.map((n, i) => (i === axis ? length : n)) };
  },
  gradient({ inputs, attributes: { axis }, upstream }) {
    let start = 0;
    return inputs.map(({ shape }) => {
      start += shape[axis]!;
      return slice(upstream, axis, start - shape[axis]!, start);
    });
  },
  onnx({ emit, names, attributes, outputName }) {
    emit.node('Concat', names, {
      output: outputName,
      attributes: { axis: { int: attributes.axis } },
    });
  },
  tfjs: ({ tf, inputs, attributes }) => tf.concat([...inputs], attributes.axis),
};

/** Values of one dtype, equal in every axis but `axis`, one after the other along it. */
export function concat(values: readonly Value[], axis: number): Value {
  return apply(concatOperation, values, { axis });
}

/**
 * a + b where both are zeros around ranges of one axis that lie side by side: the two ranges joined, with zeros
 * around them where they do not fill the axis. null when they are anything else.
 */
export function joinPadded(a: Value, b: Value): Value | null {
  const [one, other] = [paddedRange(a), paddedRange(b)];
  if (one === null || other === null) return null;
  if (one.axis !== other.axis || !sameShape(a.shape, b.shape)) return null;
  const [low, high] = one.start < other.start ? [one, other] : [other, one];
  if (low.end !== high.start) return null;
  const joined = concat([...low.parts, ...high.parts], low.axis);
  const after = a.shape[low.axis]! - high.end;
  return low.start + after === 0 ? joined : pad(joined, low.axis, low.start, after);
}

/** What `value` has between zeros: parts that fill start <= i < end of `axis`. */
interface PaddedRange {
  readonly axis: number;
  readonly start: number;
  readonly end: number;
  readonly parts: readonly Value[];
}

function paddedRange({ source, shape }: Value): PaddedRange | null {
  if (source.kind !== 'operation' || source.operation !== padOperation) return null;
  const [inner] = source.inputs as [Value];
  const { axis, before, after } = source.attributes as Parameters<typeof padOperation.type>[1];
  const { source: own } = inner;
  const isJoined =
    own.kind === 'operation' &&
    own.operation === concatOperation &&
    own.attributes['axis'] === axis;
  const parts = isJoined ? own.inputs : [inner];
  return { axis, start: before, end: shape[axis]! - after, parts };
}
