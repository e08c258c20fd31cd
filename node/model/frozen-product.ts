/** How a model's frozen matrices are held and multiplied with: in float32, or as their files hold them. */
import type { Value } from '../engine/graph.js';
import type { CrossEntropyAttributes } from '../engine/ops/loss.js';
import { frozenMatmul, frozenRows, gather, isStored, matmul } from '../engine/ops/index.js';
import { isCodes } from '../engine/storage.js';
import type { ModelValues } from './family.js';

/** What holds for all frozen matrices of a graph. */
export interface Arithmetic {
  /** They stay as their files hold them; else those of 16 and 32 bits become float32 when the graph is compiled. */
  readonly isMapped: boolean;
  /** The executor has quick and exact sums of 8-bit products, in which matrices of codes are multiplied with. */
  readonly hasQuickSums: boolean;
}

export const FLOAT32: Arithmetic = { isMapped: false, hasQuickSums: false };

/** Whether a value is a matrix that stays as its file holds it. */
function isFrozen(matrix: Value, { isMapped }: Arithmetic): boolean {
  const { source } = matrix;
  if (source.kind !== 'weight' || !isStored(matrix)) return false;
  return isMapped || isCodes(source.weight.storage);
}

/** Rows for which turning the codes of 8 bits over takes longer than the product in float32 does. */
const FEW_ROWS = 64;

/**
 * In how many terms of 8 bits x, of `rows` rows, is taken forward; 0 for float32. With two terms nothing is lost that
 * counts where x has outliers; beside the error of 4-bit codes that of one term is small.
 */
function termsOf(
  matrix: Value,
  rows: number,
  isSensitive: boolean,
  { hasQuickSums }: Arithmetic,
): 0 | 1 | 2 {
  const { source } = matrix;
  if (!hasQuickSums || rows < FEW_ROWS || source.kind !== 'weight') return 0;
  const { storage } = source.weight;
  if (storage === 'INT8') return isSensitive ? 2 : 1;
  return storage === 'INT4' ? 1 : 0;
}

/**
 * x: [N, K], matrix: [K, M] float32 (transB: [M, K]) -> [N, M]. `isSensitive`: 8 bits are too few for what the matrix is
 * multiplied with forward.
 */
export function frozenProduct(
  x: Value,
  matrix: Value,
  transB: boolean,
  isSensitive: boolean,
  arithmetic: Arithmetic,
): Value {
  if (!isFrozen(matrix, arithmetic)) return matmul(x, matrix, { transB });
  const terms = termsOf(matrix, x.shape[0]!, isSensitive, arithmetic);
  return frozenMatmul(x, matrix, { transB, terms });
}

/** table: [V, C] float32, indices: [...] int32 -> its rows: [..., C] float32. */
export function rowsOf(table: Value, indices: Value, arithmetic: Arithmetic): Value {
  return isFrozen(table, arithmetic) ? frozenRows(table, indices) : gather(table, indices);
}

/** How a cross-entropy multiplies with the output layer's weight, and what becomes of the logits. */
export function headProduct(
  { hidden, table, logitCap = null }: Pick<ModelValues, 'hidden' | 'table' | 'logitCap'>,
  arithmetic: Arithmetic,
): CrossEntropyAttributes {
  const cap = logitCap === null ? {} : { cap: logitCap };
  if (!isFrozen(table, arithmetic)) return cap;
  return { ...cap, isFrozen: true, terms: termsOf(table, hidden.shape[0]!, true, arithmetic) };
}
