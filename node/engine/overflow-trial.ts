/** How large the codes of 8-bit weights may be on this machine: found out by a product that overflows where it can. */
import type { Executor } from './executor.js';
import { constant } from './graph.js';
import { quantisedMatmul } from './ops/index.js';
import type { CodeMax } from './ops/quantised.js';

/** Rows, columns, and what is summed: of the size that the kernels for whole batches take. */
const [M, N, K] = [64, 64, 256];

/** 127 where sums of the largest products come out right, else 63. Throws ExecutorError. */
export async function largestCode(executor: Executor): Promise<CodeMax> {
  const ones = (rows: number, columns: number): Float32Array =>
    new Float32Array(rows * columns).fill(1);
  const y = quantisedMatmul(constant(ones(M, K), [M, K]), constant(ones(K, N), [K, N]), {
    transB: false,
    codeMax: 127,
  });
  const graph = await executor.compile({ outputs: { y } });
  try {
    const { y: sums } = await graph.run({});
    return sums!.every((sum) => Math.abs(sum - K) < 1e-3 * K) ? 127 : 63;
  } finally {
    await graph.dispose();
  }
}
