/** Whether sums of 8-bit products come out right on this machine: found out by one that overflows where it can. */
import type { Executor } from './executor.js';
import { apply, input } from './graph.js';
import type { NoAttributes, Operation } from './operation.js';

/** Rows, columns, and what is summed: of the size that the kernels for whole batches take. */
const [M, N, K] = [64, 64, 256];
/** TensorProto.DataType. */
const [UINT8, INT8] = [2, 3];

/** a: [M, K] of whole numbers from 0 to 255, b: [K, N] of -127 to 127 -> their product, by the integer kernel. */
const integerProduct: Operation<NoAttributes> = {
  name: 'integerProduct',
  type: () => ({ dtype: 'float32', shape: [M, N] }),
  gradient: () => [null, null],
  onnx({ emit, names: [a, b], outputName }) {
    const cast = (name: string, to: number): string =>
      emit.node('Cast', [name], { attributes: { to: { int: to } } });
    const factors = [cast(a!, UINT8), cast(b!, INT8), emit.float(1), emit.float(1)];
    const options = { domain: 'com.microsoft', output: outputName } as const;
    emit.node('MatMulIntegerToFloat', factors, options);
  },
  tfjs: ({ tf, inputs: [a, b] }) => tf.matMul(a!, b!),
};

/**
 * Whether the executor multiplies 8-bit integers quickly and exactly. A CPU that adds two products in 16 bits (AVX2
 * without VNNI) does neither: 2 x 255 x 127 does not fit. Throws ExecutorError.
 */
export async function hasQuickSums(executor: Executor): Promise<boolean> {
  if (executor.hasIntegerProducts !== true) return false;
  const factors = [input('a', 'float32', [M, K]), input('b', 'float32', [K, N])];
  const graph = await executor.compile({ outputs: { y: apply(integerProduct, factors, {}) } });
  try {
    const feeds = {
      a: new Float32Array(M * K).fill(255),
      b: new Float32Array(K * N).fill(127),
    };
    const { y } = await graph.run(feeds);
    return y!.every((sum) => sum === K * 255 * 127);
  } finally {
    await graph.dispose();
  }
}
