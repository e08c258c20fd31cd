/** The vocabulary: the table of all operations, and the functions that apply them. */
import type { Operation } from '../operation.js';
import * as broadcast from './broadcast.js';
import * as causal from './causal-attention.js';
import * as elementwise from './elementwise.js';
import * as gelu from './gelu.js';
import * as indexing from './indexing.js';
import * as layerNormal from './layer-norm.js';
import * as layout from './layout.js';
import * as loss from './loss.js';
import * as matrix from './matmul.js';
import * as neural from './neural.js';
import * as capped from './softcap.js';
import * as rowCodes from './row-codes.js';
import * as codes from './codes.js';
import * as frozen from './frozen.js';

/** Every operation; test/compliance/ops.test.ts has at least one case for each. */
export const OPERATIONS: readonly Operation[] = [
  broadcast.reshapeOperation,
  broadcast.sumOperation,
  broadcast.expandOperation,
  elementwise.addOperation,
  elementwise.subOperation,
  elementwise.mulOperation,
  elementwise.divOperation,
  elementwise.maximumOperation,
  elementwise.expOperation,
  elementwise.rsqrtOperation,
  elementwise.sigmoidOperation,
  elementwise.equalOperation,
  elementwise.lessThanOperation,
  elementwise.selectOperation,
  layout.transposeOperation,
  layout.sliceOperation,
  layout.padOperation,
  layout.concatOperation,
  indexing.gatherOperation,
  indexing.scatterRowsOperation,
  matrix.matmulOperation,
  matrix.addMatmulOperation,
  rowCodes.roundingRestOperation,
  frozen.frozenMatmulOperation,
  frozen.frozenRowsOperation,
  codes.codesMatmulOperation,
  codes.rowMagnitudesOperation,
  neural.siluOperation,
  neural.swigluOperation,
  neural.softmaxOperation,
  neural.logSoftmaxOperation,
  neural.rmsNormOperation,
  neural.rotaryOperation,
  layerNormal.layerNormOperation,
  gelu.geluTanhOperation,
  capped.softcapOperation,
  loss.linearCrossEntropyOperation,
  causal.causalAttentionOperation,
  causal.causalAttentionGradientOperation,
];

export { expand, reshape, sum } from './broadcast.js';
export { causalAttention, causalAttentionGradient } from './causal-attention.js';
export {
  add,
  div,
  equal,
  exp,
  lessThan,
  maximum,
  mul,
  rsqrt,
  select,
  sigmoid,
  sub,
} from './elementwise.js';
export { geluTanh } from './gelu.js';
export { gather, scatterRows } from './indexing.js';
export { layerNorm } from './layer-norm.js';
export { concat, pad, slice, transpose } from './layout.js';
export { linearCrossEntropy } from './loss.js';
export { addMatmul, matmul } from './matmul.js';
export { roundingRest } from './row-codes.js';
export { softcap } from './softcap.js';
export { frozenMatmul, type FrozenMatmulOptions } from './codes.js';
export { frozenRows, isStored } from './frozen.js';
export { logSoftmax, rmsNorm, rotary, silu, softmax, swiglu } from './neural.js';
