/** Nodes that make float32 of rows of a frozen matrix as its file holds them. */
import type { WeightSource } from '../graph.js';
import type { OnnxEmitter, OnnxNodeOptions, StoredRows } from '../operation.js';

/** TensorProto.DataType. */
const FLOAT = 1;

/** Of the scales: one for each row, or one for each block of each row. */
export function scalesShape({ shape, scales }: WeightSource): number[] {
  const [rows, columns] = shape as [number, number];
  const { block } = scales!;
  return block === columns ? [rows] : [rows, Math.ceil(columns / block)];
}

/** Codes times their scales: the name of float32 [rows, K]. */
export function dequantise(
  emit: Pick<OnnxEmitter, 'node'>,
  weight: WeightSource,
  { elements, scales }: StoredRows,
  options: OnnxNodeOptions = {},
): string {
  const { block } = weight.scales!;
  const attributes =
    block === weight.shape[1]
      ? { axis: { int: 0 } }
      : { axis: { int: 1 }, block_size: { int: block } };
  return emit.node('DequantizeLinear', [elements, scales!], { ...options, attributes });
}

/** Rows `from` to `to` of a frozen matrix as float32, made in each run right before they are read. `inner`: the axis that a product sums over. */
export function floatRows(
  emit: OnnxEmitter,
  weight: WeightSource,
  [from, to]: readonly [number, number],
  inner: 0 | 1,
): string {
  const rows = emit.stored(weight, from, to, { inner });
  if (weight.storage === 'F32') return rows.elements;
  const options = { isEarly: true, rank: 2 };
  if (rows.scales !== null) return dequantise(emit, weight, rows, options);
  const attributes = { to: { int: FLOAT } };
  return emit.node('Cast', [rows.elements], { ...options, attributes });
}
