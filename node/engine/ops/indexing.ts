/** Rows of a table by index, and their adjoint. */
import type * as tensorflow from '@tensorflow/tfjs-core';
import { apply, type Value } from '../graph.js';
import { demand, type NoAttributes, type Operation } from '../operation.js';

/** Embedding lookup. */
export const gatherOperation: Operation<NoAttributes> = {
  name: 'gather',
  type(inputs) {
    const [table, indices] = inputs as [Value, Value];
    demand(
      table.dtype === 'float32' && table.shape.length === 2 && indices.dtype === 'int32',
      'gather',
      inputs,
      'needs a float32 [rows, C] and int32 indices',
    );
    return { dtype: 'float32', shape: [...indices.shape, table.shape[1]!] };
  },
  gradient: ({ inputs: [table, indices], upstream }) => [
    scatterRows(indices!, upstream, table!.shape[0]!),
    null,
  ],
  onnx({ emit, names, outputName }) {
    emit.node('Gather', names, { output: outputName, attributes: { axis: { int: 0 } } });
  },
  tfjs: ({ tf, inputs: [table, indices] }) => tf.gather(table!, indices as tensorflow.Tensor1D),
};

/** table: [rows, C] float32, indices: [...] int32 in 0 to rows - 1 -> [..., C] float32. */
export function gather(table: Value, indices: Value): Value {
  return apply(gatherOperation, [table, indices], {});
}

/** Sums rows into a table of zeros; rows of equal index add up. */
export const scatterRowsOperation: Operation<{ readonly rows: number }> = {
  name: 'scatterRows',
  type(inputs, { rows }) {
    const [indices, updates] = inputs as [Value, Value];
    demand(
      indices.dtype === 'int32' &&
        updates.dtype === 'float32' &&
        updates.shape.length === indices.shape.length + 1 &&
        indices.shape.every((n, axis) => n === updates.shape[axis]),
      'scatterRows',
      inputs,
      'needs int32 [...] indices and float32 [..., C] rows',
    );
    return { dtype: 'float32', shape: [rows, updates.shape.at(-1)!] };
  },
  gradient: ({ inputs: [indices], upstream }) => [null, gather(upstream, indices!)],
  onnx({ emit, names: [indices, updates], inputs, output, outputName }) {
    const zeros = emit.node('Expand', [emit.float(0), emit.int64(output.shape)]);
    // In this order: WebGPU reshapes int32, and would leave int64 to the CPU.
    const column = emit.node('Reshape', [indices!, emit.int64([...inputs[0]!.shape, 1])]);
    const long = emit.node('Cast', [column], { attributes: { to: { int: INT64 } } });
    emit.node('ScatterND', [zeros, long, updates!], {
      output: outputName,
      attributes: { reduction: { string: 'add' } },
    });
  },
  tfjs({ tf, inputs: [indices, updates], output: { shape } }) {
    const column = tf.reshape(indices!, [-1, 1]);
    const rows = tf.reshape(updates!, [-1, shape[1]!]);
    return tf.scatterND(column, rows, [...shape]); // rows of equal index add up here too
  },
};

/** TensorProto.DataType of ONNX. */
const INT64 = 7;

/** indices: [...] int32 in 0 to rows - 1, updates: [..., C] float32 -> [rows, C] float32. */
export function scatterRows(indices: Value, updates: Value, rows: number): Value {
  return apply(scatterRowsOperation, [indices, updates], { rows });
}
