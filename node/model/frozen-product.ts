/** The product with a weight that does not train: in fp32, or in 8-bit integers as far as those do. */
import type { Value } from '../engine/graph.js';
import { matmul, matmulWithQuantisedGradient, quantisedMatmul } from '../engine/ops/index.js';
import type { CodeMax } from '../engine/ops/quantised.js';

/** How a weight is multiplied with in 8-bit integers. */
export interface EightBits {
  readonly codeMax: CodeMax;
  /** Of what it is multiplied with forward, 8 bits are too few. */
  readonly isSensitive: boolean;
}

/** x: [N, K], weight: [K, M] float32 (transB: [M, K]) -> [N, M]. `eightBits`: null for fp32. */
export function frozenProduct(
  x: Value,
  weight: Value,
  transB: boolean,
  eightBits: EightBits | null,
): Value {
  if (eightBits === null) return matmul(x, weight, { transB });
  const { codeMax, isSensitive } = eightBits;
  return isSensitive && !hasQuickSums(codeMax)
    ? matmulWithQuantisedGradient(x, weight, { transB, codeMax })
    : quantisedMatmul(x, weight, { transB, codeMax, isFine: isSensitive });
}

/** Whether the CPU has instructions for sums of 8-bit products. Where it has none, two products take longer than one in fp32. */
export function hasQuickSums(codeMax: CodeMax): boolean {
  return codeMax === 127;
}
