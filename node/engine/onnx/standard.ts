/**
 * Nodes that ONNX Runtime computes in one kernel on the CPU and for which its WebGPU provider has none
 * (1.30; it would leave them, all matrix products among them, to the CPU), written with nodes that it has.
 */
import type { OnnxAttribute, OnnxEmitter, OnnxNodeOptions } from '../operation.js';

/** `emit`, without FusedMatMul and LogSoftmax. `rankOf` knows the rank of every tensor by its name. */
export function standardOperators(
  emit: OnnxEmitter,
  rankOf: (name: string) => number,
): OnnxEmitter {
  return {
    int64: (values) => emit.int64(values),
    float: (value) => emit.float(value),
    stored: (...rows) => emit.stored(...rows),
    node(opType, inputs, options = {}) {
      if (opType === 'FusedMatMul') return product(emit, rankOf, inputs, options);
      if (opType === 'LogSoftmax') return logSoftmax(emit, inputs[0]!, options);
      return emit.node(opType, inputs, options);
    },
  };
}

/** alpha op(a) op(b): Gemm for two matrices, else MatMul of what is transposed before. */
function product(
  emit: OnnxEmitter,
  rankOf: (name: string) => number,
  inputs: readonly string[],
  { attributes = {}, output }: OnnxNodeOptions,
): string {
  const named = output === undefined ? {} : { output };
  const ranks = inputs.map(rankOf);
  if (ranks.every((rank) => rank === 2)) return emit.node('Gemm', inputs, { ...named, attributes });
  const [a, b] = ['transA', 'transB'].map((flag, i) =>
    isSet(attributes[flag]) ? transposed(emit, inputs[i]!, ranks[i]!) : inputs[i]!,
  ) as [string, string];
  const alpha = attributes['alpha'];
  if (alpha === undefined || !('float' in alpha) || alpha.float === 1) {
    return emit.node('MatMul', [a, b], named);
  }
  return emit.node('Mul', [emit.node('MatMul', [a, b]), emit.float(alpha.float)], named);
}

function isSet(flag: OnnxAttribute | undefined): boolean {
  return flag !== undefined && 'int' in flag && flag.int === 1;
}

/** The last two axes swapped. */
function transposed(emit: OnnxEmitter, name: string, rank: number): string {
  const axes = Array.from({ length: rank }, (_, axis) => axis);
  const perm = { ints: [...axes.slice(0, -2), rank - 1, rank - 2] };
  return emit.node('Transpose', [name], { attributes: { perm } });
}

/** x - max x - ln sum e^(x - max x) over the last axis. */
function logSoftmax(emit: OnnxEmitter, x: string, { output }: OnnxNodeOptions): string {
  const last = emit.int64([-1]);
  const shifted = emit.node('Sub', [x, emit.node('ReduceMax', [x, last])]);
  const sum = emit.node('ReduceSum', [emit.node('Exp', [shifted]), last]);
  const options = output === undefined ? {} : { output };
  return emit.node('Sub', [shifted, emit.node('Log', [sum])], options);
}
